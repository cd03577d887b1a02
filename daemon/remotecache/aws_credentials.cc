#include "daemon/remotecache/aws_credentials.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"

namespace kiln::daemon {

std::optional<std::string> ProcessEnv(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

std::optional<AwsCredentials> ReadAwsProfile(absl::string_view text, absl::string_view profile) {
  AwsCredentials found;
  bool inside = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      absl::ConsumePrefix(&line, "[");
      absl::ConsumeSuffix(&line, "]");
      inside = absl::StripAsciiWhitespace(line) == profile;
      continue;
    }
    const size_t equals = line.find('=');
    if (!inside || equals == absl::string_view::npos) continue;
    const std::string name =
        absl::AsciiStrToLower(absl::StripAsciiWhitespace(line.substr(0, equals)));
    const std::string value(absl::StripAsciiWhitespace(line.substr(equals + 1)));
    if (name == "aws_access_key_id") found.access_key_id = value;
    if (name == "aws_secret_access_key") found.secret_access_key = value;
    if (name == "aws_session_token") found.session_token = value;
  }
  if (found.access_key_id.empty() || found.secret_access_key.empty()) return std::nullopt;
  return found;
}

absl::StatusOr<AwsCredentials> FindAwsCredentials(const ReadEnv& env) {
  const auto id = env("AWS_ACCESS_KEY_ID"), secret = env("AWS_SECRET_ACCESS_KEY");
  if (id.has_value() && secret.has_value() && !id->empty() && !secret->empty())
    return AwsCredentials{*id, *secret, env("AWS_SESSION_TOKEN").value_or("")};
  const std::string profile = env("AWS_PROFILE").value_or("default");
  std::string file = env("AWS_SHARED_CREDENTIALS_FILE").value_or("");
  if (file.empty()) file = absl::StrCat(env("HOME").value_or("/root"), "/.aws/credentials");
  const absl::StatusOr<std::string> text = ReadFileToString(file);
  if (text.ok()) {
    if (auto found = ReadAwsProfile(*text, profile); found.has_value()) return *std::move(found);
  }
  return absl::UnauthenticatedError(absl::StrCat(
      "no AWS credentials: set access_key_id and secret_access_key, or give the daemon "
      "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile ",
      profile, " in ", file));
}

}  // namespace kiln::daemon
