// Encodings, digests, paths, and what the machine knows.
#include <openssl/evp.h>
#include <sys/random.h>

#include <array>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/bake/hcl/functions.h"
#include "store/base/query_escape.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using List = Value::List;

absl::StatusOr<Value> Base64Encode(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  return Value(absl::Base64Escape(text));
}

absl::StatusOr<Value> Base64Decode(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  std::string decoded;
  if (!absl::Base64Unescape(text, &decoded))
    return absl::InvalidArgumentError("the text is not base64");
  return Value(std::move(decoded));
}

absl::StatusOr<Value> JsonEncode(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(std::string json, ToJson(arguments[0]));
  return Value(std::move(json));
}

absl::StatusOr<Value> JsonDecode(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  return FromJson(text);
}

template <const EVP_MD* (*kAlgorithm)()>
absl::StatusOr<Value> HashOf(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, kAlgorithm(), nullptr) != 1)
    return absl::InternalError("the digest failed");
  return Value(absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), size)));
}

absl::StatusOr<Value> UrlEncode(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  return Value(QueryEscape(text));
}

absl::StatusOr<Value> UuidV4(const List&) {
  std::array<char, 16> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return absl::InternalError("no random numbers");
  bytes[6] = static_cast<char>((bytes[6] & 0x0F) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3F) | 0x80);
  const std::string hex = absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
  return Value(absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                            hex.substr(16, 4), "-", hex.substr(20)));
}

absl::StatusOr<Value> Timestamp(const List&) {
  return Value(absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone()));
}

absl::StatusOr<Value> HomeDirectory(const List&) {
  const char* home = std::getenv("HOME");
  return Value(home == nullptr ? "" : home);
}

absl::StatusOr<Value> BaseName(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(std::string path, arguments[0].ToString());
  if (path.empty()) return Value(".");
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path == "/") return Value("/");
  return Value(path.substr(path.rfind('/') + 1));
}

absl::StatusOr<Value> DirectoryName(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(std::string path, arguments[0].ToString());
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return Value(".");
  path.resize(slash);
  while (!path.empty() && path.back() == '/') path.pop_back();
  return Value(path.empty() ? "/" : path);
}

constexpr LibraryFunction kFunctions[] = {
    {"base64decode", 1, 1, Base64Decode}, {"base64encode", 1, 1, Base64Encode},
    {"basename", 1, 1, BaseName},         {"dirname", 1, 1, DirectoryName},
    {"homedir", 0, 0, HomeDirectory},     {"jsondecode", 1, 1, JsonDecode},
    {"jsonencode", 1, 1, JsonEncode},     {"md5", 1, 1, HashOf<EVP_md5>},
    {"sha1", 1, 1, HashOf<EVP_sha1>},     {"sha256", 1, 1, HashOf<EVP_sha256>},
    {"sha512", 1, 1, HashOf<EVP_sha512>}, {"timestamp", 0, 0, Timestamp},
    {"urlencode", 1, 1, UrlEncode},       {"uuidv4", 0, 0, UuidV4},
};

}  // namespace

absl::Span<const LibraryFunction> EncodingFunctions() { return kFunctions; }

}  // namespace kiln::client::hcl
