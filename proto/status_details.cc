#include "proto/status_details.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/go_json.h"
#include "proto/google/status.pb.h"
#include "proto/utf8.h"

namespace kiln {

namespace {

// Splits "url#3" into the URL and 3; without a number it is the first.
std::pair<absl::string_view, int> SplitPayloadUrl(absl::string_view url) {
  const size_t hash = url.rfind('#');
  int number = 1;
  if (hash == absl::string_view::npos || !absl::SimpleAtoi(url.substr(hash + 1), &number))
    return {url, 1};
  return {url.substr(0, hash), number};
}

std::string PayloadUrl(absl::string_view type_url, int number) {
  const bool ambiguous = SplitPayloadUrl(type_url).first != type_url;
  if (number == 1 && !ambiguous) return std::string(type_url);
  return absl::StrCat(type_url, "#", number);
}

void AppendPosition(absl::string_view name, const pb::Position& position, GoJson* json) {
  json->Key(name).BeginObject();
  json->OptInt("line", position.line()).OptInt("character", position.character());
  json->EndObject();
}

absl::StatusCode ToCode(int code) {
  if (code < 0 || code > 16) return absl::StatusCode::kUnknown;
  return static_cast<absl::StatusCode>(code);
}

bool IsOurOwn(absl::string_view url) { return absl::StartsWith(url, "kiln/"); }

void AddDetails(const google::rpc::Status& proto, absl::Status* status) {
  for (const auto& any : proto.details())
    if (!IsOurOwn(any.type_url())) AddDetail(any.type_url(), any.value(), status);
}

absl::Status FromProto(const google::rpc::Status& proto) {
  absl::Status status(ToCode(proto.code()), proto.message());
  AddDetails(proto, &status);
  return status;
}

}  // namespace

void AddDetail(absl::string_view type_url, absl::string_view value, absl::Status* status) {
  if (status->ok()) return;
  for (int number = 1;; ++number) {
    const std::string url = PayloadUrl(type_url, number);
    const auto present = status->GetPayload(url);
    if (present.has_value()) {
      if (*present == value) return;
      continue;
    }
    status->SetPayload(url, absl::Cord(value));
    return;
  }
}

void AddVertexDetail(absl::string_view digest, absl::Status* status) {
  GoJson json;
  json.BeginObject().OptString("digest", digest).EndObject();
  AddDetail(kVertexDetail, json.text(), status);
}

void AddExitDetail(uint32_t code, absl::Status* status) {
  GoJson json;
  json.BeginObject().OptUint("Code", code).EndObject();
  AddDetail(kExitDetail, json.text(), status);
}

void AddSourceDetail(absl::string_view info_bytes, absl::Span<const std::string> ranges,
                     absl::Status* status) {
  pb::SourceInfo info;
  if (!info.ParseFromArray(info_bytes.data(), static_cast<int>(info_bytes.size()))) return;
  GoJson json;
  // The definition is left out: nobody prints it, and it may be large.
  json.BeginObject().Key("info").BeginObject().OptString("filename", info.filename());
  if (!info.data().empty()) json.Key("data").Bytes(info.data());
  json.OptString("language", info.language()).EndObject();
  json.Key("ranges").BeginArray();
  for (const std::string& bytes : ranges) {
    pb::Range range;
    if (!range.ParseFromString(bytes)) continue;
    json.BeginObject();
    AppendPosition("start", range.start(), &json);  // clients need both ends present
    AppendPosition("end", range.end(), &json);
    json.EndObject();
  }
  json.EndArray().EndObject();
  AddDetail(kSourceDetail, json.text(), status);
}

std::vector<StatusDetail> Details(const absl::Status& status) {
  struct Entry {
    bool not_stack;
    std::string type_url;
    int number;
    std::string value;
  };
  std::vector<Entry> entries;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) {
    if (IsOurOwn(url)) return;
    const auto [type_url, number] = SplitPayloadUrl(url);
    entries.push_back(
        {type_url != kStackDetail, std::string(type_url), number, std::string(value)});
  });
  // Payloads are visited in no particular order.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.not_stack, a.type_url, a.number) <
           std::tie(b.not_stack, b.type_url, b.number);
  });
  std::vector<StatusDetail> details;
  details.reserve(entries.size());
  for (Entry& entry : entries)
    details.push_back({std::move(entry.type_url), std::move(entry.value)});
  return details;
}

std::string SerializeStatus(const absl::Status& status) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  proto.set_message(ToValidUtf8(status.message()));
  for (StatusDetail& detail : Details(status)) {
    auto* any = proto.add_details();
    any->set_type_url(std::move(detail.type_url));
    any->set_value(std::move(detail.value));
  }
  return proto.SerializeAsString();
}

absl::Status ParseStatus(absl::string_view bytes) {
  google::rpc::Status proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InternalError("malformed google.rpc.Status");
  return FromProto(proto);
}

absl::Status MakeStatus(int code, absl::string_view message, absl::string_view details_bytes) {
  absl::Status status(ToCode(code), message);
  google::rpc::Status proto;
  if (details_bytes.empty() || status.ok() ||
      !proto.ParseFromArray(details_bytes.data(), static_cast<int>(details_bytes.size())))
    return status;
  AddDetails(proto, &status);
  return status;
}

}  // namespace kiln
