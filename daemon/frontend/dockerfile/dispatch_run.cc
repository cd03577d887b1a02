// RUN (dockerfile.md 2.5).
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/llb/go_path.h"
#include "daemon/frontend/dockerfile/dispatch.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/step_source.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/heredoc.h"
#include "daemon/frontend/dockerfile/variables.h"
#include "proto/utf8.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

constexpr char kPipes[] = "/dev/pipes/";

// The first line of a here-document, for the step's name.
std::string Summary(absl::string_view body) {
  const std::string text(absl::StripAsciiWhitespace(body));
  std::string first = text.substr(0, text.find('\n'));
  if (!first.empty() && first.back() == '\r') first.pop_back();
  return absl::StrCat(first, absl::StrContains(text, '\n') ? "..." : "");
}

llb::CacheSharing SharingOf(const Mount& mount) {
  switch (mount.sharing.value_or(CacheSharing::kShared)) {
    case CacheSharing::kPrivate:
      return llb::CacheSharing::kPrivate;
    case CacheSharing::kLocked:
      return llb::CacheSharing::kLocked;
    case CacheSharing::kShared:
      break;
  }
  return llb::CacheSharing::kShared;
}

}  // namespace

// A RUN under construction.
struct StageDispatcher::RunStep {
  llb::RunInfo info;
  std::string text;                  // as the name shows it; "": the instruction as it is
  std::set<std::string> secret_env;  // variables whose values are not known here
};

// With the shell that runs it. The command of a here-document is the name of a script, the shell's
// input, or all of it again for a shell that reads here-documents itself.
absl::StatusOr<std::vector<std::string>> StageDispatcher::RunArgs(const dockerfile::Run& run,
                                                                  RunStep* step) {
  const std::vector<std::string>& args = run.command.args;
  if (run.heredocs.empty()) return run.command.shell_form ? WithShell(args) : args;
  if (args.size() != 1 || !run.command.shell_form) {
    return absl::InvalidArgumentError(
        absl::StrCat("parsing produced an invalid run command: ", absl::StrJoin(args, " ")));
  }
  KILN_ASSIGN_OR_RETURN(const std::optional<Heredoc> whole, ParseHeredocWord(args[0]));
  if (!whole) {
    std::string command = args[0];
    for (const Heredoc& heredoc : run.heredocs) {
      absl::StrAppend(&command, "\n", heredoc.content, heredoc.name);
    }
    return WithShell({std::move(command)});
  }
  const Heredoc& heredoc = run.heredocs[0];
  const std::string body = heredoc.chomp ? ChompTabs(heredoc.content) : heredoc.content;
  step->text = absl::StrCat(command_->instruction->text.code, " (", Summary(heredoc.content), ")");
  if (stage_.image.platform.os == "windows" || !absl::StartsWith(body, "#!")) {
    return WithShell({body});
  }
  llb::MountInfo script;
  script.target = kPipes;
  script.source = llb::State().File(llb::Mkfile(heredoc.name, 0755, body),
                                    llb::Named("[internal] preparing inline document"));
  script.selector = "/";
  script.readonly = true;
  step->info.mounts.push_back(std::move(script));
  return WithShell({llb::JoinPath(kPipes, heredoc.name)});
}

