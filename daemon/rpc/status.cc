#include "daemon/rpc/status.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/status_details.h"
#include "proto/utf8.h"

namespace kiln::daemon {

namespace {

// C++ peers are asked to accept 4 MiB of headers (base64 makes 4 out of 3), Go peers take 16 MiB.
constexpr size_t kMaxDetailsBytes = 2 << 20;
constexpr size_t kMaxMessageBytes = 256 << 10;

absl::Status Shortened(const absl::Status& status) {
  std::string message = ToValidUtf8(status.message().substr(0, kMaxMessageBytes));
  if (status.message().size() > kMaxMessageBytes) absl::StrAppend(&message, "… [cut]");
  std::vector<StatusDetail> details = Details(status);
  size_t total = message.size();
  for (const StatusDetail& detail : details) total += detail.type_url.size() + detail.value.size();
  while (total > kMaxDetailsBytes && !details.empty()) {
    const auto largest = std::max_element(
        details.begin(), details.end(),
        [](const auto& a, const auto& b) { return a.value.size() < b.value.size(); });
    total -= largest->type_url.size() + largest->value.size();
    details.erase(largest);
  }
  absl::Status out(status.code(), message);
  for (const StatusDetail& detail : details) AddDetail(detail.type_url, detail.value, &out);
  return out;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const absl::Status fit = Shortened(status);
  std::string details;
  if (!Details(fit).empty()) details = SerializeStatus(fit);
  return grpc::Status(static_cast<grpc::StatusCode>(fit.code()), std::string(fit.message()),
                      details);
}

absl::Status AsBuildFailure(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnavailable:  // to a client: this daemon, not some registry
    case absl::StatusCode::kDataLoss: {
      absl::Status told = absl::UnknownError(status.message());
      status.ForEachPayload(
          [&](absl::string_view url, const absl::Cord& detail) { told.SetPayload(url, detail); });
      return told;
    }
    default:
      return status;
  }
}

absl::Status FromGrpc(const grpc::Status& status) {
  return MakeStatus(status.error_code(), status.error_message(), status.error_details());
}

}  // namespace kiln::daemon
