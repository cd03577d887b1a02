#include "daemon/image/annotations.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr absl::string_view kPrefix = "annotation";

struct AnnotationKey {
  std::string type = "manifest", platform, key;
};

// nullopt: another kind of key.
std::optional<AnnotationKey> ParseKey(absl::string_view rest) {
  if (!absl::ConsumePrefix(&rest, kPrefix)) return std::nullopt;
  AnnotationKey out;
  if (absl::ConsumePrefix(&rest, "-")) {
    size_t end = 0;
    while (end < rest.size() && (absl::ascii_islower(rest[end]) || rest[end] == '-')) ++end;
    out.type = std::string(rest.substr(0, end));
    if (end == 0) return std::nullopt;
    rest.remove_prefix(end);
  }
  if (absl::ConsumePrefix(&rest, "[")) {
    const size_t end = rest.find(']');
    if (end == absl::string_view::npos) return std::nullopt;
    out.platform = std::string(rest.substr(0, end));
    rest.remove_prefix(end + 1);
    const bool plain =
        !out.platform.empty() && std::all_of(out.platform.begin(), out.platform.end(), [](char c) {
          return absl::ascii_isalnum(c) || c == '_' || c == '/' || c == '-';
        });
    if (!plain) return std::nullopt;
  }
  if (!absl::ConsumePrefix(&rest, ".") || rest.empty() ||
      std::any_of(rest.begin(), rest.end(), [](char c) { return absl::ascii_isspace(c); }))
    return std::nullopt;
  out.key = std::string(rest);
  return out;
}

void Merge(const std::map<std::string, std::string>& from, std::map<std::string, std::string>* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

}  // namespace

absl::StatusOr<bool> Annotations::Add(absl::string_view text, const std::string& value) {
  const std::optional<AnnotationKey> parsed = ParseKey(text);
  if (!parsed.has_value()) return false;
  const AnnotationKey& key = *parsed;
  const bool of_index = key.type == "index" || key.type == "index-descriptor";
  std::string id;
  if (!key.platform.empty() && !of_index) {
    KILN_ASSIGN_OR_RETURN(const Platform platform, ParsePlatform(key.platform));
    id = FormatPlatform(NormalizePlatform(platform));
  }
  AnnotationSet& set = by_platform_[id];
  if (key.type == "manifest") {
    set.manifest[key.key] = value;
  } else if (key.type == "manifest-descriptor") {
    set.manifest_descriptor[key.key] = value;
  } else if (key.type == "index") {
    set.index[key.key] = value;
  } else if (key.type == "index-descriptor") {
    set.index_descriptor[key.key] = value;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("unrecognized annotation type ", key.type));
  }
  return true;
}

AnnotationSet Annotations::For(const Platform* platform) const {
  AnnotationSet out;
  std::vector<std::string> ids = {""};
  if (platform != nullptr) ids.push_back(FormatPlatform(NormalizePlatform(*platform)));
  for (const std::string& id : ids) {
    const auto found = by_platform_.find(id);
    if (found == by_platform_.end()) continue;
    Merge(found->second.manifest, &out.manifest);
    Merge(found->second.manifest_descriptor, &out.manifest_descriptor);
    Merge(found->second.index, &out.index);
    Merge(found->second.index_descriptor, &out.index_descriptor);
  }
  return out;
}

std::vector<std::string> Annotations::platforms() const {
  std::vector<std::string> ids;
  for (const auto& [id, set] : by_platform_)
    if (!id.empty()) ids.push_back(id);
  return ids;
}

bool Annotations::needs_oci() const {
  return std::any_of(by_platform_.begin(), by_platform_.end(), [](const auto& entry) {
    const AnnotationSet& set = entry.second;
    return !set.index.empty() || !set.index_descriptor.empty() || !set.manifest_descriptor.empty();
  });
}

}  // namespace kiln::daemon
