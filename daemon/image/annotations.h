#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/platform.h"

namespace kiln::daemon {

// What people attach to the objects of an image (images-and-cache.md 3.6).
struct AnnotationSet {
  std::map<std::string, std::string> manifest, manifest_descriptor, index, index_descriptor;
};

// Annotations by place and platform. A plain value.
class Annotations {
 public:
  // Takes "annotation[-TYPE][[PLATFORM]].KEY"; a later value of the same key wins. False: `key` has
  // not that form, and is something else. kInvalidArgument: `unrecognized annotation type x`, a
  // platform that is none.
  absl::StatusOr<bool> Add(absl::string_view key, const std::string& value);

  // For one platform: those for all and those for it. nullptr: those for all alone.
  AnnotationSet For(const Platform* platform) const;

  // Platforms that are named, "" (all) left out, in their full form.
  std::vector<std::string> platforms() const;
  // Whether there is any that docker's formats have no place for.
  bool needs_oci() const;

 private:
  std::map<std::string, AnnotationSet> by_platform_;  // "": all
};

}  // namespace kiln::daemon
