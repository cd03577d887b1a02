#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln::daemon {

// A name of an image: "docker.io/library/busybox:latest@sha256:…" (images-and-cache.md 1.1). A
// plain value, always in its full form.
struct Reference {
  std::string domain;            // "docker.io", "localhost:5000"
  std::string path;              // "library/busybox"
  std::string tag;               // "": none
  std::optional<Digest> digest;  // wins over the tag in requests

  // Reads what people write: "busybox" becomes docker.io/library/busybox:latest. kInvalidArgument
  // names the reference and the rule that it breaks.
  static absl::StatusOr<Reference> ParseFamiliar(absl::string_view text);
  // Reads the strict form of an LLB source: a domain and a tag or digest are compulsory.
  static absl::StatusOr<Reference> ParseStrict(absl::string_view text);

  std::string Repository() const;  // "docker.io/library/busybox"
  std::string ToString() const;    // the whole
  std::string Familiar() const;    // "busybox:latest"
};

}  // namespace kiln::daemon
