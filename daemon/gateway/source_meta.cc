#include "daemon/gateway/source_meta.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/gateway/bridge_context.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

SourceResolver MakeSourceResolver(std::vector<Source*> sources) {
  return [sources = std::move(sources)](
             const Bridge& bridge, absl::string_view bytes, const SourceQuestion& question,
             const CancelToken& cancel) -> absl::StatusOr<ResolvedSource> {
    pb::SourceOp op;
    if (!op.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return absl::InvalidArgumentError("malformed source");
    ResolvedSource resolved;
    FrontendClient::SourceFacts& facts = resolved.facts;
    facts.identifier = op.identifier();
    facts.attrs.insert(op.attrs().begin(), op.attrs().end());
    const size_t end = facts.identifier.find("://");
    if (end == std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat("invalid source \"", facts.identifier, "\""));
    const absl::string_view scheme = absl::string_view(facts.identifier).substr(0, end);
    if (scheme == "local") return resolved;
    for (Source* source : sources) {
      if (!source->Handles(scheme)) continue;
      KILN_ASSIGN_OR_RETURN(const auto instance, source->Resolve({facts.identifier, facts.attrs}));
      BridgeContext context(bridge, cancel);
      KILN_ASSIGN_OR_RETURN(const SourceKey key, instance->Key(context, 0));
      facts.checksum = key.pin;
      KILN_ASSIGN_OR_RETURN(SourceDetails details,
                            instance->Details(context, question.git_objects));
      facts.git_ref = std::move(details.git_ref);
      facts.git_commit = std::move(details.git_commit);
      facts.http_filename = std::move(details.filename);
      if (details.changed) facts.changed_unix_seconds = absl::ToUnixSeconds(*details.changed);
      resolved.git_commit_object = std::move(details.git_commit_object);
      resolved.git_tag_object = std::move(details.git_tag_object);
      if (question.checksum.has_value()) {
        KILN_ASSIGN_OR_RETURN(resolved.asked_checksum,
                              instance->Checksum(context, *question.checksum));
      }
      return resolved;
    }
    return absl::UnimplementedError(
        absl::StrCat("resolving ", scheme, " sources is not supported by this daemon yet"));
  };
}

}  // namespace kiln::daemon
