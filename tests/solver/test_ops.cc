#include "tests/solver/test_ops.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "store/base/check.h"

namespace kiln::solver {

std::string ValueOf(const ResultPtr& result) {
  return result == nullptr ? "" : static_cast<const TestResult&>(*result).value();
}

class TestOp : public Op {
 public:
  TestOp(TestWorld* world, absl::string_view spec, size_t inputs) : world_(*world) {
    std::vector<std::string> words = absl::StrSplit(spec, ' ');
    name_ = words[0];
    keys_ = {name_};
    inputs_.resize(inputs);
    for (size_t i = 1; i < words.size(); ++i) {
      if (words[i] == "noslot") slot_ = false;
      if (words[i] == "cheap") cheap_ = true;
      if (words[i] == "mine") per_session_ = true;
      if (words[i] == "early") early_ = true;
      const std::pair<std::string, std::string> option =
          absl::StrSplit(words[i], absl::MaxSplits('=', 1));
      const auto& [key, value] = option;
      if (key == "key" || key == "keys") keys_ = absl::StrSplit(value, ',');
      if (key == "value") value_ = value;
      if (key == "out") KILN_CHECK(absl::SimpleAtoi(value, &outputs_));
      if (key == "locks")
        for (absl::string_view lock : absl::StrSplit(value, ','))
          locks_.push_back({std::string(lock), true});
      if (key == "content") {
        for (absl::string_view index : absl::StrSplit(value, ',')) {
          size_t at = 0;
          KILN_CHECK(absl::SimpleAtoi(index, &at));
          inputs_[at].content_key = true;
        }
      }
      if (key == "sel") {
        const std::pair<std::string, std::string> selector = absl::StrSplit(value, ':');
        size_t at = 0;
        KILN_CHECK(absl::SimpleAtoi(selector.first, &at));
        inputs_[at].selector = selector.second;
      }
    }
  }

  absl::StatusOr<CacheMap> MakeCacheMap(OpContext& context, int index) override {
    TestWorld::OnMap hook;
    {
      MutexLock lock(&world_.mu_);
      ++world_.calls_[name_].maps;
      const auto it = world_.on_map_.find(name_);
      if (it != world_.on_map_.end()) hook = it->second;
    }
    if (hook) {
      absl::Status status = hook(context, index);
      if (!status.ok()) return status;
    }
    CacheMap map;
    const std::string key = per_session_ ? absl::StrCat("random:", context.SessionIds().front())
                                         : keys_[static_cast<size_t>(index)];
    map.op_digest = absl::StartsWith(key, "random:") ? key : Digest::Of(key).ToString();
    map.inputs = inputs_;
    map.final = static_cast<size_t>(index) + 1 == keys_.size();
    return map;
  }

  absl::StatusOr<std::string> ContentDigest(OpContext& context, int input_index,
                                            const ResultPtr& input) override {
    TestWorld::OnContent hook;
    {
      MutexLock lock(&world_.mu_);
      ++world_.calls_[name_].contents;
      const auto it = world_.on_content_.find(name_);
      if (it != world_.on_content_.end()) hook = it->second;
    }
    if (hook) {
      absl::Status status = hook(context, input_index);
      if (!status.ok()) return status;
    }
    return DigestOf(input_index, input);
  }

  std::optional<std::string> KnownContentDigest(int input_index, const ResultPtr& input) override {
    MutexLock lock(&world_.mu_);
    if (world_.content_known_.count(name_) == 0) return std::nullopt;
    return DigestOf(input_index, input);
  }

  absl::StatusOr<ExecResult> Execute(OpContext& context,
                                     absl::Span<const ResultPtr> inputs) override {
    TestWorld::OnRun hook;
    {
      MutexLock lock(&world_.mu_);
      ++world_.calls_[name_].runs;
      const auto it = world_.on_run_.find(name_);
      if (it != world_.on_run_.end()) hook = it->second;
    }
    std::string value = per_session_ ? context.SessionIds().front() : value_;
    if (value.empty()) {
      std::vector<std::string> parts;
      for (const ResultPtr& input : inputs) parts.push_back(ValueOf(input));
      value = absl::StrCat(keys_.back(), "(", absl::StrJoin(parts, ","), ")");
    }
    ExecResult result;
    for (int i = 0; i < outputs_; ++i)
      result.outputs.push_back(world_.NewResult(i == 0 ? value : absl::StrCat(value, ".", i)));
    if (hook) return hook(context, std::move(result));
    return result;
  }

