#include "client/cli/source_policy.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/policy.pb.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kMaxBytes = 4 << 20;

}  // namespace

absl::StatusOr<std::string> ReadSourcePolicy(const std::string& file) {
  KILN_ASSIGN_OR_RETURN(const std::string text,
                        Annotate(ReadFileToString(file, kMaxBytes), "source policy"));
  moby::buildkit::v1::sourcepolicy::Policy policy;
  const auto parsed = google::protobuf::util::JsonStringToMessage(text, &policy);
  if (!parsed.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("source policy ", file, ": ", std::string(parsed.message())));
  return policy.SerializeAsString();
}

}  // namespace kiln::client
