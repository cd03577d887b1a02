#include "daemon/remotecache/aws_profile.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

std::string Or(std::optional<std::string> value, absl::string_view otherwise) {
  return value.has_value() && !value->empty() ? *std::move(value) : std::string(otherwise);
}

// nullopt: no file, or none of its sections.
absl::StatusOr<std::optional<AwsProfile>> ReadFileSection(const std::string& path,
                                                          absl::string_view header) {
  const absl::StatusOr<std::string> text = ReadFileToString(path);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  KILN_RETURN_IF_ERROR(text.status());
  return ReadAwsSection(*text, header);
}

}  // namespace

std::optional<std::string> ProcessEnv(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

std::optional<AwsProfile> ReadAwsSection(absl::string_view text, absl::string_view header) {
  std::optional<AwsProfile> found;
  bool inside = false;
  for (const absl::string_view whole : absl::StrSplit(text, '\n')) {
    absl::string_view line = absl::StripAsciiWhitespace(whole);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      line = line.substr(1, line.find(']') - 1);
      inside = absl::StripAsciiWhitespace(line) == header;
      if (inside && !found.has_value()) found.emplace();
      continue;
    }
    const size_t equals = line.find('=');
    if (!inside || whole[0] == ' ' || whole[0] == '\t' || equals == absl::string_view::npos)
      continue;
    const absl::string_view name = absl::StripTrailingAsciiWhitespace(line.substr(0, equals));
    (*found)[absl::AsciiStrToLower(name)] =
        std::string(absl::StripLeadingAsciiWhitespace(line.substr(equals + 1)));
  }
  return found;
}

absl::StatusOr<AwsProfile> FindAwsProfile(const ReadEnv& env) {
  const std::string named = Or(env("AWS_PROFILE"), "");
  const std::string profile = named.empty() ? "default" : named;
  const std::string folder = Or(env("HOME"), "/root") + "/.aws/";
  const std::string credentials = Or(env("AWS_SHARED_CREDENTIALS_FILE"), folder + "credentials");
  const std::string config = Or(env("AWS_CONFIG_FILE"), folder + "config");
  KILN_ASSIGN_OR_RETURN(std::optional<AwsProfile> found, ReadFileSection(credentials, profile));
  KILN_ASSIGN_OR_RETURN(
      std::optional<AwsProfile> more,
      ReadFileSection(config, profile == "default" ? profile : "profile " + profile));
  if (!found.has_value() && !more.has_value() && !named.empty())
    return absl::UnauthenticatedError(absl::StrCat("no AWS credentials: the profile ", profile,
                                                   " is neither in ", credentials, " nor in ",
                                                   config));
  AwsProfile all = std::move(found).value_or(AwsProfile());
  if (more.has_value()) all.insert(more->begin(), more->end());
  return all;
}

}  // namespace kiln::daemon
