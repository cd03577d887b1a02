#include "daemon/ops/failed_step.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/cord.h"

namespace kiln::daemon {

namespace {

// A SolveDetail as JSON, whose ids are those of refs. The memory behind it owns them.
constexpr absl::string_view kPayload = "kiln/failed-step";

template <typename Held>
void SetPayload(const SolveDetail& detail, Held held, absl::Status* status) {
  struct Owner {
    std::string text;
    Held held;
  };
  auto owner = std::make_shared<const Owner>(Owner{ToJson(detail), std::move(held)});
  const absl::string_view text = owner->text;
  status->SetPayload(kPayload, absl::MakeCordFromExternal(text, [owner = std::move(owner)] {}));
}

std::vector<std::string> Ids(const std::vector<store::RefPtr>& refs) {
  std::vector<std::string> ids;
  ids.reserve(refs.size());
  for (const store::RefPtr& ref : refs) ids.push_back(ref == nullptr ? "" : ref->id());
  return ids;
}

}  // namespace

void AttachFailedStep(FailedStep step, absl::Status* status) {
  if (status->ok() || absl::IsCancelled(*status)) return;
  SolveDetail detail;
  detail.input_ids = Ids(step.inputs);
  detail.mount_ids = Ids(step.mounts);
  detail.file_index = step.file_index;
  detail.cache_index = step.cache_index;
  SetPayload(detail, std::move(step), status);
}

std::optional<SolveDetail> FailedStepOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return std::nullopt;
  auto detail = SolveDetailFromJson(std::string(*payload));
  if (!detail.ok()) return std::nullopt;
  return *std::move(detail);
}

void DescribeFailedStep(std::string op, std::map<std::string, std::string> description,
                        absl::Status* status) {
  if (status->ok() || absl::IsCancelled(*status)) return;
  SolveDetail detail = FailedStepOf(*status).value_or(SolveDetail());
  detail.op = std::move(op);
  detail.description = std::move(description);
  SetPayload(detail, status->GetPayload(kPayload), status);
}

absl::Status WithoutFailedStep(absl::Status status) {
  status.ErasePayload(kPayload);
  return status;
}

}  // namespace kiln::daemon
