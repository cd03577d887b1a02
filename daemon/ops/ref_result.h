#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "solver/op.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// The one kind of result that ops yield: a file tree. nullptr inside is the empty tree.
class RefResult : public solver::Result {
 public:
  explicit RefResult(store::RefPtr ref) : ref_(std::move(ref)) {}
  const store::RefPtr& ref() const { return ref_; }
  // "kiln::<ref id>"; "kiln::" for the empty tree.
  std::string Id() const override;

 private:
  const store::RefPtr ref_;
};

// Id() of the result that is the tree `ref_id`.
std::string ResultId(absl::string_view ref_id);
solver::ResultPtr MakeResult(store::RefPtr ref);
// The tree of a result of ours; nullptr for the empty tree and for a null result.
store::RefPtr RefOf(const solver::ResultPtr& result);

// Finds results of earlier runs in the ref store, which outlives it.
class RefResultLoader : public solver::ResultLoader {
 public:
  explicit RefResultLoader(store::RefStore* refs) : refs_(refs) {}
  bool Exists(absl::string_view result_id) override;
  absl::StatusOr<solver::ResultPtr> Load(absl::string_view result_id) override;
  absl::Status Retain(const solver::ResultPtr& result) override;

 private:
  store::RefStore* const refs_;
};

}  // namespace kiln::daemon
