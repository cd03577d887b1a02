#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/ops/ref_result.h"
#include "daemon/ops/resolver.h"
#include "proto/buildkit/ops.pb.h"
#include "solver/op.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::daemon {

// What a running op sees in tests: one session, no cancel unless asked for.
class FakeContext final : public solver::OpContext {
 public:
  const CancelToken& cancel() const override { return cancel_; }
  solver::ProgressSink& progress() override { return sink_; }
  const solver::VertexInfo& vertex() const override { return vertex_; }
  std::vector<std::string> SessionIds() const override { return {"session"}; }
  solver::JobValues& job_values() override { return values_; }

  CancelToken cancel_;
  solver::VertexInfo vertex_;

 private:
  struct Sink final : solver::ProgressSink {
    void Status(solver::StatusUpdate) override {}
    void Log(solver::LogChunk) override {}
    void Warn(solver::Warning) override {}
  };
  struct Values final : solver::JobValues {
    absl::StatusOr<std::string> GetOrMake(
        const std::string&, const std::function<absl::StatusOr<std::string>()>& make) override {
      return make();
    }
  };
  Sink sink_;
  Values values_;
};

// Ops made by the resolver and run against a real store.
class OpsTest : public store::RefStoreTest {
 protected:
  using RefPtr = store::RefPtr;

  void SetUp() override {
    RefStoreTest::SetUp();
    if (HasFatalFailure()) return;
    resolver_ = std::make_unique<OpResolver>(
        store_.get(), std::vector<Source*>{},
        [](absl::string_view,
           const solver::VertexInfo&) -> absl::StatusOr<std::shared_ptr<solver::Op>> {
          return absl::UnimplementedError("exec");
        });
    context_.vertex_.name = "a step";
  }
  void TearDown() override {
    resolver_.reset();
    RefStoreTest::TearDown();
  }

  absl::StatusOr<std::shared_ptr<solver::Op>> Resolve(const pb::Op& op) {
    return resolver_->Resolve(op.SerializeAsString(), context_.vertex_);
  }
  absl::StatusOr<std::vector<RefPtr>> RunAll(const pb::Op& op, const std::vector<RefPtr>& inputs) {
    auto resolved = Resolve(op);
    if (!resolved.ok()) return resolved.status();
    std::vector<solver::ResultPtr> results;
    for (const RefPtr& input : inputs) results.push_back(MakeResult(input));
    auto result = (*resolved)->Execute(context_, results);
    if (!result.ok()) return result.status();
    std::vector<RefPtr> out;
    for (const solver::ResultPtr& output : result->outputs) out.push_back(RefOf(output));
    return out;
  }
  absl::StatusOr<RefPtr> Run(const pb::Op& op, const std::vector<RefPtr>& inputs = {}) {
    auto outputs = RunAll(op, inputs);
    if (!outputs.ok()) return outputs.status();
    EXPECT_EQ(outputs->size(), 1u);
    return (*outputs)[0];
  }
  solver::CacheMap MapOf(const pb::Op& op) {
    return store::Must(store::Must(Resolve(op))->MakeCacheMap(context_, 0));
  }
  // What the cache knows an op with these inputs by, when the given input counts by its content.
  std::string ContentKeyOf(const pb::Op& op, int input, const RefPtr& ref) {
    auto resolved = store::Must(Resolve(op));
    EXPECT_TRUE(MapOf(op).inputs[static_cast<size_t>(input)].content_key);
    const auto digest = resolved->ContentDigest(context_, input, MakeResult(ref));
    if (!digest.ok()) return digest.status().ToString();
    if (ref != nullptr) {
      EXPECT_EQ(resolved->KnownContentDigest(input, MakeResult(ref)), *digest);
    }
    return MapOf(op).op_digest + " " + *digest;
  }

  // An op with `inputs` inputs whose definition does not matter.
  static pb::Op OpWith(int inputs) {
    pb::Op op;
    for (int i = 0; i < inputs; ++i)
      op.add_inputs()->set_digest(Digest::Of(std::to_string(i)).ToString());
    return op;
  }
  // Appends an action to a file op; -1: the empty tree, or no output.
  static pb::FileAction* Act(pb::Op* op, int64_t input, int64_t secondary, int64_t output) {
    pb::FileAction* action = op->mutable_file()->add_actions();
    action->set_input(input);
    action->set_secondaryinput(secondary);
    action->set_output(output);
    return action;
  }
  static pb::FileActionCopy* Copy(pb::FileAction* action, const std::string& src,
                                  const std::string& dest) {
    pb::FileActionCopy* copy = action->mutable_copy();
    copy->set_src(src);
    copy->set_dest(dest);
    copy->set_mode(-1);
    copy->set_timestamp(-1);
    return copy;
  }
  static void Mkfile(pb::FileAction* action, const std::string& path, const std::string& data) {
    action->mutable_mkfile()->set_path(path);
    action->mutable_mkfile()->set_data(data);
    action->mutable_mkfile()->set_mode(0644);
    action->mutable_mkfile()->set_timestamp(-1);
  }
  static pb::FileActionMkDir* Mkdir(pb::FileAction* action, const std::string& path) {
    action->mutable_mkdir()->set_path(path);
    action->mutable_mkdir()->set_mode(0755);
    action->mutable_mkdir()->set_timestamp(-1);
    return action->mutable_mkdir();
  }
  static pb::FileActionRm* Rm(pb::FileAction* action, const std::string& path) {
    action->mutable_rm()->set_path(path);
    return action->mutable_rm();
  }
  static void Symlink(pb::FileAction* action, const std::string& target, const std::string& path) {
    action->mutable_symlink()->set_oldpath(target);
    action->mutable_symlink()->set_newpath(path);
    action->mutable_symlink()->set_timestamp(-1);
  }
  // One action on input 0, a copy from input 1.
  absl::StatusOr<RefPtr> RunCopy(const RefPtr& base, const RefPtr& from, const std::string& src,
                                 const std::string& dest,
                                 const std::function<void(pb::FileActionCopy*)>& edit = nullptr) {
    pb::Op op = OpWith(2);
    pb::FileActionCopy* copy = Copy(Act(&op, 0, 1, 0), src, dest);
    if (edit) edit(copy);
    return Run(op, {base, from});
  }

  // A tree written by hand.
  RefPtr Tree(const std::function<void(store::TreeWriter&)>& write, RefPtr parent = nullptr) {
    auto tree = store::Must(store_->New(std::move(parent), {}));
    write(tree->writer());
    return store::Must(tree->Commit());
  }
  static store::Entry Stat(const RefPtr& ref, const std::string& path) {
    const auto entry = store::TreeReader(store::Must(ref->Materialize({}))).Lstat(path);
    EXPECT_TRUE(entry.ok()) << entry.status();
    return entry.value_or(store::Entry());
  }
  static std::string ShowOr(const absl::StatusOr<RefPtr>& ref) {
    return ref.ok() ? Show(*ref) : ref.status().ToString();
  }

  FakeContext context_;
  std::unique_ptr<OpResolver> resolver_;
};

}  // namespace kiln::daemon
