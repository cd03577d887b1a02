#include "client/cli/dockerfile_flags.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/session/exports.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxDockerfileBytes = 16 << 20;

bool IsRemote(absl::string_view text) {
  for (absl::string_view scheme : {"http://", "https://", "git://", "ssh://", "git@"})
    if (absl::StartsWith(text, scheme)) return true;
  return false;
}

bool IsDirectory(const std::string& path) {
  std::error_code error;  // what cannot be looked at is none
  return fs::is_directory(path, error);
}

absl::StatusOr<std::pair<std::string, std::string>> SplitPair(const std::string& text,
                                                              char separator, const char* flag) {
  const size_t at = text.find(separator);
  if (at == std::string::npos || at == 0)
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", text, " must be NAME", std::string(1, separator), "VALUE"));
  return std::make_pair(text.substr(0, at), text.substr(at + 1));
}

// Each "NAME=VALUE" under `prefix`NAME. A build argument without a value has that of the
// environment, if there is one.
absl::Status AddPairs(const std::vector<std::string>& texts, const char* flag, const char* prefix,
                      bool from_environment, std::map<std::string, std::string>* attrs) {
  for (const std::string& text : texts) {
    if (from_environment && !absl::StrContains(text, '=')) {
      if (const char* value = std::getenv(text.c_str()))
        (*attrs)[absl::StrCat(prefix, text)] = value;
      continue;
    }
    KILN_ASSIGN_OR_RETURN(const auto pair, SplitPair(text, '=', flag));
    (*attrs)[absl::StrCat(prefix, pair.first)] = pair.second;
  }
  return absl::OkStatus();
}

absl::Status AddContexts(const std::vector<std::string>& texts, SolveOptions* options) {
  for (const std::string& text : texts) {
    KILN_ASSIGN_OR_RETURN(const auto pair, SplitPair(text, '=', "--build-context"));
    const auto& [name, value] = pair;
    std::string source = value;
    if (absl::StartsWith(value, "oci-layout://"))
      return absl::UnimplementedError(absl::StrCat(
          "--build-context ", text, ": an OCI layout of the client is not implemented"));
    if (!IsRemote(value) && !absl::StartsWith(value, "docker-image://")) {
      if (!IsDirectory(value))
        return absl::InvalidArgumentError(
            absl::StrCat("--build-context ", text, ": no such directory"));
      source = absl::StrCat("local:", name);
      options->local_dirs[name] = value;
    }
    options->frontend_attrs[absl::StrCat("context:", name)] = source;
  }
  return absl::OkStatus();
}

// Where the Dockerfile is; the frontend reads it from the directory named "dockerfile".
absl::Status AddFile(const std::string& context, const DockerfileFlags& flags,
                     StdinDockerfile* stdin_file, SolveOptions* options) {
  auto& attrs = options->frontend_attrs;
  const bool remote = IsRemote(context);
  if (remote) attrs["context"] = context;
  if (!remote) options->local_dirs["context"] = context;
  attrs["filename"] = "Dockerfile";
  if (flags.file == "-") {
    KILN_ASSIGN_OR_RETURN(const std::string text, ReadAll(STDIN_FILENO, kMaxDockerfileBytes));
    KILN_RETURN_IF_ERROR(stdin_file->Write(text));
    options->local_dirs["dockerfile"] = stdin_file->path();
    if (remote) attrs["dockerfilekey"] = "dockerfile";
    return absl::OkStatus();
  }
  if (remote) {
    if (!flags.file.empty()) attrs["filename"] = flags.file;
    return absl::OkStatus();
  }
  const fs::path file =
      flags.file.empty() ? fs::path(context) / "Dockerfile" : fs::path(flags.file);
  if (IsDirectory(file.string()))
    return absl::InvalidArgumentError(absl::StrCat("--file ", file.string(), " is a directory"));
  attrs["filename"] = file.filename().string();
  const fs::path folder = file.parent_path();
  options->local_dirs["dockerfile"] = folder.empty() ? "." : folder.string();
  return absl::OkStatus();
}