  bool TakesSlot() const override { return slot_; }
  bool CheapCacheMap() const override { return cheap_; }
  bool CheapExecute() const override { return cheap_; }
  bool PerSession() const override { return per_session_; }
  bool RunsEarly() const override { return early_; }
  std::vector<Resource> Resources() const override { return locks_; }

 private:
  std::string DigestOf(int input_index, const ResultPtr& input) const {
    return Digest::Of(absl::StrCat(ValueOf(input), "|",
                                   inputs_[static_cast<size_t>(input_index)].selector))
        .ToString();
  }

  TestWorld& world_;
  std::string name_;
  std::vector<std::string> keys_;
  std::vector<CacheMapInput> inputs_;
  std::string value_;
  int outputs_ = 1;
  bool slot_ = true;
  bool cheap_ = false;
  bool per_session_ = false;
  bool early_ = false;
  std::vector<Resource> locks_;
};

void TestWorld::SetOnMap(const std::string& name, OnMap hook) {
  MutexLock lock(&mu_);
  on_map_[name] = std::move(hook);
}

void TestWorld::SetOnContent(const std::string& name, OnContent hook) {
  MutexLock lock(&mu_);
  on_content_[name] = std::move(hook);
}

void TestWorld::SetContentKnown(const std::string& name) {
  MutexLock lock(&mu_);
  content_known_.insert(name);
}

void TestWorld::SetOnRun(const std::string& name, OnRun hook) {
  MutexLock lock(&mu_);
  on_run_[name] = std::move(hook);
}

Calls TestWorld::calls(const std::string& name) const {
  MutexLock lock(&mu_);
  const auto it = calls_.find(name);
  return it == calls_.end() ? Calls() : it->second;
}

int TestWorld::total_runs() const {
  MutexLock lock(&mu_);
  int runs = 0;
  for (const auto& [name, calls] : calls_) runs += calls.runs;
  return runs;
}

int TestWorld::loads() const {
  MutexLock lock(&mu_);
  return loads_;
}

void TestWorld::ResetCounts() {
  MutexLock lock(&mu_);
  calls_.clear();
  loads_ = 0;
}

void TestWorld::DropResults(bool silently) {
  MutexLock lock(&mu_);
  if (silently)
    for (auto& [id, value] : stored_) vanished_[id] = value;
  stored_.clear();
}

ResultPtr TestWorld::NewResult(std::string value) {
  MutexLock lock(&mu_);
  return std::make_shared<TestResult>(absl::StrCat("test::", next_id_++), std::move(value));
}

absl::StatusOr<std::shared_ptr<Op>> TestWorld::Resolve(absl::string_view op_bytes,
                                                       const VertexInfo&) {
  pb::Op op;
  KILN_CHECK(op.ParseFromArray(op_bytes.data(), static_cast<int>(op_bytes.size())));
  if (op.op_case() == pb::Op::OP_NOT_SET) return absl::UnimplementedError("no support for <nil>");
  const std::string& spec = op.has_exec() ? op.exec().meta().args(0) : op.source().identifier();
  return std::make_shared<TestOp>(this, spec, static_cast<size_t>(op.inputs_size()));
}

bool TestWorld::Exists(absl::string_view result_id) {
  MutexLock lock(&mu_);
  return stored_.contains(result_id) || vanished_.contains(result_id);
}

absl::StatusOr<ResultPtr> TestWorld::Load(absl::string_view result_id) {
  MutexLock lock(&mu_);
  ++loads_;
  const auto it = stored_.find(result_id);
  if (it == stored_.end()) return absl::NotFoundError(absl::StrCat("no ref ", result_id));
  return std::make_shared<TestResult>(it->first, it->second);
}

absl::Status TestWorld::Retain(const ResultPtr& result) {
  MutexLock lock(&mu_);
  stored_[result->Id()] = ValueOf(result);
  return absl::OkStatus();
}

}  // namespace kiln::solver
