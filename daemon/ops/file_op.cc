// The file op (BuildKit FileOp): how it takes part in caching, and how its actions are run.
#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/ops/content_digest.h"
#include "daemon/ops/failed_step.h"
#include "daemon/ops/file_actions.h"
#include "daemon/ops/file_plan.h"
#include "daemon/ops/op_digest.h"
#include "daemon/ops/ops.h"
#include "daemon/ops/ref_result.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/mutex.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using solver::CacheMap;
using solver::ExecResult;
using solver::OpContext;
using solver::ResultPtr;

constexpr size_t kMaxThreads = 4;

// A part of an input that the op reads.
struct Selector {
  std::string path;
  store::ChecksumOptions options;
};

void AddUser(const pb::UserOpt& user, const char* file,
             std::vector<std::vector<Selector>>* selectors) {
  if (!user.has_byname()) return;
  Selector selector;
  selector.path = file;
  selector.options.follow = true;
  (*selectors)[static_cast<size_t>(user.byname().input())].push_back(std::move(selector));
}

void AddOwner(const pb::ChownOpt& owner, std::vector<std::vector<Selector>>* selectors) {
  AddUser(owner.user(), "/etc/passwd", selectors);
  AddUser(owner.group(), "/etc/group", selectors);
}

Selector SelectorOf(const pb::FileActionCopy& copy) {
  Selector selector;
  selector.path = copy.src();
  selector.options.follow = copy.followsymlink();
  selector.options.wildcard = copy.allowwildcard() && HasWildcards(copy.src());
  selector.options.include_patterns.assign(copy.include_patterns().begin(),
                                           copy.include_patterns().end());
  selector.options.exclude_patterns.assign(copy.exclude_patterns().begin(),
                                           copy.exclude_patterns().end());
  selector.options.required_paths.assign(copy.required_paths().begin(),
                                         copy.required_paths().end());
  return selector;
}

// Two requests with this text equal are one and the same.
std::string Describe(const Selector& s) {
  const auto list = [](const std::vector<std::string>& items) {
    std::string out = absl::StrCat(items.size(), ":");
    for (const std::string& item : items) absl::StrAppend(&out, item.size(), ":", item);
    return out;
  };
  return absl::StrCat(s.path.size(), ":", s.path, s.options.follow, s.options.wildcard,
                      list(s.options.include_patterns), list(s.options.exclude_patterns),
                      list(s.options.required_paths));
}

absl::StatusOr<store::TreeReader> ReadTree(const store::RefPtr& ref, const CancelToken& cancel) {
  if (ref == nullptr) return store::TreeReader({});
  KILN_ASSIGN_OR_RETURN(store::Layers layers, ref->Materialize(cancel));
  return store::TreeReader(std::move(layers));
}

// One execution. An intermediate result that one action builds on is changed in place; others are
// made immutable and built upon.
class FileRun {
 public:
  FileRun(store::RefStore* refs, const pb::FileOp& op, const FilePlan& plan,
          absl::Span<const ResultPtr> inputs, const CancelToken& cancel, std::string description)
      : refs_(refs),
        op_(op),
        plan_(plan),
        inputs_(inputs),
        cancel_(cancel),
        description_(std::move(description)),
        results_(static_cast<size_t>(op.actions_size())) {}

  // `*failed` is the action that an error belongs to, and what it was given.
  absl::StatusOr<std::vector<ResultPtr>> Run(FailedStep* failed) {
    const absl::Status status = plan_.outputs.size() == 1 ? RunInOrder() : RunParallel();
    if (!status.ok()) {
      if (!absl::IsCancelled(status)) KeepFailed(failed);
      return status;
    }
    std::vector<ResultPtr> out;
    for (const int action : plan_.outputs)
      out.push_back(MakeResult(results_[static_cast<size_t>(action)].ref));
    return out;
  }

 private:
  struct ActionResult {
    store::RefPtr ref;                        // made immutable
    std::unique_ptr<store::MutableRef> tree;  // or still open
  };

  absl::Status RunInOrder() {
    for (const int action : plan_.order) {
      const absl::Status status = RunAction(action);
      if (status.ok()) continue;
      failed_ = action;
      return status;
    }
    return absl::OkStatus();
  }

