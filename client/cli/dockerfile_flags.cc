#include "client/cli/dockerfile_flags.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/bake/plan.h"
#include "client/csv.h"
#include "client/random_id.h"
#include "client/session/oci_index.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr char kOciLayout[] = "oci-layout://";
constexpr size_t kMaxDockerfileBytes = 16 << 20;

bool IsDirectory(const std::string& path) {
  std::error_code error;  // what cannot be looked at is none
  return fs::is_directory(path, error);
}

// A directory goes before an address that is written like it.
bool IsRemote(const std::string& text) { return bake::IsRemoteAddress(text) && !IsDirectory(text); }

absl::StatusOr<std::pair<std::string, std::string>> SplitPair(const std::string& text,
                                                              char separator, const char* flag) {
  const size_t at = text.find(separator);
  if (at == std::string::npos || at == 0)
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", text, " must be NAME", std::string(1, separator), "VALUE"));
  return std::make_pair(text.substr(0, at), text.substr(at + 1));
}

// Each "NAME=VALUE" under `prefix`NAME. Without a value: that of the environment, if there is one,
// or an empty one.
absl::Status AddPairs(const std::vector<std::string>& texts, const char* flag, const char* prefix,
                      bool from_environment, std::map<std::string, std::string>* attrs) {
  for (const std::string& text : texts) {
    if (from_environment && !absl::StrContains(text, '=')) {
      if (const char* value = std::getenv(text.c_str()))
        (*attrs)[absl::StrCat(prefix, text)] = value;
      continue;
    }
    const std::string whole = absl::StrContains(text, '=') ? text : absl::StrCat(text, "=");
    KILN_ASSIGN_OR_RETURN(const auto pair, SplitPair(whole, '=', flag));
    (*attrs)[absl::StrCat(prefix, pair.first)] = pair.second;
  }
  return absl::OkStatus();
}

// "oci-layout://FOLDER[:TAG][@DIGEST]" as the frontend wants it: the name of the store in the
// session, and the digest.
absl::StatusOr<std::string> AddLayout(const std::string& address, SolveOptions* options) {
  std::string folder = address.substr(sizeof(kOciLayout) - 1);
  std::string digest;
  if (const size_t at = folder.rfind('@'); at != std::string::npos) {
    digest = folder.substr(at + 1);
    folder.resize(at);
    KILN_RETURN_IF_ERROR(Digest::Parse(digest).status());
  }
  std::string tag;
  const size_t colon = folder.rfind(':');
  if (!IsDirectory(folder) && colon != std::string::npos) {
    tag = folder.substr(colon + 1);
    folder.resize(colon);
  }
  if (!IsDirectory(folder))
    return absl::InvalidArgumentError(absl::StrCat(folder, ": no such directory"));
  if (digest.empty()) {
    const OciIndex index(folder);
    KILN_ASSIGN_OR_RETURN(digest, tag.empty() ? index.FindDefault() : index.Find(tag));
  }
  const std::string store = NewId();
  options->oci_layouts[store] = folder;
  return absl::StrCat(kOciLayout, store, "@", digest);
}

absl::Status AddContexts(const std::vector<std::string>& texts, SolveOptions* options) {
  for (const std::string& text : texts) {
    KILN_ASSIGN_OR_RETURN(const auto pair, SplitPair(text, '=', "--build-context"));
    const auto& [name, value] = pair;
    std::string source = value;
    if (absl::StartsWith(value, kOciLayout)) {
      KILN_ASSIGN_OR_RETURN(
          options->frontend_attrs[absl::StrCat("context:", name)],
          Annotate(AddLayout(value, options), absl::StrCat("--build-context ", text)));
      continue;
    }
    if (!IsRemote(value) && !absl::StartsWith(value, "docker-image://")) {
      if (!IsDirectory(value))
        return absl::InvalidArgumentError(
            absl::StrCat("--build-context ", text, ": no such directory"));
      // The main context and the Dockerfile's folder have names of their own.
      const bool taken = name == "context" || name == "dockerfile";
      const std::string directory = absl::StrCat(taken ? "_" : "", name);
      source = absl::StrCat("local:", directory);
      options->local_dirs[directory] = value;
    }
    options->frontend_attrs[absl::StrCat("context:", name)] = source;
  }
  return absl::OkStatus();
}

// Where the Dockerfile is; the frontend reads it from the directory named "dockerfile".
absl::Status AddFile(const std::string& context, const DockerfileFlags& flags,
                     TextDockerfile* text_file, SolveOptions* options) {
  auto& attrs = options->frontend_attrs;
  const bool remote = IsRemote(context);
  if (remote) attrs["context"] = context;
  if (!remote) options->local_dirs["context"] = context;
  attrs["filename"] = "Dockerfile";
  if (flags.file == "-" || flags.text) {
    std::string text;
    if (flags.text) {
      text = *flags.text;
    } else {
      KILN_ASSIGN_OR_RETURN(text, ReadAll(STDIN_FILENO, kMaxDockerfileBytes));
    }
    KILN_RETURN_IF_ERROR(text_file->Write(text));
    options->local_dirs["dockerfile"] = text_file->path();
    if (remote) attrs["dockerfilekey"] = "dockerfile";
    return absl::OkStatus();
  }
  if (remote && !fs::path(flags.file).is_absolute()) {
    if (!flags.file.empty()) attrs["filename"] = flags.file;
    return absl::OkStatus();
  }
  if (remote) attrs["dockerfilekey"] = "dockerfile";
  if (IsRemote(flags.file))
    return absl::UnimplementedError(absl::StrCat(
        "--file ", flags.file, ": a Dockerfile from an address needs a context from there, too"));
  const fs::path file =
      flags.file.empty() ? fs::path(context) / "Dockerfile" : fs::path(flags.file);
  if (IsDirectory(file.string()))
    return absl::InvalidArgumentError(absl::StrCat("--file ", file.string(), " is a directory"));
  attrs["filename"] = file.filename().string();
  const fs::path folder = file.parent_path();
  options->local_dirs["dockerfile"] = folder.empty() ? "." : folder.string();
  return absl::OkStatus();
}

