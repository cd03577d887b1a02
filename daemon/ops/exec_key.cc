#include "daemon/ops/exec_key.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/executor/foreign_programs.h"
#include "daemon/executor/rootfs.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// With these two forms the id and sharing stay in the key, as they always did for the cache mounts
// that Dockerfiles make by default: leaving them out would be a cache miss for everybody.
bool KeepsCacheOptions(const pb::Mount& mount) {
  if (mount.cacheopt().sharing() != pb::SHARED) return false;
  const std::string& id = mount.cacheopt().id();
  if (id == mount.dest()) return true;
  const size_t slash = id.find('/');
  return slash != std::string::npos && id.substr(slash + 1) == mount.dest();
}

void WriteStrings(const char* key, const google::protobuf::RepeatedPtrField<std::string>& values,
                  GoJson& json) {
  if (values.empty()) return;
  json.Key(key).BeginArray();
  for (const std::string& value : values) json.String(value);
  json.EndArray();
}

// Without proxy_env and without the addresses of extra hosts: they do not change what is built.
void WriteMeta(const pb::Meta& meta, GoJson& json) {
  json.BeginObject();
  WriteStrings("args", meta.args(), json);
  WriteStrings("env", meta.env(), json);
  json.OptString("cwd", meta.cwd()).OptString("user", meta.user());
  if (!meta.extrahosts().empty()) {
    json.Key("extraHosts").BeginArray();
    for (const pb::HostIP& host : meta.extrahosts())
      json.BeginObject().OptString("Host", host.host()).EndObject();
    json.EndArray();
  }
  json.OptString("hostname", meta.hostname());
  if (!meta.ulimit().empty()) {
    json.Key("ulimit").BeginArray();
    for (const pb::Ulimit& one : meta.ulimit())
      json.BeginObject()
          .OptString("Name", one.name())
          .OptInt("Soft", one.soft())
          .OptInt("Hard", one.hard())
          .EndObject();
    json.EndArray();
  }
  json.OptString("cgroupParent", meta.cgroupparent())
      .OptBool("removeMountStubsRecursive", meta.removemountstubsrecursive());
  if (!meta.validexitcodes().empty()) {
    json.Key("validExitCodes").BeginArray();
    for (int32_t code : meta.validexitcodes()) json.Int(code);
    json.EndArray();
  }
  json.EndObject();
}

template <typename SecretOrSsh>
void WriteSecret(const char* key, const SecretOrSsh& options, GoJson& json) {
  json.Key(key)
      .BeginObject()
      .OptString("ID", options.id())
      .OptUint("uid", options.uid())
      .OptUint("gid", options.gid())
      .OptUint("mode", options.mode())
      .OptBool("optional", options.optional())
      .EndObject();
}

// Without the selector, which goes into the dependency selector.
void WriteMount(const pb::Mount& mount, GoJson& json) {
  json.BeginObject()
      .OptInt("input", mount.input())
      .OptString("dest", mount.dest())
      .OptInt("output", mount.output())
      .OptBool("readonly", mount.readonly())
      .OptInt("mountType", mount.mounttype());
  if (mount.has_tmpfsopt())
    json.Key("TmpfsOpt").BeginObject().OptInt("size", mount.tmpfsopt().size()).EndObject();
  if (mount.has_cacheopt()) {
    json.Key("cacheOpt").BeginObject();
    if (KeepsCacheOptions(mount)) json.OptString("ID", mount.cacheopt().id());
    json.EndObject();
  }
  if (mount.has_secretopt()) WriteSecret("secretOpt", mount.secretopt(), json);
  if (mount.has_sshopt()) WriteSecret("SSHOpt", mount.sshopt(), json);
  json.OptString("resultID", mount.resultid()).OptInt("contentCache", mount.contentcache());
  json.EndObject();
}

// A plain writable root alone is left out, as it was by the versions that forgot the mounts.
bool IsPlainRoot(const pb::ExecOp& exec) {
  if (exec.mounts_size() != 1) return false;
  const pb::Mount& m = exec.mounts(0);
  return m.dest() == "/" && !m.readonly() && m.mounttype() == pb::BIND && !m.has_cacheopt() &&
         !m.has_sshopt() && !m.has_secretopt() && m.resultid().empty();
}

