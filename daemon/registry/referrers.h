#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// A manifest that speaks of another one (OCI distribution-spec, "Pushing Manifests with Subject").
struct Referrer {
  Digest subject;
  std::string entry;  // as the list of those that speak of the subject names it
};
// nullopt: it has no subject.
std::optional<Referrer> ReferrerOf(const store::Descriptor& descriptor, absl::string_view manifest);

// Where registries that do not keep the list themselves have it: "sha256-<hex>".
std::string ReferrersTag(const Digest& subject);

// The list with the referrer in it, which is `index` itself when it is there already. `index` "":
// there is none yet. What others wrote into it stays. kFailedPrecondition when it is no index.
absl::StatusOr<std::string> WithReferrer(absl::string_view index, const Referrer& referrer);

}  // namespace kiln::daemon
