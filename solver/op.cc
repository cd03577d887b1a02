#include "solver/op.h"

#include "absl/strings/cord.h"

namespace kiln::solver {
namespace {

constexpr absl::string_view kSessionLost = "kiln/session-lost";

}  // namespace

absl::Status SessionLostError(absl::Status status) {
  if (!status.ok()) status.SetPayload(kSessionLost, absl::Cord());
  return status;
}

bool IsSessionLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || status.GetPayload(kSessionLost).has_value();
}

}  // namespace kiln::solver
