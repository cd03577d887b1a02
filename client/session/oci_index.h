#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

// What an entry of index.json is known by: a tag, or the name of an image with its tag.
struct OciName {
  std::string value;
  bool is_tag = true;
};

// The index.json of an OCI image layout in `folder`. Changes are made under index.json.lock, as
// other tools do, and appear whole. Blocking: waits some seconds for the lock.
class OciIndex {
 public:
  explicit OciIndex(std::string folder) : folder_(std::move(folder)) {}

  // The digest of the entry of that image name or tag. kNotFound without such an entry or without
  // an index, kInvalidArgument for an index that is none.
  absl::StatusOr<std::string> Find(absl::string_view tag) const;
  // The digest of "latest", or of the only entry.
  absl::StatusOr<std::string> FindDefault() const;

  // Adds an entry per name, in place of those of the same name. `descriptor`: its JSON. Makes the
  // folder and the files of a layout if they are missing.
  absl::Status Put(absl::string_view descriptor, const std::vector<OciName>& names) const;
  // Deletes the blobs that no entry leads to.
  absl::Status RemoveUnreachable() const;

 private:
  const std::string folder_;
};

}  // namespace kiln::client
