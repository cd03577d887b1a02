#include "daemon/device/cdi_spec.h"

#include <yaml-cpp/yaml.h>

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxSpecBytes = 4 << 20;

absl::Status Invalid(const YAML::Node& at, absl::string_view what) {
  const YAML::Mark mark = at.Mark();
  if (mark.is_null()) return absl::InvalidArgumentError(what);
  return absl::InvalidArgumentError(absl::StrCat("line ", mark.line + 1, ": ", what));
}

// A letter (or, for devices, a digit), then letters, digits and `others`, at the end no other.
bool IsName(absl::string_view name, bool digit_first, absl::string_view others) {
  if (name.empty() || !absl::ascii_isalnum(static_cast<unsigned char>(name.back()))) return false;
  const auto first = static_cast<unsigned char>(name[0]);
  if (!(digit_first ? absl::ascii_isalnum(first) : absl::ascii_isalpha(first))) return false;
  for (char c : name)
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        others.find(c) == absl::string_view::npos)
      return false;
  return true;
}

// Every reader refuses a value of another shape than it asks for, by throwing; Parse catches.
template <typename T>
void Read(const YAML::Node& map, const char* key, T& into) {
  if (const YAML::Node value = map[key]; value && !value.IsNull()) into = value.as<T>();
}
template <typename T>
void Read(const YAML::Node& map, const char* key, std::optional<T>& into) {
  if (const YAML::Node value = map[key]; value && !value.IsNull()) into = value.as<T>();
}

absl::Status CheckEnv(const YAML::Node& at, const std::vector<std::string>& env) {
  for (const std::string& one : env)
    if (const size_t equals = one.find('='); equals == std::string::npos || equals == 0)
      return Invalid(at, absl::StrCat("invalid environment variable \"", one, "\""));
  return absl::OkStatus();
}

absl::StatusOr<DeviceNode> ReadNode(const YAML::Node& map) {
  DeviceNode node;
  Read(map, "path", node.path);
  Read(map, "hostPath", node.host_path);
  Read(map, "type", node.type);
  Read(map, "major", node.major);
  Read(map, "minor", node.minor);
  Read(map, "fileMode", node.mode);
  Read(map, "uid", node.uid);
  Read(map, "gid", node.gid);
  std::string access;
  Read(map, "permissions", access);
  if (!access.empty()) node.access = access;
  if (node.path.empty()) return Invalid(map, "a device node without a path");
  static const auto* const types = new std::set<std::string>{"", "b", "c", "u", "p"};
  if (!types->contains(node.type))
    return Invalid(map, absl::StrCat("device node ", node.path, ": invalid type ", node.type));
  if (node.access.find_first_not_of("rwm") != std::string::npos)
    return Invalid(map,
                   absl::StrCat("device node ", node.path, ": invalid permissions ", node.access));
  return node;
}

absl::StatusOr<ContainerMount> ReadMount(const YAML::Node& map) {
  ContainerMount mount;
  Read(map, "hostPath", mount.source);
  Read(map, "containerPath", mount.dest);
  Read(map, "options", mount.options);
  std::string type;
  Read(map, "type", type);
  if (!type.empty()) mount.type = type;
  if (mount.source.empty()) return Invalid(map, "a mount without a hostPath");
  if (mount.dest.empty() || mount.dest[0] != '/')
    return Invalid(map, absl::StrCat("mount of ", mount.source, ": containerPath \"", mount.dest,
                                     "\" is not absolute"));
  return mount;
}

