#include "daemon/ops/exec.h"

#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/executor/executor.h"
#include "daemon/executor/foreign_programs.h"
#include "daemon/ops/cache_mounts.h"
#include "daemon/ops/content_digest.h"
#include "daemon/ops/exec_key.h"
#include "daemon/ops/exec_mounts.h"
#include "daemon/ops/exec_plan.h"
#include "daemon/ops/failed_step.h"
#include "daemon/ops/ref_result.h"
#include "daemon/ops/step_log.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

absl::StatusOr<std::optional<LinuxResources>> ParseResources(absl::string_view bytes) {
  if (bytes.empty()) return std::nullopt;
  pb::LinuxResources in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("invalid linux_resources");
  LinuxResources out;
  out.memory_bytes = in.memory();
  out.memory_swap_bytes = in.memoryswap();
  out.cpu_shares = in.cpushares();
  out.cpu_period_us = in.cpuperiod();
  out.cpu_quota_us = in.cpuquota();
  out.cpuset_cpus = in.cpusetcpus();
  out.cpuset_mems = in.cpusetmems();
  return out;
}

absl::Status Explained(const absl::Status& status, const std::string& why) {
  if (why.empty()) return status;
  absl::Status out(status.code(), absl::StrCat(status.message(), ": ", why));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& v) { out.SetPayload(url, v); });
  return out;
}

class ExecOp final : public solver::Op {
 public:
  ExecOp(const ExecOpDeps& deps, ExecPlan plan, absl::StatusOr<ExecKeys> keys)
      : deps_(deps), plan_(std::move(plan)), keys_(std::move(keys)) {}

  absl::StatusOr<solver::CacheMap> MakeCacheMap(solver::OpContext& context, int index) override;
  absl::StatusOr<std::string> ContentDigest(solver::OpContext& context, int input_index,
                                            const solver::ResultPtr& input) override;
  std::optional<std::string> KnownContentDigest(int input_index,
                                                const solver::ResultPtr& input) override;
  absl::StatusOr<solver::ExecResult> Execute(solver::OpContext& context,
                                             absl::Span<const solver::ResultPtr> inputs) override;
  bool TakesSlot() const override { return true; }
  bool CheapCacheMap() const override;
  std::vector<Resource> Resources() const override;

 private:
  absl::StatusOr<std::string> SelectedDigest(const ExecInputKey& key, const store::RefPtr& ref,
                                             const CancelToken& cancel) const;
  // `left` is the state of each mount should it fail.
  absl::StatusOr<solver::ExecResult> RunStep(solver::OpContext& context,
                                             absl::Span<const store::RefPtr> inputs,
                                             std::vector<store::RefPtr>* left) const;
  absl::Status ResetCaches(solver::OpContext& context,
                           absl::Span<const store::RefPtr> inputs) const;
  absl::StatusOr<ProcessSpec> MakeSpec(solver::OpContext& context, const std::string& id,
                                       const ExecMounts& mounts) const;
  absl::Status CheckExit(const ExitInfo& exit, const ProcessSpec& spec) const;

  const ExecOpDeps deps_;
  const ExecPlan plan_;
  const absl::StatusOr<ExecKeys> keys_;
};

absl::StatusOr<solver::CacheMap> ExecOp::MakeCacheMap(solver::OpContext& context, int) {
  KILN_RETURN_IF_ERROR(keys_.status());
  // A build without cache starts with empty cache directories as well, before anything runs.
  if (context.vertex().ignore_cache) KILN_RETURN_IF_ERROR(ResetCaches(context, {}));
  solver::CacheMap map;
  map.op_digest = keys_->op_digest;
  for (const ExecInputKey& key : keys_->inputs)
    map.inputs.push_back({key.SelectorDigest(), key.by_content});
  return map;
}

absl::StatusOr<std::string> ExecOp::ContentDigest(solver::OpContext& context, int input_index,
                                                  const solver::ResultPtr& input) {
  KILN_RETURN_IF_ERROR(keys_.status());
  const store::RefPtr ref = RefOf(input);
  auto digest =
      SelectedDigest(keys_->inputs.at(static_cast<size_t>(input_index)), ref, context.cancel());
  if (digest.ok()) return digest;
  absl::Status status = digest.status();
  AttachFailedStep({.inputs = {ref}, .cache_index = input_index}, &status);
  return status;
}

std::optional<std::string> ExecOp::KnownContentDigest(int input_index,
                                                      const solver::ResultPtr& input) {
  if (!keys_.ok()) return std::nullopt;
  std::vector<std::string> checksums;
  for (const std::string& selector : keys_->inputs.at(static_cast<size_t>(input_index)).selectors) {
    const auto digest = deps_.refs->KnownChecksum(RefOf(input), selector, {.follow = true});
    if (!digest.has_value()) return std::nullopt;
    checksums.push_back(digest->ToString());
  }
  return CombineContentDigests(checksums);
}

