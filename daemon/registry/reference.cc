#include "daemon/registry/reference.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kHub[] = "docker.io";
constexpr char kOldHub[] = "index.docker.io";
constexpr char kHubPrefix[] = "library/";
constexpr size_t kMaxRepository = 255;
constexpr size_t kMaxTag = 128;

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid reference format: \"", text, "\": ", why));
}

template <typename Test>
bool All(absl::string_view text, Test test) {
  return !text.empty() && std::all_of(text.begin(), text.end(), test);
}

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }
bool IsLowerAlnum(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z'); }

// "localhost", "example.com:5000", "[::1]:5000".
bool IsDomain(absl::string_view text) {
  if (absl::ConsumePrefix(&text, "[")) {
    const size_t close = text.find(']');
    if (close == absl::string_view::npos) return false;
    if (!All(text.substr(0, close), [](char c) {
          return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == ':';
        }))
      return false;
    text.remove_prefix(close + 1);
    return text.empty() || (absl::ConsumePrefix(&text, ":") && All(text, IsDigit));
  }
  const size_t colon = text.find(':');
  if (colon != absl::string_view::npos && !All(text.substr(colon + 1), IsDigit)) return false;
  for (absl::string_view part : absl::StrSplit(text.substr(0, colon), '.')) {
    if (!All(part, [](char c) { return IsAlnum(c) || c == '-'; })) return false;
    if (part.front() == '-' || part.back() == '-') return false;
  }
  return true;
}

// "[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
bool IsPathComponent(absl::string_view text) {
  if (text.empty() || !IsLowerAlnum(text.front()) || !IsLowerAlnum(text.back())) return false;
  while (!text.empty()) {
    if (IsLowerAlnum(text.front())) {
      text.remove_prefix(1);
      continue;
    }
    const size_t end = std::find_if(text.begin(), text.end(), IsLowerAlnum) - text.begin();
    const absl::string_view separator = text.substr(0, end);
    if (separator != "." && separator != "_" && separator != "__" &&
        !All(separator, [](char c) { return c == '-'; }))
      return false;
    text.remove_prefix(end);
  }
  return true;
}

bool IsTag(absl::string_view text) {
  return text.size() <= kMaxTag &&
         All(text, [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; }) &&
         text.front() != '.' && text.front() != '-';
}

// Takes ":tag" and "@digest" off the end of `rest`.
absl::Status TakeObject(absl::string_view whole, absl::string_view* rest, Reference* out) {
  const size_t at = rest->find('@');
  if (at != absl::string_view::npos) {
    absl::StatusOr<Digest> digest = Digest::Parse(rest->substr(at + 1));
    if (!digest.ok())
      return absl::Status(
          digest.status().code(),
          absl::StrCat("invalid reference format: \"", whole, "\": ", digest.status().message()));
    out->digest = *digest;
    *rest = rest->substr(0, at);
  }
  const size_t colon = rest->rfind(':');
  if (colon == absl::string_view::npos) return absl::OkStatus();
  out->tag = std::string(rest->substr(colon + 1));
  if (!IsTag(out->tag)) return Invalid(whole, absl::StrCat("\"", out->tag, "\" is no tag"));
  *rest = rest->substr(0, colon);
  return absl::OkStatus();
}

absl::Status CheckRepository(absl::string_view whole, const Reference& reference) {
  if (!IsDomain(reference.domain))
    return Invalid(whole, absl::StrCat("\"", reference.domain, "\" is no host"));
  if (reference.path.empty()) return Invalid(whole, "no repository");
  if (std::any_of(reference.path.begin(), reference.path.end(),
                  [](char c) { return absl::ascii_isupper(static_cast<unsigned char>(c)); }))
    return Invalid(whole, "repository name must be lowercase");
  for (absl::string_view part : absl::StrSplit(reference.path, '/'))
    if (!IsPathComponent(part))
      return Invalid(whole, absl::StrCat("\"", part, "\" is no part of a repository name"));
  if (reference.Repository().size() > kMaxRepository)
    return Invalid(whole,
                   absl::StrCat("repository name has more than ", kMaxRepository, " characters"));
  return absl::OkStatus();
}

bool LooksLikeDomain(absl::string_view first) {
  return first == "localhost" || absl::StrContains(first, ".") || absl::StrContains(first, ":") ||
         std::any_of(first.begin(), first.end(),
                     [](char c) { return absl::ascii_isupper(static_cast<unsigned char>(c)); });
}

}  // namespace

absl::StatusOr<Reference> Reference::ParseFamiliar(absl::string_view text) {
  if (text.empty()) return Invalid(text, "it is empty");
  if (text.size() == 64 && All(text, [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); }))
    return Invalid(text, "64 hexadecimal digits cannot be told from an image id");
  Reference out;
  absl::string_view rest = text;
  const size_t slash = rest.find('/');
  if (slash != absl::string_view::npos && LooksLikeDomain(rest.substr(0, slash))) {
    out.domain = std::string(rest.substr(0, slash));
    rest.remove_prefix(slash + 1);
  } else {
    out.domain = kHub;
  }
  if (out.domain == kOldHub) out.domain = kHub;
  KILN_RETURN_IF_ERROR(TakeObject(text, &rest, &out));
  out.path = std::string(rest);
  if (out.domain == kHub && !out.path.empty() && !absl::StrContains(out.path, "/"))
    out.path = absl::StrCat(kHubPrefix, out.path);
  KILN_RETURN_IF_ERROR(CheckRepository(text, out));
  if (out.tag.empty() && !out.digest.has_value()) out.tag = "latest";
  return out;
}

absl::StatusOr<Reference> Reference::ParseStrict(absl::string_view text) {
  if (absl::StrContains(text, "://")) return Invalid(text, "it has a scheme");
  Reference out;
  absl::string_view rest = text;
  const size_t slash = rest.find('/');
  if (slash == absl::string_view::npos || slash == 0) return Invalid(text, "hostname required");
  out.domain = std::string(rest.substr(0, slash));
  rest.remove_prefix(slash + 1);
  KILN_RETURN_IF_ERROR(TakeObject(text, &rest, &out));
  out.path = std::string(rest);
  KILN_RETURN_IF_ERROR(CheckRepository(text, out));
  if (out.tag.empty() && !out.digest.has_value())
    return Invalid(text, "object required: neither a tag nor a digest");
  return out;
}

std::string Reference::Repository() const { return absl::StrCat(domain, "/", path); }

std::string Reference::ToString() const {
  return absl::StrCat(Repository(), tag.empty() ? "" : ":", tag,
                      digest.has_value() ? absl::StrCat("@", digest->ToString()) : "");
}

std::string Reference::Familiar() const {
  absl::string_view name = path;
  std::string whole = ToString();
  if (domain != kHub) return whole;
  whole.erase(0, domain.size() + 1);
  if (absl::ConsumePrefix(&name, kHubPrefix) && !absl::StrContains(name, "/"))
    whole.erase(0, sizeof(kHubPrefix) - 1);
  return whole;
}

}  // namespace kiln::daemon