absl::StatusOr<RuntimeHook> ReadHook(const YAML::Node& map) {
  RuntimeHook hook;
  Read(map, "hookName", hook.point);
  Read(map, "path", hook.path);
  Read(map, "args", hook.args);
  Read(map, "env", hook.env);
  Read(map, "timeout", hook.timeout_seconds);
  static const auto* const points = new std::set<std::string>{
      "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
  if (!points->contains(hook.point))
    return Invalid(map, absl::StrCat("invalid hook name \"", hook.point, "\""));
  if (hook.path.empty()) return Invalid(map, absl::StrCat("hook ", hook.point, " without a path"));
  KILN_RETURN_IF_ERROR(CheckEnv(map, hook.env));
  return hook;
}

template <typename T>
absl::Status ReadList(const YAML::Node& map, const char* key,
                      absl::StatusOr<T> (*read)(const YAML::Node&), std::vector<T>& into) {
  const YAML::Node list = map[key];
  if (list && !list.IsNull() && !list.IsSequence())
    return Invalid(list, absl::StrCat(key, " is not a list"));
  for (const YAML::Node& one : list) {
    KILN_ASSIGN_OR_RETURN(T value, read(one));
    into.push_back(std::move(value));
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceEdits> ReadEdits(const YAML::Node& map) {
  DeviceEdits edits;
  if (!map || map.IsNull()) return edits;
  for (const char* unknown : {"netDevices", "intelRdt"})
    if (map[unknown])
      return absl::UnimplementedError(
          absl::StrCat("containerEdits.", unknown, " is not supported"));
  Read(map, "env", edits.env);
  Read(map, "additionalGids", edits.groups);
  KILN_RETURN_IF_ERROR(CheckEnv(map, edits.env));
  KILN_RETURN_IF_ERROR(ReadList(map, "deviceNodes", ReadNode, edits.nodes));
  KILN_RETURN_IF_ERROR(ReadList(map, "mounts", ReadMount, edits.mounts));
  KILN_RETURN_IF_ERROR(ReadList(map, "hooks", ReadHook, edits.hooks));
  return edits;
}

absl::StatusOr<CdiSpec> ReadSpec(const YAML::Node& map) {
  if (!map.IsMap())
    return absl::InvalidArgumentError("not a map with cdiVersion, kind and devices");
  std::string version;
  Read(map, "cdiVersion", version);
  static const auto* const versions = new std::set<std::string>{"0.3.0", "0.4.0", "0.5.0", "0.6.0",
                                                                "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
  if (!versions->contains(version))
    return Invalid(map, absl::StrCat("unknown cdiVersion \"", version, "\""));
  CdiSpec spec;
  Read(map, "kind", spec.kind);
  if (!IsCdiKind(spec.kind))
    return Invalid(map, absl::StrCat("invalid kind \"", spec.kind, "\": not vendor/class"));
  KILN_ASSIGN_OR_RETURN(spec.edits, ReadEdits(map["containerEdits"]));
  std::map<std::string, std::string> annotations;
  Read(map, "annotations", annotations);
  std::set<std::string> names;
  for (const YAML::Node& entry : map["devices"]) {
    CdiSpec::Device& device = spec.devices.emplace_back();
    Read(entry, "name", device.name);
    if (!IsName(device.name, true, "_-.:"))
      return Invalid(entry, absl::StrCat("invalid device name \"", device.name, "\""));
    if (!names.insert(device.name).second)
      return Invalid(entry, absl::StrCat("device ", device.name, " is there twice"));
    Read(entry, "annotations", device.annotations);
    device.annotations.insert(annotations.begin(), annotations.end());
    KILN_ASSIGN_OR_RETURN(device.edits, ReadEdits(entry["containerEdits"]));
  }
  if (spec.devices.empty()) return Invalid(map, "no devices");
  return spec;
}

template <typename T>
void AppendTo(std::vector<T>& list, const std::vector<T>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

}  // namespace

void DeviceEdits::Append(const DeviceEdits& other) {
  AppendTo(env, other.env);
  AppendTo(nodes, other.nodes);
  AppendTo(mounts, other.mounts);
  AppendTo(hooks, other.hooks);
  AppendTo(groups, other.groups);
}

bool IsCdiKind(absl::string_view kind) {
  const size_t slash = kind.find('/');
  return slash != absl::string_view::npos && IsName(kind.substr(0, slash), false, "_-.") &&
         IsName(kind.substr(slash + 1), false, "_-.");
}

absl::StatusOr<CdiSpec> ParseCdiSpec(absl::string_view text) {
  if (text.size() > kMaxSpecBytes)
    return absl::InvalidArgumentError(absl::StrCat("longer than ", kMaxSpecBytes, " bytes"));
  try {
    return ReadSpec(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace kiln::daemon
