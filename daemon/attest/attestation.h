#pragma once

#include <map>
#include <string>
#include <vector>

#include "proto/digest.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// Something that is claimed about one platform of a result (images-and-cache.md 3.10). A plain
// value.
struct Attestation {
  enum class Kind {
    kStatement,  // one predicate
    kBundle,     // a directory of in-toto statements
  };
  struct Subject {
    bool self = true;  // what the exporter makes of the result; `name` may add to it
    std::string name = {};
    std::vector<Digest> digests = {};  // when not `self`
  };

  Kind kind = Kind::kStatement;
  std::string predicate_type = {};
  // The predicate, or for a bundle the directory, is the file `path` of `tree`; without `tree` it
  // is `content` (statements only).
  store::RefPtr tree = nullptr;
  std::string path = {};
  std::string content = {};
  std::vector<Subject> subjects = {};                // none: self
  std::map<std::string, std::string> metadata = {};  // "reason", "inline-only", "sbom-core"

  // Only for exporters that carry attestations inside what they write.
  bool inline_only() const {
    const auto found = metadata.find("inline-only");
    return found != metadata.end() && found->second == "true";
  }
};

}  // namespace kiln::daemon
