#include "daemon/gateway/local_sources.h"

#include "absl/strings/match.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln::daemon {
namespace {

constexpr absl::string_view kLocalScheme = "local://";

}  // namespace

std::vector<std::string> LocalSources(const std::string& definition) {
  std::vector<std::string> sources;
  pb::Definition whole;
  if (!absl::StrContains(definition, kLocalScheme) || !whole.ParseFromString(definition))
    return sources;
  for (const std::string& bytes : whole.def()) {
    pb::Op op;
    if (!absl::StrContains(bytes, kLocalScheme) || !op.ParseFromString(bytes) ||
        !absl::StartsWith(op.source().identifier(), kLocalScheme))
      continue;
    const std::string digest = Digest::Of(bytes).ToString();
    pb::Definition alone;
    alone.add_def(bytes);
    if (const auto shown = whole.metadata().find(digest); shown != whole.metadata().end())
      (*alone.mutable_metadata())[digest] = shown->second;
    pb::Op root;
    root.add_inputs()->set_digest(digest);
    alone.add_def(root.SerializeAsString());
    sources.push_back(alone.SerializeAsString());
  }
  return sources;
}

}  // namespace kiln::daemon