  // Outputs that do not depend on each other advance at the same time.
  absl::Status RunParallel() {
    absl::flat_hash_map<int, std::vector<int>> dependents;
    absl::flat_hash_map<int, int> missing;
    for (const int action : plan_.order) {
      std::set<int64_t> needed = {op_.actions(action).input(),
                                  op_.actions(action).secondaryinput()};
      needed.erase(needed.begin(), needed.lower_bound(plan_.inputs));
      missing[action] = static_cast<int>(needed.size());
      for (const int64_t index : needed)
        dependents[static_cast<int>(index) - plan_.inputs].push_back(action);
    }
    Mutex mu;
    CondVar changed;
    std::deque<int> ready;
    size_t left = plan_.order.size();
    absl::Status first_error;
    for (const int action : plan_.order) {
      if (missing[action] == 0) ready.push_back(action);
    }
    const auto work = [&] {
      MutexLock lock(&mu);
      while (left > 0 && first_error.ok()) {
        if (ready.empty()) {
          changed.Wait(&mu);
          continue;
        }
        const int action = ready.front();
        ready.pop_front();
        mu.Unlock();
        const absl::Status status = RunAction(action);
        mu.Lock();
        --left;
        if (!status.ok() && first_error.ok()) {
          first_error = status;
          failed_ = action;
        }
        for (const int next : dependents[action]) {
          if (--missing[next] == 0) ready.push_back(next);
        }
        changed.SignalAll();
      }
    };
    std::vector<std::thread> threads;
    const size_t count = std::min(plan_.outputs.size(), kMaxThreads);
    for (size_t i = 1; i < count; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    return first_error;
  }

  // After all actions have ended.
  void KeepFailed(FailedStep* failed) {
    for (const ResultPtr& input : inputs_) failed->inputs.push_back(RefOf(input));
    failed->mounts.resize(results_.size());
    failed->file_index = failed_;
    const auto keep = [&](int64_t action) {
      if (action < 0) return;
      ActionResult& result = results_[static_cast<size_t>(action)];
      // What cannot be kept is not told.
      if (result.tree != nullptr)
        result.ref = std::exchange(result.tree, nullptr)->Commit().value_or(nullptr);
      failed->mounts[static_cast<size_t>(action)] = result.ref;
    };
    keep(failed_);
    keep(op_.actions(failed_).secondaryinput() - plan_.inputs);
  }

  store::RefPtr InputRef(int64_t index) const { return RefOf(inputs_[static_cast<size_t>(index)]); }
  ActionResult& ResultAt(int64_t index) {
    return results_[static_cast<size_t>(index - plan_.inputs)];
  }

  absl::StatusOr<std::unique_ptr<store::MutableRef>> OpenPrimary(int64_t index) {
    store::RefPtr parent;
    if (index >= plan_.inputs) {
      ActionResult& result = ResultAt(index);
      if (result.tree != nullptr) return std::move(result.tree);
      parent = result.ref;
    } else if (index >= 0) {
      parent = InputRef(index);
    }
    store::RefOptions options;
    options.description = description_;
    return refs_->New(std::move(parent), options);
  }

  absl::StatusOr<store::TreeReader> OpenSecondary(int64_t index) {
    if (index < 0) return store::TreeReader({});
    if (index < plan_.inputs) return ReadTree(InputRef(index), cancel_);
    const ActionResult& result = ResultAt(index);
    if (result.tree != nullptr) return result.tree->writer().reader();
    return ReadTree(result.ref, cancel_);
  }

  absl::Status RunAction(int number) {
    const pb::FileAction& action = op_.actions(number);
    KILN_ASSIGN_OR_RETURN(std::unique_ptr<store::MutableRef> tree, OpenPrimary(action.input()));
    KILN_ASSIGN_OR_RETURN(const store::TreeReader secondary,
                          OpenSecondary(action.secondaryinput()));
    const InputTree input_tree = [this](int input) { return ReadTree(InputRef(input), cancel_); };
    ActionResult& result = results_[static_cast<size_t>(number)];
    const absl::Status done = RunFileAction(action, tree->writer(), secondary, input_tree, cancel_);
    if (!done.ok()) {
      result.tree = std::move(tree);
      return done;
    }
    if (plan_.RequiresCommit(number)) {
      KILN_ASSIGN_OR_RETURN(result.ref, tree->Commit());
    } else {
      result.tree = std::move(tree);
    }
    return absl::OkStatus();
  }

  store::RefStore* const refs_;
  const pb::FileOp& op_;
  const FilePlan& plan_;
  const absl::Span<const ResultPtr> inputs_;
  const CancelToken cancel_;
  const std::string description_;
  // Each is written by its action and read by those that come after it. The tree of the one that
  // failed is as it left it.
  std::vector<ActionResult> results_;
  int failed_ = -1;
};

class FileOp final : public solver::Op {
 public:
  FileOp(store::RefStore* refs, pb::Op op, FilePlan plan)
      : refs_(refs),
        op_(std::move(op)),
        plan_(std::move(plan)),
        selectors_(static_cast<size_t>(op_.inputs_size())) {
    MakeSelectors();
  }

  absl::StatusOr<CacheMap> MakeCacheMap(OpContext&, int) override { return map_; }
  bool CheapCacheMap() const override { return true; }  // made with the op

  absl::StatusOr<std::string> ContentDigest(OpContext& context, int input_index,
                                            const ResultPtr& input) override {
    auto digest =
        SelectedDigest(context, selectors_[static_cast<size_t>(input_index)], RefOf(input));
    if (digest.ok()) return digest;
    absl::Status status = digest.status();
    AttachFailedStep({.inputs = {RefOf(input)}, .cache_index = input_index}, &status);
    return status;
  }