absl::Status StageDispatcher::AddSecret(const Mount& mount, RunStep* step) {
  llb::SecretInfo secret;
  secret.id = mount.source.empty() ? mount.id : mount.source;
  if (secret.id.empty()) {
    if (mount.target.empty()) {
      return absl::InvalidArgumentError("one of source, target required");
    }
    secret.id = llb::BasePath(mount.target);
  }
  if (!mount.target.empty()) {
    secret.target = mount.target;
  } else if (!mount.env) {
    secret.target = absl::StrCat("/run/secrets/", llb::BasePath(secret.id));
  }
  secret.env = mount.env;
  secret.optional = !mount.required;
  secret.uid = mount.uid.value_or(0);
  secret.gid = mount.gid.value_or(0);
  secret.mode = mount.mode.value_or(0400);
  stage_.outline.secrets.try_emplace(secret.id, SecretUse{mount.required, lines()});
  if (mount.env) step->secret_env.insert(*mount.env);
  step->info.secrets.push_back(std::move(secret));
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddAgent(const Mount& mount, RunStep* step) {
  if (!mount.source.empty()) return absl::InvalidArgumentError("ssh does not support source");
  llb::SshInfo agent;
  agent.id = mount.id;
  agent.target = mount.target;
  agent.optional = !mount.required;
  agent.uid = mount.uid.value_or(0);
  agent.gid = mount.gid.value_or(0);
  agent.mode = mount.mode.value_or(0600);
  stage_.outline.agents.try_emplace(mount.id.empty() ? "default" : mount.id,
                                    SecretUse{mount.required, lines()});
  step->info.ssh.push_back(std::move(agent));
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddFileMount(const Mount& mount, StageState* source, RunStep* step) {
  const bool cache = mount.type == MountType::kCache;
  llb::MountInfo info;
  // A cache without `from` starts empty, everything else is the build context.
  const bool from_context = mount.from.empty() && !cache;
  if (!from_context && !source->dispatched) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot mount from stage ", Quote(mount.from.empty() ? "scratch" : mount.from), " to ",
        Quote(mount.target), ", stage needs to be defined before current command"));
  }
  info.source = from_context ? scope_.main_context : source->state;
  if (mount.type == MountType::kTmpfs) {
    info.source = llb::State();
    info.tmpfs = true;
    info.tmpfs_size_bytes = mount.size_bytes;
  }
  info.readonly = mount.read_only;
  info.no_output = !mount.read_only && mount.type == MountType::kBind;
  if (cache) {
    const std::string id = mount.id.empty() ? llb::CleanPath(mount.target) : mount.id;
    info.cache_id = absl::StrCat(scope_.options->cache_mount_namespace, "/", id);
    info.cache_sharing = SharingOf(mount);
  }
  info.target = absl::StartsWith(mount.target, "/")
                    ? mount.target
                    : llb::JoinPath("/", llb::JoinPath(stage_.state.dir(), mount.target));
  if (info.target == "/") {
    return absl::InvalidArgumentError(absl::StrCat("invalid mount target ", Quote(info.target)));
  }
  const std::string path = llb::JoinPath("/", mount.source);
  if (path != "/") {
    info.selector = path;
  } else if (mount.uid || mount.gid || mount.mode) {
    llb::MkdirInfo owned;
    owned.owner = llb::ChownOpt{llb::UserOpt{"", mount.uid.value_or(0)},
                                llb::UserOpt{"", mount.gid.value_or(0)}};
    info.source = info.source.File(
        llb::Mkdir("/cache", static_cast<int>(mount.mode.value_or(0755)), std::move(owned)),
        llb::Named("[internal] setting cache mount permissions"));
    info.selector = "/cache";
  }
  step->info.mounts.push_back(std::move(info));
  (from_context ? stage_.context_paths : *source->used_paths).insert(path);
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddMounts(const dockerfile::Run& run, RunStep* step) {
  std::vector<Mount> mounts;
  for (const RunMount& written : run.mounts) {
    KILN_ASSIGN_OR_RETURN(
        mounts.emplace_back(),
        ParseMount(written.flag, [this](absl::string_view word) { return Expand(word); }));
  }
  for (size_t i = 0; i < mounts.size(); ++i) {
    const Mount& mount = mounts[i];
    if (mount.type == MountType::kSecret) {
      KILN_RETURN_IF_ERROR(AddSecret(mount, step));
    } else if (mount.type == MountType::kSsh) {
      KILN_RETURN_IF_ERROR(AddAgent(mount, step));
    } else {
      KILN_RETURN_IF_ERROR(AddFileMount(mount, command_->sources[i], step));
    }
  }
  return absl::OkStatus();
}