void WriteExec(const pb::ExecOp& exec, GoJson& json) {
  json.BeginObject().Key("meta");
  WriteMeta(exec.meta(), json);
  if (!IsPlainRoot(exec)) {
    json.Key("mounts").BeginArray();
    for (const pb::Mount& mount : exec.mounts()) WriteMount(mount, json);
    json.EndArray();
  }
  json.OptInt("network", exec.network()).OptInt("security", exec.security());
  if (!exec.secretenv().empty()) {
    json.Key("secretenv").BeginArray();
    for (const pb::SecretEnv& one : exec.secretenv())
      json.BeginObject()
          .OptString("ID", one.id())
          .OptString("name", one.name())
          .OptBool("optional", one.optional())
          .EndObject();
    json.EndArray();
  }
  if (!exec.cdidevices().empty()) {
    json.Key("cdiDevices").BeginArray();
    for (const pb::CDIDevice& one : exec.cdidevices())
      json.BeginObject()
          .OptString("name", one.name())
          .OptBool("optional", one.optional())
          .EndObject();
    json.EndArray();
  }
  json.EndObject();
}

std::string OpDigest(const pb::Op& op) {
  const ExecPlatform platform = PlatformOf(op);
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.exec.v0").Key("Exec");
  WriteExec(op.exec(), json);
  json.Key("OS").String(platform.os).Key("Arch").String(platform.architecture);
  json.OptString("Variant", platform.variant).OptString("OSVersion", platform.os_version);
  if (!platform.os_features.empty()) {
    json.Key("OSFeatures").BeginArray();
    for (const std::string& one : platform.os_features) json.String(one);
    json.EndArray();
  }
  json.EndObject();
  return Digest::Of(json.text()).ToString();
}

// Content keys are safe where unselected files cannot reach an output: no output, read-only, or
// everything is selected.
absl::StatusOr<bool> AllowsContentKey(const pb::Mount& mount, const std::string& selector) {
  const bool safe = mount.output() == -1 || mount.readonly() || selector == "/";
  switch (mount.contentcache()) {
    case pb::OFF:
      return false;
    case pb::ON:
      if (!safe)
        return absl::InvalidArgumentError(
            absl::StrCat("invalid mount cache content: mount ", mount.dest(),
                         " is writable, has an output and selects ", selector, " of its input"));
      return true;
    default:
      // Checksums of whole root file systems cost much and rarely help.
      return safe && mount.dest() != "/";
  }
}

}  // namespace

ExecPlatform PlatformOf(const pb::Op& op) {
  ExecPlatform out{"linux", NativeArchitecture(), "", "", {}};
  if (!op.has_platform()) return out;
  const pb::Platform& p = op.platform();
  out = {p.os(), p.architecture(), p.variant(), p.osversion(),
         std::vector<std::string>(p.osfeatures().begin(), p.osfeatures().end())};
  if (out.architecture == "x86_64" || out.architecture == "x86-64") out.architecture = "amd64";
  if (out.architecture == "aarch64") out.architecture = "arm64";
  if (out.architecture == "i386") out.architecture = "386";
  if (out.architecture == "armhf") out.architecture = "arm", out.variant = "v7";
  if (out.architecture == "armel") out.architecture = "arm", out.variant = "v6";
  if (out.architecture == "arm64" && (out.variant == "8" || out.variant == "v8")) out.variant = "";
  if (out.architecture == "amd64" && out.variant == "v1") out.variant = "";
  return out;
}

std::string ExecInputKey::SelectorDigest() const {
  if (selectors.empty()) return "";
  return Digest::Of(absl::StrJoin(selectors, absl::string_view("\0", 1))).ToString();
}

absl::StatusOr<ExecKeys> MakeExecKeys(const pb::Op& op) {
  ExecKeys keys;
  keys.op_digest = OpDigest(op);
  keys.inputs.resize(static_cast<size_t>(op.inputs_size()));
  for (const pb::Mount& mount : op.exec().mounts()) {
    if (mount.mounttype() != pb::BIND && mount.mounttype() != pb::CACHE) continue;
    if (mount.input() < 0) continue;
    if (mount.input() >= op.inputs_size())
      return absl::InvalidArgumentError(absl::StrCat("invalid mountinput ", mount.input()));
    ExecInputKey& key = keys.inputs[static_cast<size_t>(mount.input())];
    const std::string selector = CleanAbsolute(mount.selector());
    KILN_ASSIGN_OR_RETURN(const bool allowed, AllowsContentKey(mount, selector));
    // One mount that needs the whole input is enough.
    key.by_content = allowed && (key.selectors.empty() || key.by_content);
    key.selectors.push_back(selector);
  }
  return keys;
}

}  // namespace kiln::daemon