  std::optional<std::string> KnownContentDigest(int input_index, const ResultPtr& input) override {
    std::vector<std::string> digests;
    for (const Selector& selector : selectors_[static_cast<size_t>(input_index)]) {
      const auto digest =
          refs_->KnownChecksum(RefOf(input), store::CleanPath(selector.path), selector.options);
      if (!digest.has_value()) return std::nullopt;
      digests.push_back(digest->ToString());
    }
    return CombineContentDigests(digests);
  }

  absl::StatusOr<ExecResult> Execute(OpContext& context,
                                     absl::Span<const ResultPtr> inputs) override {
    FailedStep failed;
    auto outputs =
        FileRun(refs_, op_.file(), plan_, inputs, context.cancel(), context.vertex().name)
            .Run(&failed);
    if (outputs.ok()) {
      ExecResult result;
      result.outputs = *std::move(outputs);
      return result;
    }
    absl::Status status = outputs.status();
    AttachFailedStep(std::move(failed), &status);
    return status;
  }

  bool TakesSlot() const override { return true; }

 private:
  void MakeSelectors();
  absl::StatusOr<std::string> SelectedDigest(OpContext& context,
                                             const std::vector<Selector>& selectors,
                                             const store::RefPtr& ref);

  store::RefStore* const refs_;
  const pb::Op op_;
  const FilePlan plan_;
  // By input, in the order of the actions.
  std::vector<std::vector<Selector>> selectors_;
  CacheMap map_;
};

void FileOp::MakeSelectors() {
  const int inputs = op_.inputs_size();
  std::vector<bool> is_primary(static_cast<size_t>(inputs));
  for (const pb::FileAction& action : op_.file().actions()) {
    if (action.input() >= 0 && action.input() < inputs)
      is_primary[static_cast<size_t>(action.input())] = true;
  }
  // The directory of a source is left out of the op's digest only where a selector names it.
  std::vector<bool> cut(static_cast<size_t>(op_.file().actions_size()));
  for (int i = 0; i < op_.file().actions_size(); ++i) {
    const pb::FileAction& action = op_.file().actions(i);
    AddOwner(action.mkdir().owner(), &selectors_);
    AddOwner(action.mkfile().owner(), &selectors_);
    AddOwner(action.symlink().owner(), &selectors_);
    AddOwner(action.copy().owner(), &selectors_);
    const int64_t from = action.secondaryinput();
    if (!action.has_copy() || from < 0 || from >= inputs || is_primary[static_cast<size_t>(from)])
      continue;
    selectors_[static_cast<size_t>(from)].push_back(SelectorOf(action.copy()));
    cut[static_cast<size_t>(i)] = true;
  }
  map_.op_digest = FileOpDigest(op_.file(), cut);
  map_.inputs.resize(static_cast<size_t>(inputs));
  for (size_t input = 0; input < selectors_.size(); ++input) {
    std::vector<Selector>& selectors = selectors_[input];
    if (is_primary[input]) selectors.clear();
    if (selectors.empty()) continue;
    std::vector<std::string> paths;
    for (const Selector& selector : selectors) paths.push_back(selector.path);
    // In the order of the actions: which action reads which path matters. BuildKit sorts, and so
    // takes an op for another one that has two sources swapped. One path is as BuildKit has it.
    map_.inputs[input].selector =
        Digest::Of(absl::StrJoin(paths, absl::string_view("\0", 1))).ToString();
    map_.inputs[input].content_key = true;
  }
}

absl::StatusOr<std::string> FileOp::SelectedDigest(OpContext& context,
                                                   const std::vector<Selector>& selectors,
                                                   const store::RefPtr& ref) {
  absl::flat_hash_map<std::string, std::string> known;
  std::vector<std::string> digests;
  for (const Selector& selector : selectors) {
    std::string& digest = known[Describe(selector)];
    if (digest.empty()) {
      KILN_ASSIGN_OR_RETURN(
          const Digest computed,
          Annotate(refs_->Checksum(ref, store::CleanPath(selector.path), selector.options,
                                   context.cancel()),
                   absl::StrCat("failed to calculate checksum of ref ", ref ? ref->id() : "")));
      digest = computed.ToString();
    }
    digests.push_back(digest);
  }
  return CombineContentDigests(digests);
}

}  // namespace

absl::StatusOr<std::shared_ptr<solver::Op>> MakeFileOp(store::RefStore* refs, pb::Op&& op) {
  KILN_ASSIGN_OR_RETURN(FilePlan plan, PlanFileOp(op.file(), op.inputs_size()));
  return std::make_shared<FileOp>(refs, std::move(op), std::move(plan));
}

}  // namespace kiln::daemon