std::string StageDispatcher::RunName(const std::string& text,
                                     const std::set<std::string>& secret_env) {
  ExpandOptions options;
  options.escape = scope_.escape;
  options.keep_quotes = true;
  options.keep_unset = true;
  const EnvLookup variables(env());
  const auto masked = [&](absl::string_view name) -> std::optional<absl::string_view> {
    if (secret_env.count(std::string(name)) > 0) return "****";
    return variables(name);
  };
  auto shown = ExpandWord(text, options, masked);
  std::optional<Platform> platform;
  const llb::Platform* const own = stage_.state.platform();
  if (own != nullptr && scope_.options->multi_platform) {
    platform =
        Platform{own->os, own->architecture, own->variant, own->os_version, own->os_features};
  }
  return NameStep(UpperKeyword(std::move(shown).value_or(text)), platform);
}

// The arguments in effect come first: "|2 a=1 b=2 /bin/sh -c …".
std::string StageDispatcher::RunHistory(const std::vector<std::string>& args) const {
  std::vector<std::pair<absl::string_view, std::string>> in_effect;
  const EnvLookup variables(env());
  for (const ArgDefinition& arg : stage_.declared_args) {
    const auto value = variables(arg.key);
    std::string text = value ? std::string(*value) : arg.value.value_or("");
    bool known = false;
    for (auto& [key, old] : in_effect) {
      if (key != arg.key) continue;
      old = text;
      known = true;
    }
    if (!known) in_effect.emplace_back(arg.key, std::move(text));
  }
  size_t size = 32;
  for (const std::string& arg : args) size += arg.size() + 1;
  std::string line = "RUN ";
  line.reserve(size);
  if (!in_effect.empty()) absl::StrAppend(&line, "|", in_effect.size(), " ");
  for (const auto& [key, value] : in_effect) absl::StrAppend(&line, key, "=", value, " ");
  for (const std::string& arg : args) absl::StrAppend(&line, arg, " ");
  line += args.empty() ? " # buildkit" : "# buildkit";
  return line;
}

absl::Status StageDispatcher::Do(const dockerfile::Run& run) {
  stage_.used_paths->insert("/");  // a command may read anything
  const Options& options = *scope_.options;
  RunStep step;
  const std::string& code = command_->instruction->text.code;
  KILN_ASSIGN_OR_RETURN(step.info.args, RunArgs(run, &step));
  for (const std::string& arg : step.info.args)
    if (!IsValidUtf8(arg)) return absl::InvalidArgumentError("the command is not valid UTF-8");
  KILN_RETURN_IF_ERROR(AddMounts(run, &step));
  for (const RunDevice& device : run.devices) {
    step.info.cdi_devices.push_back({device.name, !device.required});
  }
  llb::State on = stage_.state;
  if (run.security == RunSecurity::kInsecure) on = on.Security(llb::SecurityMode::kInsecure);
  if (run.network == RunNetwork::kHost) on = on.Network(llb::NetMode::kHost);
  if (run.network == RunNetwork::kNone) on = on.Network(llb::NetMode::kNone);
  for (const llb::Ulimit& limit : options.ulimits) on = on.AddUlimit(limit);
  for (const llb::HostIp& host : options.extra_hosts) on = on.AddExtraHost(host.host, host.ip);
  if (!options.cgroup_parent.empty()) on = on.CgroupParent(options.cgroup_parent);
  if (options.shm_size_bytes > 0) {
    llb::MountInfo memory;
    memory.target = "/dev/shm";
    memory.tmpfs = true;
    memory.tmpfs_size_bytes = options.shm_size_bytes;
    step.info.mounts.push_back(std::move(memory));
  }
  step.info.proxy_env = scope_.proxy;
  step.info.daemon_sets_path = true;
  step.info.constraints = NamedStep(RunName(step.text.empty() ? code : step.text, step.secret_env));
  llb::OpMetadata& metadata = step.info.constraints.metadata;
  metadata.description.Set(kCommandKey, code);
  metadata.ignore_cache = stage_.ignore_cache;
  metadata.linux_resources = options.resources;
  std::string history = RunHistory(step.info.args);
  stage_.state = stage_.state.WithOutput(on.Run(std::move(step.info)).output());
  AddHistory(std::move(history), true);
  return absl::OkStatus();
}

}  // namespace kiln::daemon::dockerfile
