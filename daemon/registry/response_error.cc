#include "daemon/registry/response_error.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kiln::daemon {

namespace {

constexpr size_t kMaxText = 512;

// One line of printable text, cut to size.
std::string Tidy(absl::string_view text) {
  std::string out;
  for (char c : absl::StripAsciiWhitespace(text)) {
    if (out.size() == kMaxText) return absl::StrCat(out, "…");
    out.push_back(absl::ascii_iscntrl(static_cast<unsigned char>(c)) ? ' ' : c);
  }
  return out;
}

absl::StatusCode CodeOf(int status) {
  switch (status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 408:
    case 429:
      return absl::StatusCode::kUnavailable;
    default:
      return status >= 500 ? absl::StatusCode::kUnavailable : absl::StatusCode::kFailedPrecondition;
  }
}

// Answers to HEAD say no more than their number.
absl::string_view ReasonOf(int status) {
  switch (status) {
    case 400:
      return " Bad Request";
    case 401:
      return " Unauthorized";
    case 403:
      return " Forbidden";
    case 404:
      return " Not Found";
    case 405:
      return " Method Not Allowed";
    case 429:
      return " Too Many Requests";
    case 500:
      return " Internal Server Error";
    case 502:
      return " Bad Gateway";
    case 503:
      return " Service Unavailable";
    case 504:
      return " Gateway Timeout";
    default:
      return "";
  }
}

}  // namespace

std::string ErrorBodyText(absl::string_view body) {
  const nlohmann::json json = nlohmann::json::parse(body.begin(), body.end(), nullptr, false);
  if (!json.is_object() || !json.contains("errors") || !json["errors"].is_array()) {
    // Token servers (RFC 6749, 5.2) and gateways say it in one member.
    for (const char* key : {"error_description", "details", "message", "error"})
      if (json.is_object() && json.contains(key) && json[key].is_string())
        return Tidy(json[key].get<std::string>());
    return Tidy(body.substr(0, kMaxText));
  }
  std::vector<std::string> parts;
  for (const nlohmann::json& error : json["errors"]) {
    if (!error.is_object()) continue;
    const auto text = [&](const char* key) {
      auto it = error.find(key);
      return it != error.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    std::string part = absl::StrCat(text("code"), ": ", text("message"));
    auto detail = error.find("detail");
    if (detail != error.end() && !detail->is_null())
      absl::StrAppend(&part, " ",
                      detail->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    parts.push_back(std::move(part));
  }
  return Tidy(absl::StrJoin(parts, "; "));
}

absl::Status StatusError(absl::string_view method, absl::string_view url, int status,
                         absl::string_view text) {
  return absl::Status(CodeOf(status),
                      absl::StrCat("unexpected status from ", method, " ", RedactUrl(url), ": ",
                                   status, ReasonOf(status), text.empty() ? "" : ": ", text));
}

absl::Status ResponseError(absl::string_view method, absl::string_view url,
                           const HttpResponse& response) {
  return StatusError(method, url, response.status, ErrorBodyText(response.error_body));
}

}  // namespace kiln::daemon
