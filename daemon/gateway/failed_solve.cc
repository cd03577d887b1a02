#include "daemon/gateway/failed_solve.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "daemon/gateway/bridge.h"
#include "daemon/ops/failed_step.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"
#include "proto/solve_detail.h"
#include "proto/status_details.h"
#include "store/ref_store.h"

namespace kiln::daemon {

namespace {

// "" when the error names none.
std::string FailedVertex(const absl::Status& status) {
  const auto detail = status.GetPayload(kVertexDetail);
  if (!detail.has_value()) return "";
  const auto json =
      nlohmann::json::parse(std::string(*detail), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("digest") || !json["digest"].is_string()) return "";
  return json["digest"].get<std::string>();
}

// The digest of the canonical form, whose inputs are named in that way, too (solver/definition.h).
std::string SolvedDigest(const std::string& bytes,
                         const absl::flat_hash_map<std::string, std::string>& known_as) {
  pb::Op op;
  if (!op.ParseFromString(bytes)) return "";
  for (pb::Input& input : *op.mutable_inputs())
    if (const auto found = known_as.find(input.digest()); found != known_as.end())
      input.set_digest(found->second);
  return Digest::Of(CanonicalOpBytes(op)).ToString();
}

}  // namespace

absl::Status DescribeFailure(absl::string_view definition, absl::Status status) {
  const std::string vertex = FailedVertex(status);
  pb::Definition parsed;
  if (vertex.empty() ||
      !parsed.ParseFromArray(definition.data(), static_cast<int>(definition.size())))
    return status;
  absl::flat_hash_map<std::string, std::string> known_as;  // digest as sent -> the solver's
  for (const std::string& op : parsed.def()) {             // inputs come first
    const std::string sent = Digest::Of(op).ToString();
    const std::string solved = SolvedDigest(op, known_as);
    known_as.emplace(sent, solved);
    if (sent != vertex && solved != vertex) continue;
    std::map<std::string, std::string> description;
    if (const auto found = parsed.metadata().find(sent); found != parsed.metadata().end())
      description.insert(found->second.description().begin(), found->second.description().end());
    DescribeFailedStep(op, std::move(description), &status);
    break;
  }
  return status;
}

absl::Status TellFailedStep(absl::Status status, Bridge& bridge, store::RefStore* refs) {
  std::optional<SolveDetail> step = FailedStepOf(status);
  if (!step.has_value()) return status;
  for (std::vector<std::string>* ids : {&step->input_ids, &step->mount_ids}) {
    for (std::string& id : *ids) {
      if (id.empty()) continue;
      // The error holds it; without a store nothing can be mounted anyway.
      auto tree = refs == nullptr ? absl::NotFoundError("no trees") : refs->Get(id);
      id = tree.ok() ? bridge.KeepFailed(*std::move(tree)) : "";
    }
  }
  status = WithoutFailedStep(std::move(status));
  AddDetail(kSolveDetail, ToJson(*step), &status);
  return status;
}

}  // namespace kiln::daemon