// "lint,format=json" → id of the request and format.
absl::StatusOr<std::pair<std::string, std::string>> ParseCall(const DockerfileFlags& flags) {
  std::string call = flags.check && flags.call.empty() ? "check" : flags.call;
  std::string format;
  std::string name;
  for (absl::string_view part : absl::StrSplit(call, ',')) {
    if (absl::ConsumePrefix(&part, "format=")) {
      format = std::string(part);
    } else {
      name = std::string(part);
    }
  }
  if (name == "check") name = "lint";
  if (name == "build") name = "";
  for (const char* known : {"", "lint", "outline", "targets"})
    if (name == known) return std::make_pair(name, format);
  if (name == "subrequests.describe") return std::make_pair(name, format);
  return absl::InvalidArgumentError(
      absl::StrCat("--call ", call, ": use build, check, outline or targets"));
}

}  // namespace

StdinDockerfile::~StdinDockerfile() {
  std::error_code error;  // best effort
  if (!path_.empty()) fs::remove_all(path_, error);
}

absl::Status StdinDockerfile::Write(absl::string_view text) {
  std::error_code error;
  std::string pattern = (fs::temp_directory_path(error) / "kiln-dockerfile-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return ErrnoStatus(errno, "make " + pattern);
  path_ = pattern;
  return WriteFileAtomic(path_ + "/Dockerfile", text, 0644);
}

bool IsBuildContext(const std::string& argument) {
  return IsRemote(argument) || IsDirectory(argument);
}

absl::Status FillDockerfileBuild(const std::string& context, const DockerfileFlags& flags,
                                 StdinDockerfile* stdin_file, SolveOptions* options) {
  options->frontend = "dockerfile.v0";
  auto& attrs = options->frontend_attrs;
  KILN_RETURN_IF_ERROR(AddFile(context, flags, stdin_file, options));
  KILN_RETURN_IF_ERROR(AddPairs(flags.build_args, "--build-arg", "build-arg:", true, &attrs));
  KILN_RETURN_IF_ERROR(AddPairs(flags.labels, "--label", "label:", false, &attrs));
  KILN_RETURN_IF_ERROR(AddContexts(flags.contexts, options));
  std::vector<std::string> hosts;
  for (const std::string& host : flags.add_hosts) {
    const char separator = absl::StrContains(host, '=') ? '=' : ':';
    KILN_ASSIGN_OR_RETURN(const auto pair, SplitPair(host, separator, "--add-host"));
    hosts.push_back(absl::StrCat(pair.first, "=", pair.second));
  }
  const auto set = [&](const char* name, std::string value) {
    if (!value.empty()) attrs[name] = std::move(value);
  };
  set("add-hosts", absl::StrJoin(hosts, ","));
  set("target", flags.target);
  set("platform", absl::StrJoin(flags.platforms, ","));
  set("ulimit", absl::StrJoin(flags.ulimits, ","));
  set("no-cache", absl::StrJoin(flags.no_cache_filter, ","));
  if (flags.network != "default") set("force-network-mode", flags.network);
  if (flags.pull) attrs["image-resolve-mode"] = "pull";
  // As docker has it: "true", "false" or attributes.
  for (const auto& [type, value] :
       {std::pair("provenance", flags.provenance), std::pair("sbom", flags.sbom)}) {
    if (value.empty() || value == "false") continue;
    attrs[absl::StrCat("attest:", type)] = value == "true" ? "" : value;
  }
  KILN_ASSIGN_OR_RETURN(const auto call, ParseCall(flags));
  if (!call.first.empty()) attrs["requestid"] = absl::StrCat("frontend.", call.first);
  return absl::OkStatus();
}

absl::Status PrintCall(const DockerfileFlags& flags, const SolveResult& result) {
  KILN_ASSIGN_OR_RETURN(const auto call, ParseCall(flags));
  if (call.first.empty()) return absl::OkStatus();
  const auto text = result.metadata.find(call.second == "json" ? "result.json" : "result.txt");
  if (text == result.metadata.end())
    return absl::UnimplementedError(absl::StrCat("the frontend does not answer ", call.first));
  std::cout << text->second;
  if (!absl::EndsWith(text->second, "\n")) std::cout << "\n";
  const auto code = result.metadata.find("result.statuscode");
  if (code == result.metadata.end() || code->second == "0") {
    if (call.first == "lint" && call.second != "json" && text->second.empty())
      std::cout << "Check complete, no warnings found.\n";
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError("the check found something");
}

}  // namespace kiln::client
