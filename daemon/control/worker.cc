#include "daemon/control/worker.h"

#include <unistd.h>

#include <climits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/gateway/bridge.h"
#include "proto/buildkit/worker.pb.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

std::string Hostname() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

}  // namespace

absl::StatusOr<std::string> WorkerId(const std::string& root) {
  const std::string path = root + "/workerid";
  const absl::StatusOr<std::string> known = ReadFileToString(path, 256);
  if (known.ok() && !absl::StripAsciiWhitespace(*known).empty())
    return std::string(absl::StripAsciiWhitespace(*known));
  if (!known.ok() && !absl::IsNotFound(known.status())) return known.status();
  const std::string id = NewId();
  KILN_RETURN_IF_ERROR(WriteFileAtomic(path, id));
  return id;
}

std::string WorkerRecord(const WorkerFacts& facts) {
  moby::buildkit::v1::types::WorkerRecord record;
  record.set_id(facts.id);
  auto& labels = *record.mutable_labels();
  const std::string prefix = "org.mobyproject.buildkit.worker.";
  labels[prefix + "executor"] = "oci";
  labels[prefix + "hostname"] = Hostname();
  labels[prefix + "network"] = facts.network;
  labels[prefix + "oci.process-mode"] = "sandbox";
  labels[prefix + "selinux.enabled"] = "false";
  // "overlayfs" is what buildkitd calls its own.
  labels[prefix + "snapshotter"] = facts.snapshotter == "overlay" ? "overlayfs" : facts.snapshotter;
  for (const auto& [key, value] : facts.labels) labels[key] = value;
  for (const std::string& text : facts.platforms) {
    const std::vector<std::string> parts = absl::StrSplit(text, '/');
    auto* platform = record.add_platforms();
    platform->set_os(parts[0]);
    if (parts.size() > 1) platform->set_architecture(parts[1]);
    if (parts.size() > 2) platform->set_variant(parts[2]);
  }
  record.mutable_buildkitversion()->ParseFromString(VersionRecord());
  return record.SerializeAsString();
}

std::string VersionRecord() {
  moby::buildkit::v1::types::BuildkitVersion version;
  version.set_package(kPackage);
  version.set_version(kApiVersion);
  version.set_revision(absl::StrCat("kiln-", kKilnVersion));
  version.set_dockerfileversion(kDockerfileVersion);
  return version.SerializeAsString();
}

}  // namespace kiln::daemon
