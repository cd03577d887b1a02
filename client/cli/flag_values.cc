#include "client/cli/flag_values.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/build_flags.h"
#include "client/csv.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

absl::Status Wrong(absl::string_view flag, absl::string_view value, absl::string_view remedy) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", value.empty() ? "\"\"" : value, ": ", remedy));
}

bool IsOneOf(absl::string_view value, std::initializer_list<absl::string_view> known) {
  return std::find(known.begin(), known.end(), value) != known.end();
}

// Coarser than a registry's rules, which the daemon knows.
absl::Status CheckTag(const std::string& tag) {
  for (absl::string_view name : absl::StrSplit(tag, ',')) {
    const absl::string_view named = name.substr(0, name.find('@'));
    const size_t slash = named.rfind('/');
    const absl::string_view last = slash == absl::string_view::npos ? named : named.substr(slash);
    const size_t path = named.find('/') == absl::string_view::npos ? 0 : named.find('/');
    const size_t colon = last.rfind(':');
    const absl::string_view repository = colon == absl::string_view::npos
                                             ? named
                                             : named.substr(0, named.size() - last.size() + colon);
    const auto in_repository = [](char c) {
      return absl::ascii_islower(c) || absl::ascii_isdigit(c) || absl::StrContains("/._-", c);
    };
    const absl::string_view checked = repository.substr(std::min(path, repository.size()));
    if (repository.empty() || absl::EndsWith(named, ":") || absl::EndsWith(named, "/") ||
        !std::all_of(checked.begin(), checked.end(), in_repository))
      return Wrong("--tag", tag, "use [HOST/]NAME[:TAG], the name in lower case");
  }
  return absl::OkStatus();
}

// A word alone is one that the daemon knows, or not.
absl::Status CheckPlatform(const std::string& platforms) {
  const auto in_word = [](char c) { return absl::ascii_isalnum(c) || absl::StrContains("_.-", c); };
  for (absl::string_view platform : absl::StrSplit(platforms, ',')) {
    const std::vector<absl::string_view> parts =
        absl::StrSplit(absl::StripAsciiWhitespace(platform), '/');
    bool good = parts.size() <= 3;
    for (size_t i = 0; i < parts.size() && parts.size() > 1; ++i) {
      // Behind an OS there may be its version.
      const absl::string_view word = i == 0 ? parts[0].substr(0, parts[0].find('(')) : parts[i];
      good = good && !word.empty() && std::all_of(word.begin(), word.end(), in_word);
    }
    if (!good) return Wrong("--platform", platforms, "use OS/ARCH[/VARIANT], as in linux/arm64");
  }
  return absl::OkStatus();
}

absl::Status CheckHost(const std::string& host) {
  const size_t at = host.find(absl::StrContains(host, '=') ? '=' : ':');
  std::string address = at == std::string::npos ? "" : host.substr(at + 1);
  if (address == "host-gateway")
    return Wrong("--add-host", host, "the daemon's machine has no name of its own; use NAME=IP");
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  in6_addr parsed;
  if (at == 0 || (inet_pton(AF_INET, address.c_str(), &parsed) != 1 &&
                  inet_pton(AF_INET6, address.c_str(), &parsed) != 1))
    return Wrong("--add-host", host, "use NAME=IP, as in db=10.0.0.7");
  return absl::OkStatus();
}

