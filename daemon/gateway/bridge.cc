#include "daemon/gateway/bridge.h"

#include <algorithm>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/gateway/failed_solve.h"
#include "daemon/ops/ref_result.h"
#include "daemon/policy/judge_definition.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxDefinitionBytes = 256 << 20;
constexpr size_t kRefBytes = 1 << 10;  // what a ref costs beside its definition
constexpr size_t kNamedRefs = 16;      // in an error: trailers are limited

}  // namespace

std::string NewId() {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  absl::BitGen random;
  std::string id(25, '0');
  for (char& c : id) c = kDigits[absl::Uniform(random, 0u, sizeof(kDigits) - 1)];
  return id;
}

absl::StatusOr<std::string> Bridge::AddDefinition(std::string definition, bool has_ops,
                                                  const std::vector<std::string>& policies) {
  KILN_ASSIGN_OR_RETURN(auto judge, SourceJudge::With(options_.judge, policies));
  MutexLock lock(&mu_);
  if (!closed_.ok()) return closed_;
  if (!has_ops) return "";
  const size_t bytes = definition.size() + kRefBytes;
  if (bytes > kMaxDefinitionBytes - definition_bytes_)
    return absl::ResourceExhaustedError(
        absl::StrCat("the frontend holds ", refs_.size(), " refs: one more, of ", definition.size(),
                     " bytes, and their definitions exceed ", kMaxDefinitionBytes, " bytes"));
  definition_bytes_ += bytes;
  std::string id = NewId();
  Ref& ref = refs_[id];
  ref.definition = std::move(definition);
  ref.judge = std::move(judge);
  return id;
}

absl::StatusOr<Bridge::Ref*> Bridge::FindLocked(absl::string_view ref_id) {
  if (!closed_.ok()) return closed_;
  const auto found = refs_.find(ref_id);
  if (found != refs_.end()) return &found->second;
  std::vector<absl::string_view> all;
  for (const auto& [id, ref] : refs_) all.push_back(id);
  std::sort(all.begin(), all.end());
  const size_t more = all.size() - std::min(all.size(), kNamedRefs);
  all.resize(all.size() - more);
  return absl::NotFoundError(absl::StrCat("no such ref: ", ref_id, ", all [",
                                          absl::StrJoin(all, " "),
                                          more > 0 ? absl::StrCat(" and ", more, " more]") : "]"));
}

void Bridge::ImportCache(const std::string& type, const std::map<std::string, std::string>& attrs) {
  if (options_.cache_imports.contains({type, attrs})) return;
  std::string source = type;
  for (const char* key : {"ref", "src", "name"}) {
    const auto found = attrs.find(key);
    if (found == attrs.end()) continue;
    source = found->second;
    break;
  }
  const std::string name = absl::StrCat("importing cache manifest from ", source);
  // The step fails, the build does not (BuildKit, cache imports).
  options_.job
      ->RunStep(name, name,
                [type](solver::ProgressSink&) {
                  return absl::UnimplementedError(absl::StrCat(
                      "cache import of type ", type,
                      " by a frontend is not supported: name it in the build request"));
                })
      .IgnoreError();
}

absl::StatusOr<std::string> Bridge::DefinitionOf(absl::string_view ref_id) {
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(const Ref* ref, FindLocked(ref_id));
  return ref->definition;
}

absl::StatusOr<std::string> Bridge::SolvedDefinitionOf(absl::string_view ref_id) {
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(const Ref* ref, FindLocked(ref_id));
  return ref->solved_definition.empty() ? ref->definition : ref->solved_definition;
}

absl::StatusOr<solver::ResultPtr> Bridge::Evaluate(absl::string_view ref_id,
                                                   const CancelToken& cancel) {
  if (ref_id.empty()) return nullptr;
  std::string definition;
  std::shared_ptr<const SourceJudge> judge;
  {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(const Ref* ref, FindLocked(ref_id));
    if (ref->evaluated) return ref->result;
    definition = ref->definition;
    judge = ref->judge;
  }
  std::string solved = definition;
  if (judge != nullptr) {
    KILN_ASSIGN_OR_RETURN(solved,
                          Annotate(JudgeDefinition(solved, *judge, cancel),
                                   "failed to load LLB: error evaluating the source policy"));
  }
  if (options_.grant_devices) {
    KILN_ASSIGN_OR_RETURN(
        solved, Annotate(options_.grant_devices(std::move(solved)), "failed to load LLB"));
  }
  if (solved != definition) {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(Ref * ref, FindLocked(ref_id));
    ref->solved_definition = solved;
  }
  // Two callers at once share the work: the job holds each vertex once.
  auto built = options_.job->BuildAndWait(std::move(solved), cancel);
  if (!built.ok()) {
    KILN_ASSIGN_OR_RETURN(solved, SolvedDefinitionOf(ref_id));
    return DescribeFailure(solved, built.status());
  }
  const solver::ResultPtr result = *std::move(built);
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(Ref * ref, FindLocked(ref_id));
  ref->evaluated = true;
  ref->result = result;
  return result;
}

