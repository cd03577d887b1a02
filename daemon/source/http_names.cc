#include "daemon/source/http_names.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/source/go_values.h"

namespace kiln::daemon {
namespace {

std::string Base(absl::string_view path) {
  while (absl::ConsumeSuffix(&path, "/")) {
  }
  const size_t slash = path.rfind('/');
  return std::string(slash == absl::string_view::npos ? path : path.substr(slash + 1));
}

// ASCII control characters and U+0080 to U+009F.
bool HasControl(absl::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    if (c < 0x20 || c == 0x7f) return true;
    if (c == 0xc2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xa0) return true;
  }
  return false;
}

// One component that names a file, or "download".
std::string SafeName(absl::string_view text) {
  std::string name = Base(absl::StripAsciiWhitespace(text));
  if (name.empty() || name == "." || name == ".." || HasControl(name)) return "download";
  return name;
}

// Takes a token or a quoted string off the front.
std::string TakeValue(absl::string_view* rest) {
  std::string out;
  if (absl::ConsumePrefix(rest, "\"")) {
    while (!rest->empty() && rest->front() != '"') {
      if (rest->front() == '\\' && rest->size() > 1) rest->remove_prefix(1);
      out.push_back(rest->front());
      rest->remove_prefix(1);
    }
    absl::ConsumePrefix(rest, "\"");
    return out;
  }
  while (!rest->empty() && rest->front() != ';') {
    out.push_back(rest->front());
    rest->remove_prefix(1);
  }
  return std::string(absl::StripAsciiWhitespace(out));
}

// The file name of a Content-Disposition header; filename* (RFC 5987) before filename.
std::string DispositionName(absl::string_view header) {
  std::string plain, extended;
  size_t semicolon = header.find(';');
  while (semicolon != absl::string_view::npos) {
    header.remove_prefix(semicolon + 1);
    const size_t equals = header.find('=');
    if (equals == absl::string_view::npos) break;
    const std::string key =
        absl::AsciiStrToLower(absl::StripAsciiWhitespace(header.substr(0, equals)));
    header.remove_prefix(equals + 1);
    header = absl::StripLeadingAsciiWhitespace(header);
    const std::string value = TakeValue(&header);
    if (key == "filename") plain = value;
    if (key == "filename*") {
      const size_t charset = value.find('\'');
      const size_t language =
          charset == std::string::npos ? charset : value.find('\'', charset + 1);
      if (language != std::string::npos)
        extended = PercentDecode(absl::string_view(value).substr(language + 1));
    }
    semicolon = header.find(';');
  }
  return extended.empty() ? plain : extended;
}

// What comes between the host and '?' or '#'.
absl::string_view UrlPath(absl::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme != absl::string_view::npos) url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find_first_of("?#"));
  const size_t slash = url.find('/');
  return slash == absl::string_view::npos ? absl::string_view() : url.substr(slash);
}

}  // namespace

std::string DownloadName(absl::string_view url, absl::string_view wanted,
                         absl::string_view content_disposition) {
  if (!wanted.empty()) return SafeName(wanted);
  const std::string announced = DispositionName(content_disposition);
  if (!announced.empty() && !absl::EndsWith(announced, "/")) return SafeName(announced);
  return SafeName(PercentDecode(UrlPath(url)));
}

std::optional<absl::Time> ParseHttpDate(absl::string_view text) {
  for (const char* format :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    absl::Time time;
    std::string error;
    if (absl::ParseTime(format, std::string(text), absl::UTCTimeZone(), &time, &error)) return time;
  }
  return std::nullopt;
}

std::string FormatHttpDate(absl::Time time) {
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", time, absl::UTCTimeZone());
}

std::string UrlHost(absl::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme != absl::string_view::npos) url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find_first_of("/?#"));
  const size_t at = url.rfind('@');
  if (at != absl::string_view::npos) url.remove_prefix(at + 1);
  if (absl::ConsumePrefix(&url, "[")) return std::string(url.substr(0, url.find(']')));
  return std::string(url.substr(0, url.find(':')));
}

}  // namespace kiln::daemon
