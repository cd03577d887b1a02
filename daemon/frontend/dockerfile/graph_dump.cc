#include "daemon/frontend/dockerfile/graph_dump.h"

#include <map>
#include <string>

#include "client/llb/dump.h"
#include "daemon/frontend/dockerfile/answer_format.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

absl::StatusOr<BridgeResult> DumpGraph(const Compilation& compilation) {
  using client::llb::JsonForm;
  KILN_ASSIGN_OR_RETURN(const client::llb::Definition graph, compilation.Marshal());
  pb::Definition definition;
  definition.ParseFromString(graph.Serialize());
  std::map<std::string, pb::Op> ops;
  for (const client::llb::Definition::Op& op : graph.ops()) {
    const std::string digest = op.digest.ToString();
    const absl::string_view bytes = graph.Bytes(op);
    ops[digest].ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    // {} for what stands nowhere, but the op that only names the last has no entry.
    if (&op != &graph.ops().back()) (*definition.mutable_source()->mutable_locations())[digest];
  }
  GoJson json;
  json.BeginObject().Key("def").BeginObject();
  for (const auto& [digest, op] : ops) WriteJson(op, JsonForm::kProto, &json.Key(digest));
  json.EndObject().Key("metadata").BeginObject();
  for (const auto& [digest, beside] : std::map<std::string, pb::OpMetadata>(
           definition.metadata().begin(), definition.metadata().end())) {
    WriteJson(beside, JsonForm::kStruct, &json.Key(digest));
  }
  json.EndObject();
  WriteJson(definition.source(), JsonForm::kProto, &json.Key("source"));
  json.EndObject();
  BridgeResult result;
  result.metadata = {{"result.json", Indented(json.text())}, {"version", "0.1.0"}};
  return result;
}

}  // namespace kiln::daemon::dockerfile
