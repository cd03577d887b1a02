#include "daemon/session/call_metadata.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/query_escape.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// The server's SETTINGS_MAX_HEADER_LIST_SIZE is 1 MiB; room is left for gRPC's own headers.
constexpr size_t kMaxHeaderBytes = (1 << 20) - (16 << 10);

bool IsKeyChar(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '_' || c == '.';
}

bool IsPrintable(absl::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

// Blanks at the ends do not survive HTTP.
bool IsPlain(absl::string_view value) {
  return IsPrintable(value) && !absl::StartsWith(value, " ") && !absl::EndsWith(value, " ");
}

}  // namespace

absl::Status CallMetadata::Add(absl::string_view key, absl::string_view value) {
  const std::string name = absl::AsciiStrToLower(key);
  if (name.empty() || !std::all_of(name.begin(), name.end(), IsKeyChar) ||
      absl::EndsWith(name, "-bin"))
    return absl::InvalidArgumentError(
        absl::StrCat("invalid header name \"", absl::Utf8SafeCHexEscape(key), "\""));
  if (!IsPrintable(value))
    return absl::InvalidArgumentError(absl::StrCat("header ", name, ": value \"",
                                                   absl::Utf8SafeCHexEscape(value),
                                                   "\" is not printable ASCII"));
  bytes_ += name.size() + value.size() + 32;
  entries_.emplace_back(name, std::string(value));
  return absl::OkStatus();
}

absl::Status CallMetadata::AddEncoded(absl::string_view key,
                                      const std::vector<std::string>& values) {
  const bool plain =
      std::all_of(values.begin(), values.end(), [](const std::string& v) { return IsPlain(v); });
  for (const std::string& value : values)
    KILN_RETURN_IF_ERROR(Add(key, plain ? value : QueryEscape(value)));
  return plain ? absl::OkStatus() : Add(absl::StrCat(key, "-encoded"), "1");
}

absl::Status CallMetadata::CheckSize(absl::string_view what) const {
  if (bytes_ <= kMaxHeaderBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " are too large to be sent: ", bytes_,
                                                 " bytes, at most ", kMaxHeaderBytes,
                                                 " are accepted by a client"));
}

}  // namespace kiln::daemon
