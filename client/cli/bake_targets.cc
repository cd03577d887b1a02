#include "client/cli/bake_targets.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/flag_values.h"
#include "client/csv.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kWorkingDirectory[] = "cwd://";

std::vector<std::string> Pairs(const std::map<std::string, std::string>& map) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : map) pairs.push_back(absl::StrCat(key, "=", value));
  return pairs;
}

// An image archive without a place to go is for the engine of this machine.
absl::Status AddOutput(const std::string& output, BuildFlags* flags) {
  KILN_ASSIGN_OR_RETURN(const auto fields, SplitCsvFields(output, /*bare_allowed=*/true));
  std::string type;
  bool dest = false;
  for (const auto& [key, value] : fields) {
    if (key == "type") type = value;
    dest = dest || key == "dest";
  }
  if (type == "docker" && !dest) {
    flags->load = true;
  } else {
    flags->outputs.push_back(output);
  }
  return absl::OkStatus();
}

// Where the Dockerfile is, seen from the working directory, or from a context elsewhere.
std::string DockerfilePath(const bake::Target& target) {
  const std::string file = target.Text("dockerfile");
  if (absl::StartsWith(file, kWorkingDirectory))
    return std::string(absl::StripPrefix(file, kWorkingDirectory));
  const std::string context = target.Text("context");
  if (bake::IsRemoteAddress(context) || bake::IsRemoteAddress(file)) return file;
  return (std::filesystem::path(context) / file).lexically_normal().string();
}

absl::Status CheckEntitlements(const bake::Target& target,
                               const std::vector<std::string>& allowed) {
  for (const std::string& wanted : target.List("entitlements"))
    if (std::find(allowed.begin(), allowed.end(), wanted) == allowed.end())
      return absl::FailedPreconditionError(
          absl::StrCat("asks for ", wanted, ", which needs --allow ", wanted));
  return absl::OkStatus();
}

absl::Status Prepare(const bake::Target& target, bool stdout_is_terminal, BakeTarget* out) {
  KILN_ASSIGN_OR_RETURN(out->flags, FlagsOf(target));
  SolveOptions* options = &out->build.options;
  KILN_RETURN_IF_ERROR(FillBuildOptions(out->flags, stdout_is_terminal, options));
  const std::string context = target.Text("context");
  if (!IsBuildContext(context))
    return absl::InvalidArgumentError(absl::StrCat("context ", context, ": no such directory"));
  out->dockerfile = std::make_unique<TextDockerfile>();
  KILN_RETURN_IF_ERROR(
      FillDockerfileBuild(context, out->flags.docker, out->dockerfile.get(), options));
  KILN_RETURN_IF_ERROR(AddImageOutputs(out->flags, &out->loader, options));
  for (const auto& [name, value] : target.Map("contexts")) {
    const std::string other = bake::LinkedTarget(value);
    if (!other.empty()) out->build.links[name] = other;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BuildFlags> FlagsOf(const bake::Target& target) {
  BuildFlags flags;
  DockerfileFlags& docker = flags.docker;
  docker.file = DockerfilePath(target);
  if (const auto text = target.texts.find("dockerfile-inline"); text != target.texts.end())
    docker.text = text->second;
  docker.target = target.Text("target");
  docker.network = target.Text("network");
  docker.shm_size = target.Text("shm-size");
  docker.call = target.Text("call");
  docker.build_args = Pairs(target.Map("args"));
  docker.labels = Pairs(target.Map("labels"));
  docker.platforms = target.List("platforms");
  docker.ulimits = target.List("ulimits");
  docker.add_hosts = Pairs(target.Map("extra-hosts"));
  docker.no_cache_filter = target.List("no-cache-filter");
  docker.attests = target.List("attest");
  for (const auto& [name, value] : target.Map("contexts")) {
    if (!bake::LinkedTarget(value).empty()) continue;
    docker.contexts.push_back(absl::StrCat(name, "=", absl::StripPrefix(value, kWorkingDirectory)));
  }
  const auto pull = target.flags.find("pull");
  docker.pull = pull != target.flags.end() && pull->second;
  const auto no_cache = target.flags.find("no-cache");
  flags.no_cache = no_cache != target.flags.end() && no_cache->second;
  flags.tags = target.List("tags");
  flags.annotations = target.List("annotations");
  flags.cache_from = target.List("cache-from");
  flags.cache_to = target.List("cache-to");
  flags.secrets = target.List("secret");
  flags.ssh = target.List("ssh");
  if (flags.ssh.empty() && IsSshAddress(target.Text("context"))) flags.ssh = {"default"};
  flags.allow = target.List("entitlements");
  for (const std::string& output : target.List("output"))
    KILN_RETURN_IF_ERROR(AddOutput(output, &flags));
  return flags;
}

absl::Status CheckPlan(const bake::Plan& plan, bool stdout_is_terminal) {
  for (const auto& [name, target] : plan.targets) {
    const absl::StatusOr<BuildFlags> flags = FlagsOf(target);
    SolveOptions checked;
    absl::Status status = flags.status();
    if (status.ok()) status = CheckPlannedValues(*flags);
    if (status.ok()) status = FillSessionOptions(*flags, stdout_is_terminal, &checked);
    KILN_RETURN_IF_ERROR(Annotate(status, absl::StrCat("target ", name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, BakeTarget>> PrepareTargets(
    const bake::Plan& plan, const std::vector<std::string>& allowed, bool stdout_is_terminal) {
  std::map<std::string, BakeTarget> prepared;
  int to_stdout = 0;
  for (const auto& [name, target] : plan.targets) {
    BakeTarget* out = &prepared[name];
    absl::Status status = CheckEntitlements(target, allowed);
    if (status.ok()) status = Prepare(target, stdout_is_terminal, out);
    KILN_RETURN_IF_ERROR(Annotate(status, absl::StrCat("target ", name)));
    for (const ExportRequest& output : out->build.options.outputs)
      to_stdout += output.target.path == "-" ? 1 : 0;
  }
  if (to_stdout > 1) return absl::InvalidArgumentError("only one output may go to standard output");
  return prepared;
}

}  // namespace kiln::client
