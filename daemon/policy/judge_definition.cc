#include "daemon/policy/judge_definition.h"

#include <vector>

#include "daemon/exporter/parallel.h"
#include "daemon/policy/definition_edit.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kJudgedAtOnce = 8;  // a verifier may fetch before it decides

}  // namespace

absl::StatusOr<std::string> JudgeDefinition(absl::string_view definition, const SourceJudge& judge,
                                            const CancelToken& cancel) {
  DefinitionEdit edit(definition);
  std::vector<size_t> sources;
  for (size_t i = 0; i < edit.ops().size(); ++i) {
    // What it builds is known only when it runs, too late for a judge.
    if (edit.ops()[i]->has_build())
      return absl::UnimplementedError("build ops under a source policy are not supported");
    if (edit.ops()[i]->has_source()) sources.push_back(i);
  }
  KILN_RETURN_IF_ERROR(RunParallel(sources.size(), kJudgedAtOnce, [&](size_t i) -> absl::Status {
    pb::Op& op = *edit.ops()[sources[i]];
    SourceRef source{op.source().identifier(),
                     {op.source().attrs().begin(), op.source().attrs().end()}};
    KILN_ASSIGN_OR_RETURN(const bool changed,
                          judge.Judge(&source, op.platform().SerializeAsString(), cancel));
    if (!changed) return absl::OkStatus();
    edit.SetChanged(sources[i]);
    op.mutable_source()->set_identifier(source.identifier);
    op.mutable_source()->clear_attrs();
    for (const auto& [key, value] : source.attrs)
      (*op.mutable_source()->mutable_attrs())[key] = value;
    return absl::OkStatus();
  }));
  return edit.Finish();
}

}  // namespace kiln::daemon