absl::StatusOr<std::string> ExecOp::SelectedDigest(const ExecInputKey& key,
                                                   const store::RefPtr& ref,
                                                   const CancelToken& cancel) const {
  store::ChecksumOptions options;
  options.follow = true;
  std::map<std::string, std::string> known;  // the work is done once for equal selectors
  std::vector<std::string> checksums;
  for (const std::string& selector : key.selectors) {
    std::string& checksum = known[selector];
    if (checksum.empty()) {
      KILN_ASSIGN_OR_RETURN(const Digest digest,
                            deps_.refs->Checksum(ref, selector, options, cancel));
      checksum = digest.ToString();
    }
    checksums.push_back(checksum);
  }
  return CombineContentDigests(checksums);
}

// The keys were made with the op; only resetting cache directories takes work.
bool ExecOp::CheapCacheMap() const {
  for (const ExecPlan::Mount& mount : plan_.mounts)
    if (mount.type == ExecPlan::MountType::kCache) return false;
  return true;
}

std::vector<solver::Op::Resource> ExecOp::Resources() const {
  std::map<std::string, bool> exclusive;  // LOCKED somewhere in this step
  for (const ExecPlan::Mount& mount : plan_.mounts) {
    if (mount.type != ExecPlan::MountType::kCache || mount.sharing == ExecPlan::Sharing::kPrivate)
      continue;
    bool& one = exclusive[absl::StrCat("cache-dir:", mount.cache_id)];
    one = one || mount.sharing == ExecPlan::Sharing::kLocked;
  }
  std::vector<Resource> out;
  for (const auto& [name, is_exclusive] : exclusive) out.push_back({name, is_exclusive});
  return out;
}

// Directories of cache mounts without an input, or, given the inputs, of those with one. Once for
// each job: two of its steps share what they put there.
absl::Status ExecOp::ResetCaches(solver::OpContext& context,
                                 absl::Span<const store::RefPtr> inputs) const {
  for (const ExecPlan::Mount& mount : plan_.mounts) {
    if (mount.type != ExecPlan::MountType::kCache) continue;
    const store::RefPtr parent =
        mount.input >= 0 && static_cast<size_t>(mount.input) < inputs.size()
            ? inputs[static_cast<size_t>(mount.input)]
            : nullptr;
    if ((parent == nullptr) != inputs.empty()) continue;
    const std::string once = absl::StrCat("exec.cache-reset:", mount.cache_id, "\n",
                                          parent == nullptr ? "" : parent->id());
    const auto reset = [&]() -> absl::StatusOr<std::string> {
      const absl::Status done = deps_.cache_mounts->Reset(mount.cache_id, parent);
      if (!done.ok()) return done;
      return "done";
    };
    KILN_RETURN_IF_ERROR(context.job_values().GetOrMake(once, reset).status());
  }
  return absl::OkStatus();
}

// What the devices of a step change in it.
absl::Status AddDevices(const DeviceRegistry* registry, const std::vector<DeviceRequest>& requests,
                        ProcessSpec& spec) {
  if (requests.empty()) return absl::OkStatus();
  static const auto* const none = new DeviceRegistry({}, {});
  if (registry == nullptr) registry = none;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names, registry->Find(requests));
  KILN_ASSIGN_OR_RETURN(DeviceEdits edits, registry->Edits(names));
  spec.env.insert(spec.env.end(), edits.env.begin(), edits.env.end());
  spec.mounts.insert(spec.mounts.end(), edits.mounts.begin(), edits.mounts.end());
  spec.devices = std::move(edits.nodes);
  spec.hooks = std::move(edits.hooks);
  spec.groups = std::move(edits.groups);
  return absl::OkStatus();
}

absl::StatusOr<ProcessSpec> ExecOp::MakeSpec(solver::OpContext& context, const std::string& id,
                                             const ExecMounts& mounts) const {
  ProcessSpec spec;
  spec.id = id;
  spec.rootfs = mounts.rootfs();
  spec.rootfs_readonly = mounts.rootfs_readonly();
  spec.mounts = mounts.mounts();
  spec.args = plan_.args;
  if (!plan_.emulator.empty()) spec.args.insert(spec.args.begin(), kEmulatorPath);
  spec.env = plan_.env;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> secrets,
                        SecretEnvironment(deps_, plan_, context));
  spec.env.insert(spec.env.end(), secrets.begin(), secrets.end());
  spec.cwd = plan_.cwd;
  spec.user = plan_.user;
  spec.hostname = plan_.hostname;
  spec.extra_hosts = plan_.extra_hosts;
  spec.network = plan_.network;
  spec.security = plan_.security;
  spec.ulimits = plan_.ulimits;
  spec.cgroup_parent = plan_.cgroup_parent;
  KILN_ASSIGN_OR_RETURN(spec.resources, ParseResources(context.vertex().linux_resources));
  spec.remove_stubs_recursive = plan_.remove_stubs_recursive;
  KILN_RETURN_IF_ERROR(AddDevices(deps_.devices, plan_.devices, spec));
  return spec;
}

