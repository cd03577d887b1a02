#include "daemon/ops/ref_result.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr absl::string_view kPrefix = "kiln::";

}  // namespace

std::string ResultId(absl::string_view ref_id) { return absl::StrCat(kPrefix, ref_id); }

std::string RefResult::Id() const { return ResultId(ref_ ? ref_->id() : ""); }

solver::ResultPtr MakeResult(store::RefPtr ref) {
  return std::make_shared<RefResult>(std::move(ref));
}

store::RefPtr RefOf(const solver::ResultPtr& result) {
  if (result == nullptr) return nullptr;
  const auto* ours = dynamic_cast<const RefResult*>(result.get());
  KILN_CHECK(ours != nullptr);
  return ours->ref();
}

bool RefResultLoader::Exists(absl::string_view result_id) {
  if (!absl::ConsumePrefix(&result_id, kPrefix)) return false;
  return result_id.empty() || refs_->Get(result_id).ok();
}

absl::StatusOr<solver::ResultPtr> RefResultLoader::Load(absl::string_view result_id) {
  if (!absl::ConsumePrefix(&result_id, kPrefix))
    return absl::NotFoundError(absl::StrCat("result ", result_id, " is of another worker"));
  if (result_id.empty()) return MakeResult(nullptr);
  KILN_ASSIGN_OR_RETURN(store::RefPtr ref, refs_->Get(result_id));
  return MakeResult(std::move(ref));
}

absl::Status RefResultLoader::Retain(const solver::ResultPtr& result) {
  const store::RefPtr ref = RefOf(result);
  return ref == nullptr ? absl::OkStatus() : refs_->SetRetained(ref->id());
}

}  // namespace kiln::daemon