void Bridge::Begin(absl::string_view ref_id, Begun what) {
  std::string definition;
  {
    MutexLock lock(&mu_);
    const absl::StatusOr<Ref*> ref = FindLocked(ref_id);
    if (!ref.ok() || (*ref)->evaluated || (*ref)->judge != nullptr) return;
    definition = (*ref)->definition;
  }
  options_.job->Begin(std::move(definition), what == Begun::kWhole);
}

absl::StatusOr<store::RefPtr> Bridge::Tree(absl::string_view ref_id, const CancelToken& cancel) {
  {
    MutexLock lock(&mu_);
    KILN_RETURN_IF_ERROR(FindLocked(ref_id).status());
  }
  KILN_ASSIGN_OR_RETURN(const solver::ResultPtr result, Evaluate(ref_id, cancel));
  store::RefPtr tree = RefOf(result);
  if (tree == nullptr) return absl::NotFoundError(absl::StrCat("empty ref: ", ref_id));
  return tree;
}

std::string Bridge::KeepFailed(store::RefPtr tree) {
  MutexLock lock(&mu_);
  if (!closed_.ok()) return "";
  for (const auto& [id, kept] : failed_)
    if (kept->id() == tree->id()) return id;
  return failed_.emplace(NewId(), std::move(tree)).first->first;
}

absl::StatusOr<store::RefPtr> Bridge::TreeToMount(absl::string_view id, const CancelToken& cancel) {
  {
    MutexLock lock(&mu_);
    if (const auto found = failed_.find(id); found != failed_.end()) return found->second;
    if (!FindLocked(id).ok())
      return absl::NotFoundError(absl::StrCat("return reference ", id, " not found"));
  }
  KILN_ASSIGN_OR_RETURN(const solver::ResultPtr result, Evaluate(id, cancel));
  return RefOf(result);
}

std::vector<std::string> Bridge::RefIds(const BridgeResult& result) {
  std::vector<std::string> ids;
  if (!result.ref.empty()) ids.push_back(result.ref);
  for (const auto& [platform, id] : result.refs)
    if (!id.empty()) ids.push_back(id);
  for (const auto& [platform, attestations] : result.attestations)
    for (const BridgeAttestation& each : attestations)
      if (!each.ref.empty()) ids.push_back(each.ref);
  return ids;
}

void Bridge::NoteFrontend(const std::string& name, const std::map<std::string, std::string>& opts) {
  MutexLock lock(&mu_);
  if (first_frontend_.name.empty()) first_frontend_ = {name, opts};
}

FrontendCall Bridge::first_frontend() {
  MutexLock lock(&mu_);
  return first_frontend_;
}

void Bridge::NoteTag(const std::string& name) {
  MutexLock lock(&mu_);
  tags_.insert(name);
}

std::set<std::string> Bridge::tags() {
  MutexLock lock(&mu_);
  return tags_;
}

absl::Status Bridge::Adopt(Bridge& nested, const BridgeResult& result) {
  absl::flat_hash_map<std::string, Ref> taken;
  std::set<std::string> tags = nested.tags();
  {
    MutexLock lock(&nested.mu_);
    for (const std::string& id : RefIds(result)) {
      const auto found = nested.refs_.find(id);
      if (found == nested.refs_.end())
        return absl::NotFoundError(absl::StrCat("return reference ", id, " not found"));
      taken.insert(*found);
    }
  }
  MutexLock lock(&mu_);
  if (!closed_.ok()) return closed_;
  for (auto& [id, ref] : taken) refs_.try_emplace(id, std::move(ref));
  tags_.merge(tags);
  return absl::OkStatus();
}

void Bridge::AdoptFailed(Bridge& nested) {
  decltype(failed_) taken;
  {
    MutexLock lock(&nested.mu_);
    taken.swap(nested.failed_);
  }
  MutexLock lock(&mu_);
  if (closed_.ok()) failed_.merge(taken);
}

absl::Status Bridge::Return(absl::StatusOr<BridgeResult> result) {
  MutexLock lock(&mu_);
  if (!closed_.ok()) return closed_;
  if (answer_.has_value()) return absl::FailedPreconditionError("gateway result is already set");
  if (result.ok()) {
    for (const std::string& id : RefIds(*result)) {
      if (!refs_.contains(id))
        return absl::NotFoundError(absl::StrCat("return reference ", id, " not found"));
    }
  }
  answer_ = std::move(result);
  returned_.SignalAll();
  return absl::OkStatus();
}

absl::StatusOr<BridgeResult> Bridge::WaitForReturn(const CancelToken& cancel) {
  // Before the lock: its destructor waits for the callback, which takes the lock.
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    returned_.SignalAll();
  });
  MutexLock lock(&mu_);
  while (!answer_.has_value()) {
    if (cancel.Cancelled()) return cancel.status();
    if (!closed_.ok()) return closed_;
    returned_.Wait(&mu_);
  }
  return *answer_;
}

void Bridge::Close(absl::Status why) {
  absl::flat_hash_map<std::string, Ref> dropped;  // released after the lock is gone
  decltype(failed_) failed;
  {
    MutexLock lock(&mu_);
    if (!closed_.ok()) return;
    closed_ = why;
    dropped.swap(refs_);
    failed.swap(failed_);
    returned_.SignalAll();
  }
  closing_.Cancel(std::move(why));
  containers_.Close();
}

}  // namespace kiln::daemon