absl::StatusOr<solver::ExecResult> ExecOp::Execute(solver::OpContext& context,
                                                   absl::Span<const solver::ResultPtr> inputs) {
  std::vector<store::RefPtr> refs;
  for (const solver::ResultPtr& input : inputs) refs.push_back(RefOf(input));
  FailedStep failed;
  for (const ExecPlan::Mount& mount : plan_.mounts) {
    const bool has_input = mount.input >= 0 && static_cast<size_t>(mount.input) < refs.size();
    failed.inputs.push_back(has_input ? refs[static_cast<size_t>(mount.input)] : nullptr);
  }
  failed.mounts = failed.inputs;
  auto result = RunStep(context, refs, &failed.mounts);
  if (result.ok()) return result;
  absl::Status status = result.status();
  AttachFailedStep(std::move(failed), &status);
  return status;
}

absl::StatusOr<solver::ExecResult> ExecOp::RunStep(solver::OpContext& context,
                                                   absl::Span<const store::RefPtr> refs,
                                                   std::vector<store::RefPtr>* left) const {
  if (context.vertex().ignore_cache && !refs.empty())
    KILN_RETURN_IF_ERROR(ResetCaches(context, refs));

  const std::string id = NewStepId();
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<ExecMounts> mounts,
                        ExecMounts::Prepare(deps_, plan_, id, context, refs));
  KILN_ASSIGN_OR_RETURN(const ProcessSpec spec, MakeSpec(context, id, *mounts));
  StepLog log(&context.progress(), deps_.log_limits);
  std::atomic<bool> wrong_format = false;
  absl::StatusOr<ExitInfo> exit = deps_.executor->Run(
      spec,
      [&](int stream, absl::string_view data) {
        if (SaysWrongFormat(data)) wrong_format = true;
        log.Write(stream, data);
      },
      context.cancel());
  absl::Status outcome = exit.ok() ? CheckExit(*exit, spec) : exit.status();
  if (!outcome.ok()) {
    KILN_RETURN_IF_ERROR(context.cancel().status());
    log.FlushWithheld();
    // The step's own failure is the one that is told.
    if (absl::Status s = mounts->CommitLeft(left); !s.ok())
      spdlog::warn("keep the files of a failed step: {}", s.ToString());
    if (!exit.ok()) outcome = Annotate(outcome, FailureText(plan_.args));
    return wrong_format ? Explained(outcome, MissingEmulator(deps_, plan_)) : outcome;
  }

  KILN_ASSIGN_OR_RETURN(std::vector<store::RefPtr> outputs, mounts->Commit());
  solver::ExecResult result;
  for (store::RefPtr& output : outputs) result.outputs.push_back(MakeResult(std::move(output)));
  return result;
}

absl::Status ExecOp::CheckExit(const ExitInfo& exit, const ProcessSpec& spec) const {
  if (plan_.valid_exit_codes.contains(exit.code)) return absl::OkStatus();
  std::string text = absl::StrCat(FailureText(plan_.args), ": exit code: ", exit.code);
  if (exit.oom_killed) {
    // Clients look for the last words.
    if (spec.resources.has_value() && spec.resources->memory_bytes > 0)
      absl::StrAppend(&text, ": over its memory limit of ", spec.resources->memory_bytes, " bytes");
    absl::StrAppend(&text, ": cannot allocate memory");
  }
  absl::Status status = absl::UnknownError(text);
  AddExitDetail(static_cast<uint32_t>(exit.code), &status);
  return status;
}

}  // namespace

bool SaysWrongFormat(absl::string_view output) {
  return absl::StrContains(output, "xec format error");
}

std::string MissingEmulator(const ExecOpDeps& deps, const ExecPlan& plan) {
  if (plan.foreign_architecture.empty() || !plan.emulator.empty() || deps.foreign == nullptr ||
      deps.foreign->Runs(plan.foreign_architecture))
    return "";
  return absl::StrCat("no binfmt_misc handler for linux/", plan.foreign_architecture,
                      "; install qemu-user-static on the daemon's machine");
}

absl::StatusOr<std::shared_ptr<solver::Op>> MakeExecOp(const ExecOpDeps& deps,
                                                       absl::string_view op_bytes,
                                                       const solver::VertexInfo&) {
  pb::Op op;
  if (!op.ParseFromArray(op_bytes.data(), static_cast<int>(op_bytes.size())))
    return absl::InvalidArgumentError("failed to parse llb proto op");
  KILN_ASSIGN_OR_RETURN(ExecPlan plan, MakeExecPlan(op));
  return std::make_shared<ExecOp>(deps, std::move(plan), MakeExecKeys(op));
}

}  // namespace kiln::daemon
