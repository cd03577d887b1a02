#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/policy/source_policy.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// Decides on the sources of a build before they are used: the static rules of the build first, then
// the client's verifier, when it offers one. Immutable; thread-safe.
class SourceJudge {
 public:
  // Resolves what is known of a source: takes a serialized ResolveSourceMetaRequest, gives a
  // ResolveSourceMetaResponse. Asks no judge. Blocks.
  using Resolver = std::function<absl::StatusOr<std::string>(const std::string& request,
                                                             const CancelToken& cancel)>;
  // The service PolicyVerifier of one session.
  struct Verifier {
    std::string session_id;
    SessionFinder* sessions = nullptr;  // outlives the judge
    Resolver resolve;
  };

  // Serialized sourcepolicy.Policy each. kInvalidArgument names a rule that makes no sense.
  static absl::StatusOr<std::shared_ptr<const SourceJudge>> Create(
      std::vector<std::string> policies, std::shared_ptr<const Verifier> verifier);
  // A judge with further policies, asked after those of `base`. `base` may be null, and is the
  // answer when there are none.
  static absl::StatusOr<std::shared_ptr<const SourceJudge>> With(
      std::shared_ptr<const SourceJudge> base, const std::vector<std::string>& policies);

  // Changes the source as policies say; true when that changed anything. `platform` is a serialized
  // pb.Platform. kPermissionDenied for a source that is refused, with the verifier's messages as a
  // detail. Waits for the verifier's session until `cancel`. Blocks.
  absl::StatusOr<bool> Judge(SourceRef* source, absl::string_view platform,
                             const CancelToken& cancel) const;

 private:
  SourceJudge() = default;
  absl::Status Verify(SourceRef* source, absl::string_view platform,
                      const CancelToken& cancel) const;

  std::vector<std::string> policies_;
  std::shared_ptr<const SourcePolicy> rules_;
  std::shared_ptr<const Verifier> verifier_;  // null: static rules only
};

}  // namespace kiln::daemon