// --attest, then --provenance and --sbom, which have docker's forms: "true", "false", attributes.
absl::Status AddAttestations(const DockerfileFlags& flags,
                             std::map<std::string, std::string>* attrs) {
  for (const std::string& attest : flags.attests) {
    KILN_ASSIGN_OR_RETURN(const auto fields, SplitCsvFields(attest));
    std::string type;
    bool disabled = false;
    std::vector<std::string> rest;
    for (const auto& [key, value] : fields) {
      if (key == "type") {
        type = value;
      } else if (key == "disabled") {
        disabled = value != "false";
      } else {
        rest.push_back(absl::StrCat(key, "=", value));
      }
    }
    if (type != "provenance" && type != "sbom")
      return absl::InvalidArgumentError(
          absl::StrCat("--attest ", attest, ": use type=provenance or type=sbom"));
    const std::string name = absl::StrCat("attest:", type);
    attrs->erase(name);
    if (!disabled) (*attrs)[name] = absl::StrJoin(rest, ",");
  }
  for (const auto& [type, value] :
       {std::pair("provenance", flags.provenance), std::pair("sbom", flags.sbom)}) {
    if (value.empty()) continue;
    const std::string name = absl::StrCat("attest:", type);
    attrs->erase(name);
    if (value != "false") (*attrs)[name] = value == "true" ? "" : value;
  }
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

// One line, as docker words it; "" when the answer cannot be counted.
std::string CheckSummary(const SolveResult& result) {
  const auto answer = result.metadata.find("result.json");
  if (answer == result.metadata.end()) return "";
  const auto json = nlohmann::json::parse(answer->second, nullptr, false);
  if (!json.is_object()) return "";
  const auto warnings = json.find("warnings");
  const size_t count = warnings != json.end() && warnings->is_array() ? warnings->size() : 0;
  if (count == 0) return "Check complete, no warnings found.\n";
  return absl::StrCat("Check complete, ", count, count == 1 ? " warning has" : " warnings have",
                      " been found!\n");
}

}  // namespace

TextDockerfile::~TextDockerfile() {
  std::error_code error;  // best effort
  if (!path_.empty()) fs::remove_all(path_, error);
}

absl::Status TextDockerfile::Write(absl::string_view text) {
  std::error_code error;
  std::string pattern = (fs::temp_directory_path(error) / "kiln-dockerfile-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return ErrnoStatus(errno, "make " + pattern);
  path_ = pattern;
  return WriteFileAtomic(path_ + "/Dockerfile", text, 0644);
}

absl::StatusOr<int64_t> ParseByteSize(absl::string_view text) {
  constexpr absl::string_view kUnits = "bkmgt";
  const std::string lower = absl::AsciiStrToLower(text);
  const size_t end = lower.find_first_not_of("0123456789.");
  const absl::string_view digits = absl::string_view(lower).substr(0, end);
  const absl::string_view unit = absl::StripLeadingAsciiWhitespace(
      end == std::string::npos ? absl::string_view() : absl::string_view(lower).substr(end));
  const size_t power = unit.empty() ? 0 : kUnits.find(unit[0]);
  const absl::string_view rest = unit.empty() ? unit : unit.substr(1);
  double number = 0;
  constexpr double kMax = int64_t{1} << 60;
  const bool good = power != absl::string_view::npos && absl::SimpleAtod(digits, &number) &&
                    (rest.empty() || (power > 0 && (rest == "b" || rest == "ib")));
  if (good) number *= static_cast<double>(int64_t{1} << (10 * power));
  if (!good || number > kMax)
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no size: use 64m or 1g"));
  return static_cast<int64_t>(number);
}

bool IsBuildContext(const std::string& argument) {
  return bake::IsRemoteAddress(argument) || IsDirectory(argument);
}

bool IsSshAddress(absl::string_view context) {
  return absl::StartsWith(context, "ssh://") || absl::StartsWith(context, "git@");
}

absl::Status FillDockerfileBuild(const std::string& context, const DockerfileFlags& flags,
                                 TextDockerfile* text_file, SolveOptions* options) {
  options->frontend = "dockerfile.v0";
  auto& attrs = options->frontend_attrs;
  KILN_RETURN_IF_ERROR(AddFile(context, flags, text_file, options));
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
  if (!flags.shm_size.empty()) {
    KILN_ASSIGN_OR_RETURN(const int64_t bytes,
                          Annotate(ParseByteSize(flags.shm_size), "--shm-size"));
    attrs["shm-size"] = absl::StrCat(bytes);
  }
  set("cgroup-parent", flags.cgroup_parent);
  if (flags.network == "host") options->entitlements.push_back("network.host");
  KILN_RETURN_IF_ERROR(AddAttestations(flags, &attrs));
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
  if (call.first == "lint" && call.second != "json") std::cout << CheckSummary(result);
  std::cout << text->second;
  if (!text->second.empty() && text->second.back() != '\n') std::cout << "\n";
  const auto code = result.metadata.find("result.statuscode");
  if (code == result.metadata.end() || code->second == "0") return absl::OkStatus();
  return absl::FailedPreconditionError("the check found something");
}

}  // namespace kiln::client
