#include "client/session/docker_auth.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kHub[] = "https://index.docker.io/v1/";

std::string ConfigFile(const std::string& config_dir) {
  if (!config_dir.empty()) return absl::StrCat(config_dir, "/config.json");
  if (const char* dir = std::getenv("DOCKER_CONFIG"); dir != nullptr && *dir != '\0') {
    return absl::StrCat(dir, "/config.json");
  }
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "" : home, "/.docker/config.json");
}

std::string Text(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// docker-credential-NAME get: the server on stdin, JSON on stdout.
absl::StatusOr<RegistryCredentials> AskHelper(const std::string& name, const std::string& server) {
  Fd input(memfd_create("credential-query", MFD_CLOEXEC));
  if (!input.valid()) return ErrnoStatus(errno, "memfd_create");
  KILN_RETURN_IF_ERROR(WriteAll(input.get(), server));
  if (lseek(input.get(), 0, SEEK_SET) != 0) return ErrnoStatus(errno, "lseek");
  ProcessOptions options;
  options.args = {absl::StrCat("docker-credential-", name), "get"};
  options.stdin_fd = input.get();
  KILN_ASSIGN_OR_RETURN(const CommandOutput output, RunCommand(options, CancelToken()));
  if (!output.status.ok()) {
    const std::string said = absl::StrCat(output.out, output.err);
    if (absl::StrContains(said, "credentials not found")) return RegistryCredentials();
    return absl::UnavailableError(absl::StrCat(options.args[0], " get: ", output.status.ToString(),
                                               ": ", absl::StripAsciiWhitespace(said)));
  }
  const nlohmann::json answer = nlohmann::json::parse(output.out, nullptr, false);
  if (!answer.is_object()) {
    return absl::UnavailableError(absl::StrCat(options.args[0], " get: answer is not JSON"));
  }
  RegistryCredentials found{Text(answer, "Username"), Text(answer, "Secret")};
  if (found.username == "<token>") found.username.clear();
  return found;
}

// An entry's key may be the host, or a URL of it as older versions wrote.
bool SameRegistry(absl::string_view key, absl::string_view server) {
  if (key == server) return true;
  for (absl::string_view prefix : {"https://", "http://"}) {
    if (absl::StartsWith(key, prefix)) key.remove_prefix(prefix.size());
  }
  return key.substr(0, key.find('/')) == server;
}

absl::StatusOr<RegistryCredentials> FromEntry(const nlohmann::json& entry) {
  RegistryCredentials found{Text(entry, "username"), Text(entry, "password")};
  if (const std::string auth = Text(entry, "auth"); !auth.empty()) {
    std::string decoded;
    if (!absl::Base64Unescape(auth, &decoded) || !absl::StrContains(decoded, ':')) {
      return absl::InvalidArgumentError("auth is not base64 of user:password");
    }
    found.username = decoded.substr(0, decoded.find(':'));
    found.secret = decoded.substr(decoded.find(':') + 1);
    while (!found.secret.empty() && found.secret.back() == '\0') found.secret.pop_back();
  }
  if (const std::string token = Text(entry, "identitytoken"); !token.empty()) {
    found = {"", token};
  }
  return found;
}

}  // namespace

absl::StatusOr<RegistryCredentials> LookUpCredentials(const std::string& config_dir,
                                                      absl::string_view host) {
  const std::string server = host == "registry-1.docker.io" ? kHub : std::string(host);
  const std::string file = ConfigFile(config_dir);
  const absl::StatusOr<std::string> text = ReadFileToString(file);
  if (absl::IsNotFound(text.status())) return RegistryCredentials();
  KILN_RETURN_IF_ERROR(text.status());
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is not a JSON object"));
  }
  const auto helpers = config.find("credHelpers");
  if (helpers != config.end() && helpers->is_object()) {
    if (const std::string name = Text(*helpers, server.c_str()); !name.empty()) {
      return AskHelper(name, server);
    }
  }
  if (const std::string name = Text(config, "credsStore"); !name.empty()) {
    return AskHelper(name, server);
  }
  const auto auths = config.find("auths");
  if (auths == config.end() || !auths->is_object()) return RegistryCredentials();
  for (const auto& [key, entry] : auths->items()) {
    if (entry.is_object() && SameRegistry(key, server)) {
      return Annotate(FromEntry(entry), absl::StrCat(file, ": auths: ", key));
    }
  }
  return RegistryCredentials();
}

}  // namespace kiln::client