absl::Status CheckUlimit(const std::string& ulimit) {
  const size_t equals = ulimit.find('=');
  if (equals != std::string::npos && equals != 0 &&
      !IsOneOf(ulimit.substr(0, equals),
               {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
                "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}))
    return Wrong("--ulimit", ulimit, "there is no limit of that name; use nofile, nproc, core, …");
  const std::vector<std::string> limits =
      absl::StrSplit(equals == std::string::npos ? "" : ulimit.substr(equals + 1), ':');
  bool good = equals != 0 && limits.size() <= 2;
  std::vector<int64_t> numbers;
  for (const std::string& limit : limits) {
    numbers.push_back(0);
    good = good && absl::SimpleAtoi(limit, &numbers.back()) && numbers.back() >= -1;
  }
  if (good && numbers.size() == 2 && numbers[1] != -1)
    good = numbers[0] != -1 && numbers[0] <= numbers[1];
  if (good) return absl::OkStatus();
  return Wrong("--ulimit", ulimit,
               "use NAME=SOFT[:HARD], numbers, the soft limit not above the hard one");
}

// --provenance and --sbom: a word, or attributes.
absl::Status CheckAttestation(const char* flag, const std::string& value) {
  if (value.empty() || value == "true" || value == "false") return absl::OkStatus();
  const bool provenance = absl::string_view(flag) == "--provenance";
  const char* remedy =
      provenance ? "use true, false or mode=min|max" : "use true, false or generator=IMAGE";
  const auto fields = SplitCsvFields(value);
  if (!fields.ok()) return Wrong(flag, value, remedy);
  for (const auto& [key, text] : *fields)
    if (provenance && key == "mode" && !IsOneOf(text, {"min", "max"}))
      return Wrong(flag, value, remedy);
  return absl::OkStatus();
}

// Of some type, whichever.
absl::Status CheckAttestType(const std::string& value) {
  KILN_ASSIGN_OR_RETURN(const auto fields, Annotate(SplitCsvFields(value), "--attest"));
  for (const auto& [key, text] : fields)
    if (key == "type" && !text.empty()) return absl::OkStatus();
  return Wrong("--attest", value, "use type=provenance or type=sbom");
}

absl::Status CheckAttest(const std::string& value) {
  KILN_ASSIGN_OR_RETURN(const auto fields, Annotate(SplitCsvFields(value), "--attest"));
  bool provenance = false;
  for (const auto& [key, text] : fields) provenance |= key == "type" && text == "provenance";
  for (const auto& [key, text] : fields)
    if (provenance && key == "mode" && !IsOneOf(text, {"min", "max"}))
      return Wrong("--attest", value, "use mode=min or mode=max");
  return absl::OkStatus();
}

absl::Status CheckCall(const std::string& call) {
  for (absl::string_view part : absl::StrSplit(call, ','))
    if (absl::StartsWith(part, "format=") && !IsOneOf(part.substr(7), {"json", "text", ""}))
      return Wrong("--call", call, "use format=json or format=text");
  return absl::OkStatus();
}

absl::Status CheckCache(const char* flag, const std::string& value) {
  if (!absl::StrContains(value, '=')) {
    if (value.empty()) return Wrong(flag, value, "use type=registry,ref=NAME");
    return absl::OkStatus();  // a bare reference
  }
  const bool from = absl::string_view(flag) == "--cache-from";
  KILN_ASSIGN_OR_RETURN(const auto fields, Annotate(SplitCsvFields(value), flag));
  std::string type, ref, path;
  for (const auto& [key, text] : fields) {
    if (key == "type") type = text;
    if (key == "ref") ref = text;
    if (key == (from ? "src" : "dest")) path = text;
    if (key == "mode" && !from && !IsOneOf(text, {"min", "max"}))
      return Wrong(flag, value, "use mode=min or mode=max");
  }
  if (type == "registry" && ref.empty()) return Wrong(flag, value, "type=registry needs ref=NAME");
  if (type == "local" && path.empty())
    return Wrong(flag, value,
                 from ? "type=local needs src=DIRECTORY" : "type=local needs dest=DIRECTORY");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseAnnotation(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const size_t colon = name.find(':');
  const std::string key = colon == std::string::npos ? name : name.substr(colon + 1);
  if (equals == std::string::npos || key.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("--annotation ", text, " must be [TYPE:]NAME=VALUE"));
  const std::string types = colon == std::string::npos ? "manifest" : name.substr(0, colon);
  std::map<std::string, std::string> attrs;
  for (const absl::string_view type : absl::StrSplit(types, ',')) {
    const size_t bracket = type.find('[');
    if (!IsOneOf(type.substr(0, bracket),
                 {"manifest", "index", "manifest-descriptor", "index-descriptor"}) ||
        (bracket != absl::string_view::npos && type.back() != ']'))
      return Wrong("--annotation", text,
                   "TYPE is manifest, index, manifest-descriptor or index-descriptor, with or "
                   "without a [PLATFORM]");
    attrs[absl::StrCat("annotation-", type, ".", key)] = text.substr(equals + 1);
  }
  return attrs;
}

absl::Status CheckPlannedValues(const BuildFlags& flags) {
  const DockerfileFlags& docker = flags.docker;
  for (const std::string& platform : docker.platforms)
    KILN_RETURN_IF_ERROR(CheckPlatform(platform));
  for (const std::string& ulimit : docker.ulimits) KILN_RETURN_IF_ERROR(CheckUlimit(ulimit));
  if (!docker.shm_size.empty())
    KILN_RETURN_IF_ERROR(Annotate(ParseByteSize(docker.shm_size).status(), "--shm-size"));
  for (const std::string& attest : docker.attests) KILN_RETURN_IF_ERROR(CheckAttestType(attest));
  for (const std::string& annotation : flags.annotations)
    KILN_RETURN_IF_ERROR(ParseAnnotation(annotation).status());
  return absl::OkStatus();
}

absl::Status CheckFlagValues(const BuildFlags& flags) {
  const DockerfileFlags& docker = flags.docker;
  KILN_RETURN_IF_ERROR(CheckPlannedValues(flags));
  for (const std::string& tag : flags.tags) KILN_RETURN_IF_ERROR(CheckTag(tag));
  for (const std::string& host : docker.add_hosts) KILN_RETURN_IF_ERROR(CheckHost(host));
  for (const std::string& arg : docker.build_args)
    if (arg.empty()) return Wrong("--build-arg", arg, "use NAME=VALUE, or NAME");
  if (!IsOneOf(docker.network, {"", "default", "none", "host", "sandbox"}))
    return Wrong("--network", docker.network, "use default, none or host");
  for (const std::string& attest : docker.attests) KILN_RETURN_IF_ERROR(CheckAttest(attest));
  KILN_RETURN_IF_ERROR(CheckAttestation("--provenance", docker.provenance));
  KILN_RETURN_IF_ERROR(CheckAttestation("--sbom", docker.sbom));
  KILN_RETURN_IF_ERROR(CheckCall(docker.call));
  for (const std::string& cache : flags.cache_from)
    KILN_RETURN_IF_ERROR(CheckCache("--cache-from", cache));
  for (const std::string& cache : flags.cache_to)
    KILN_RETURN_IF_ERROR(CheckCache("--cache-to", cache));
  return absl::OkStatus();
}

absl::Status CheckResultFile(absl::string_view flag, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code error;
  if (fs::is_directory(path, error)) return Wrong(flag, path, "it is a directory");
  const fs::path folder = fs::absolute(path, error).parent_path();
  if (!fs::is_directory(folder, error))
    return Wrong(flag, path, absl::StrCat("there is no directory ", folder.string()));
  if (::access(folder.c_str(), W_OK) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat(flag, " ", path, ": write in ", folder.string()));
}

}  // namespace kiln::client
