#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "solver/op.h"
#include "store/base/mutex.h"

namespace kiln::solver {

// A result of a test op: a text.
class TestResult : public Result {
 public:
  TestResult(std::string id, std::string value) : id_(std::move(id)), value_(std::move(value)) {}
  std::string Id() const override { return id_; }
  const std::string& value() const { return value_; }

 private:
  const std::string id_;
  const std::string value_;
};

// The text of a result; "" for the empty tree.
std::string ValueOf(const ResultPtr& result);

// What was called for the vertices of one name.
struct Calls {
  int maps = 0;
  int contents = 0;
  int runs = 0;
};

// Ops, results and behaviour shared by the solvers of one test. Thread-safe.
class TestWorld : public OpResolver, public ResultLoader {
 public:
  // Run instead of the default, on the calling thread, by vertex name. They may block.
  using OnMap = std::function<absl::Status(OpContext&, int index)>;
  using OnContent = std::function<absl::Status(OpContext&, int input)>;
  using OnRun = std::function<absl::StatusOr<ExecResult>(OpContext&, ExecResult made)>;
  void SetOnMap(const std::string& name, OnMap hook);
  void SetOnContent(const std::string& name, OnContent hook);
  // The op knows the content of its inputs without being called.
  void SetContentKnown(const std::string& name);
  // Gets what the op would give and may give it, or something else.
  void SetOnRun(const std::string& name, OnRun hook);

  Calls calls(const std::string& name) const;
  int total_runs() const;
  int loads() const;
  void ResetCounts();

  // Deletes the results behind the index's back. With `silently` Exists still says yes.
  void DropResults(bool silently);

  absl::StatusOr<std::shared_ptr<Op>> Resolve(absl::string_view op_bytes,
                                              const VertexInfo& vertex) override;
  bool Exists(absl::string_view result_id) override;
  absl::StatusOr<ResultPtr> Load(absl::string_view result_id) override;
  absl::Status Retain(const ResultPtr& result) override;

 private:
  friend class TestOp;
  ResultPtr NewResult(std::string value);

  mutable Mutex mu_;
  std::map<std::string, OnMap> on_map_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, OnContent> on_content_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> content_known_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, OnRun> on_run_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Calls> calls_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, std::string> stored_ ABSL_GUARDED_BY(mu_);  // id -> value
  absl::flat_hash_map<std::string, std::string> vanished_ ABSL_GUARDED_BY(mu_);
  int loads_ ABSL_GUARDED_BY(mu_) = 0;
  int next_id_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace kiln::solver
