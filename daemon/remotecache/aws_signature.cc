#include "daemon/remotecache/aws_signature.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/digest.h"

namespace kiln::daemon {

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string HmacSha256(absl::string_view key, absl::string_view text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out, &size);
  return std::string(reinterpret_cast<const char*>(out), size);
}

// Trimmed, runs of blanks as one.
std::string TrimAll(absl::string_view value) {
  std::string out(value);
  absl::RemoveExtraAsciiWhitespace(&out);
  return out;
}

}  // namespace

std::string AwsTime(absl::Time time) {
  return absl::FormatTime("%Y%m%dT%H%M%SZ", time, absl::UTCTimeZone());
}

std::string AwsEncode(absl::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '.' || c == '_' || c == '~' ||
        (c == '/' && keep_slash)) {
      out.push_back(c);
    } else {
      out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
  return out;
}

std::string AwsQuery(const Pairs& query) {
  Pairs encoded;
  for (const auto& [name, value] : query)
    encoded.emplace_back(AwsEncode(name, false), AwsEncode(value, false));
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (const auto& [name, value] : encoded)
    absl::StrAppend(&out, out.empty() ? "" : "&", name, "=", value);
  return out;
}

std::string AwsAuthorization(const AwsCredentials& credentials, absl::string_view region,
                             absl::string_view service, absl::Time now,
                             const AwsSignedRequest& request) {
  Pairs headers;
  for (const auto& [name, value] : request.headers)
    headers.emplace_back(absl::AsciiStrToLower(name), TrimAll(value));
  std::sort(headers.begin(), headers.end());
  std::string lines, names;
  for (const auto& [name, value] : headers) {
    absl::StrAppend(&lines, name, ":", value, "\n");
    absl::StrAppend(&names, names.empty() ? "" : ";", name);
  }
  const std::string canonical =
      absl::StrCat(request.method, "\n", request.path.empty() ? "/" : request.path, "\n",
                   AwsQuery(request.query), "\n", lines, "\n", names, "\n", request.payload_sha256);
  const std::string time = AwsTime(now), day = time.substr(0, 8);
  const std::string scope = absl::StrCat(day, "/", region, "/", service, "/aws4_request");
  const std::string to_sign =
      absl::StrCat("AWS4-HMAC-SHA256\n", time, "\n", scope, "\n", Digest::Of(canonical).hex());
  std::string key = absl::StrCat("AWS4", credentials.secret_access_key);
  for (absl::string_view part :
       {absl::string_view(day), region, service, absl::string_view("aws4_request")})
    key = HmacSha256(key, part);
  return absl::StrCat("AWS4-HMAC-SHA256 Credential=", credentials.access_key_id, "/", scope,
                      ", SignedHeaders=", names,
                      ", Signature=", absl::BytesToHexString(HmacSha256(key, to_sign)));
}

}  // namespace kiln::daemon
