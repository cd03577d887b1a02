#include "daemon/device/device_registry.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"

namespace kiln::daemon {
namespace {

constexpr char kClassAnnotation[] = "org.mobyproject.buildkit.device.class";
constexpr char kAutoAllowAnnotation[] = "org.mobyproject.buildkit.device.autoallow";

std::string KindOf(absl::string_view name) { return std::string(name.substr(0, name.find('='))); }

std::string Annotation(const std::map<std::string, std::string>& annotations, const char* key) {
  const auto it = annotations.find(key);
  return it == annotations.end() ? "" : it->second;
}

bool SaysYes(absl::string_view value) {
  return value == "1" || value == "t" || value == "T" || value == "true" || value == "TRUE" ||
         value == "True";
}

// The spec files of one folder, by name. A folder that is not there has none.
std::vector<std::string> SpecFiles(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string extension = it->path().extension();
    if (extension == ".json" || extension == ".yaml") files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

struct DeviceRegistry::Entry {
  std::shared_ptr<const CdiSpec> spec;
  const CdiSpec::Device* device = nullptr;
};

DeviceRegistry::DeviceRegistry(std::vector<std::string> folders,
                               std::vector<std::string> auto_allowed)
    : folders_(std::move(folders)), auto_allowed_(auto_allowed.begin(), auto_allowed.end()) {}

std::map<std::string, DeviceRegistry::Entry> DeviceRegistry::Read() const {
  std::map<std::string, Entry> devices;
  for (const std::string& folder : folders_) {
    std::map<std::string, Entry> own;
    std::set<std::string> twice;
    for (const std::string& file : SpecFiles(folder)) {
      const auto text = ReadFileToString(file);
      auto spec = text.ok() ? ParseCdiSpec(*text) : text.status();
      if (!spec.ok()) {
        spdlog::warn("devices of {} are not offered: {}", file,
                     std::string(spec.status().message()));
        continue;
      }
      const auto shared = std::make_shared<const CdiSpec>(*std::move(spec));
      for (const CdiSpec::Device& device : shared->devices) {
        const std::string name = absl::StrCat(shared->kind, "=", device.name);
        if (!own.emplace(name, Entry{shared, &device}).second) twice.insert(name);
      }
    }
    for (const std::string& name : twice) {
      spdlog::warn("device {} is not offered: two files in {} have it", name, folder);
      own.erase(name);
      devices.erase(name);
    }
    for (auto& [name, entry] : own) devices.insert_or_assign(name, std::move(entry));
  }
  return devices;
}

std::vector<Device> DeviceRegistry::List() const {
  std::vector<Device> list;
  for (const auto& [name, entry] : Read()) {
    const auto& annotations = entry.device->annotations;
    list.push_back({name,
                    auto_allowed_.contains(name) || auto_allowed_.contains(KindOf(name)) ||
                        SaysYes(Annotation(annotations, kAutoAllowAnnotation)),
                    annotations});
  }
  return list;
}

absl::StatusOr<std::vector<std::string>> DeviceRegistry::Find(
    absl::Span<const DeviceRequest> requests) const {
  std::vector<std::string> found;
  if (requests.empty()) return found;
  const std::map<std::string, Entry> devices = Read();
  const auto add = [&](const std::string& name) {
    if (std::find(found.begin(), found.end(), name) == found.end()) found.push_back(name);
  };
  for (const DeviceRequest& request : requests) {
    const std::string kind = KindOf(request.name);
    const bool whole_kind = request.name == kind || absl::EndsWith(request.name, "=");
    const bool all = request.name == absl::StrCat(kind, "=*");
    bool any = false;
    if (IsCdiKind(kind)) {
      const std::string prefix = absl::StrCat(kind, "=");
      for (auto it = devices.lower_bound(prefix);
           it != devices.end() && absl::StartsWith(it->first, prefix); ++it) {
        if (!all && !whole_kind && it->first != request.name) continue;
        add(it->first);
        any = true;
        if (!all) break;
      }
    }
    if (!any && !request.name.empty()) {
      for (const auto& [name, entry] : devices) {
        if (Annotation(entry.device->annotations, kClassAnnotation) != request.name) continue;
        add(name);
        any = true;
      }
    }
    if (!any && !request.optional)
      return absl::InvalidArgumentError(
          absl::StrCat("required device \"", request.name, "\" is not registered"));
  }
  return found;
}

absl::StatusOr<DeviceEdits> DeviceRegistry::Edits(absl::Span<const std::string> names) const {
  DeviceEdits edits;
  if (names.empty()) return edits;
  const std::map<std::string, Entry> devices = Read();
  std::set<const CdiSpec*> specs;
  for (const std::string& name : names) {
    const auto it = devices.find(name);
    if (it == devices.end())
      return absl::NotFoundError(absl::StrCat("device ", name, " is no longer registered"));
    if (specs.insert(it->second.spec.get()).second) edits.Append(it->second.spec->edits);
    edits.Append(it->second.device->edits);
  }
  return edits;
}

}  // namespace kiln::daemon
