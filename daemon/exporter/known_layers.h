#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/exporter/image_writer.h"
#include "proto/digest.h"

namespace kiln::daemon {

// The attribute "known-layers" of the docker exporter, which is Kiln's own: digests by commas, of
// what the archive's receiver has. A chain id says that it has a layer upon those below it, a
// blob's digest that it has the blob. Others ignore the attribute and send everything.
inline constexpr char kKnownLayers[] = "known-layers";

// kInvalidArgument names what is no digest.
absl::StatusOr<std::set<Digest>> ParseKnownLayers(const std::string& value);

// Takes the layers that the receiver has out of an image that is one manifest; a layer that lies in
// it twice, once where it is not known, stays. The manifest, which names all, is not changed.
// O(layers). Reads the stored manifest; blocks.
absl::Status DropKnownLayers(const std::set<Digest>& known, store::BlobStore& blobs,
                             WrittenImage* image);

}  // namespace kiln::daemon
