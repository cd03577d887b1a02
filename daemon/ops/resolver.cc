#include "daemon/ops/resolver.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/ops/ops.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

bool IsKnownScheme(absl::string_view scheme) {
  for (const char* known : {"docker-image", "oci-layout", "docker-image+blob", "oci-layout+blob",
                            "local", "git", "http", "https"}) {
    if (scheme == known) return true;
  }
  return false;
}

}  // namespace

OpResolver::OpResolver(store::RefStore* refs, std::vector<Source*> sources, ExecOpFactory make_exec,
                       PinListener on_pin)
    : refs_(refs),
      sources_(std::move(sources)),
      make_exec_(std::move(make_exec)),
      on_pin_(std::move(on_pin)) {}

std::shared_ptr<solver::Op> OpResolver::ResolveSource(SourceSpec spec) {
  const size_t colon = spec.identifier.find("://");
  if (colon == std::string::npos)
    return MakeFailingOp(
        absl::InvalidArgumentError(absl::StrCat("failed to parse ", spec.identifier)));
  const std::string scheme = spec.identifier.substr(0, colon);
  for (Source* source : sources_) {
    if (!source->Handles(scheme)) continue;
    auto instance = source->Resolve(spec);
    return instance.ok() ? MakeSourceOp(*std::move(instance), on_pin_)
                         : MakeFailingOp(instance.status());
  }
  if (IsKnownScheme(scheme))
    return MakeFailingOp(absl::UnimplementedError(
        absl::StrCat("source ", spec.identifier, ": ", scheme, " sources are not supported yet")));
  return MakeFailingOp(absl::InvalidArgumentError(absl::StrCat("unknown scheme ", scheme)));
}

absl::StatusOr<std::shared_ptr<solver::Op>> OpResolver::Resolve(absl::string_view op_bytes,
                                                                const solver::VertexInfo& vertex) {
  pb::Op op;
  if (!op.ParseFromArray(op_bytes.data(), static_cast<int>(op_bytes.size())))
    return absl::InvalidArgumentError("failed to parse llb proto op");
  switch (op.op_case()) {
    case pb::Op::kExec:
      return make_exec_(op_bytes, vertex);
    case pb::Op::kSource: {
      if (op.inputs_size() > 0)
        return absl::InvalidArgumentError(
            absl::StrCat("source op ", op.source().identifier(), " has inputs"));
      SourceSpec spec;
      spec.identifier = op.source().identifier();
      spec.attrs.insert(op.source().attrs().begin(), op.source().attrs().end());
      spec.platform = {op.platform().os(),
                       op.platform().architecture(),
                       op.platform().variant(),
                       op.platform().osversion(),
                       {op.platform().osfeatures().begin(), op.platform().osfeatures().end()}};
      return ResolveSource(std::move(spec));
    }
    case pb::Op::kFile:
      return MakeFileOp(refs_, std::move(op));
    case pb::Op::kMerge:
      return MakeMergeOp(refs_, std::move(op));
    case pb::Op::kDiff:
      return MakeDiffOp(refs_, std::move(op));
    case pb::Op::kPassthrough:
      return MakePassthroughOp(std::move(op));
    case pb::Op::kBuild:
      return MakeBuildOp(std::move(op));
    default:
      // Loads, and fails when it is solved.
      return MakeFailingOp(absl::InvalidArgumentError("no support for <nil>"));
  }
}

}  // namespace kiln::daemon
