#include "client/cli/build_flags.h"

#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/flag_values.h"
#include "client/cli/source_policy.h"
#include "client/csv.h"
#include "client/session/exports.h"
#include "client/session/oci_index.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

// "name=value" of repeated flags.
absl::StatusOr<std::map<std::string, std::string>> ParsePairs(const std::vector<std::string>& texts,
                                                              const char* flag) {
  std::map<std::string, std::string> pairs;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, " must be NAME=VALUE"));
    }
    if (!pairs.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, " ", text.substr(0, equals), " is given twice"));
    }
  }
  return pairs;
}

// "type=registry,ref=…", or a bare reference.
absl::StatusOr<std::vector<CacheEntry>> ParseCaches(const std::vector<std::string>& texts,
                                                    const char* flag) {
  std::vector<CacheEntry> entries;
  for (const std::string& text : texts) {
    CacheEntry entry;
    if (!absl::StrContains(text, '=')) {
      entry = {"registry", {{"ref", text}}};
    } else {
      KILN_ASSIGN_OR_RETURN(const auto fields, SplitCsvFields(text));
      for (const auto& [key, value] : fields) {
        if (key == "type") {
          entry.type = value;
        } else {
          entry.attrs[key] = value;
        }
      }
    }
    if (entry.type.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, " needs type="));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

// A cache of the client that is not there yet is no mistake: the first build writes it.
void DropMissingCaches(std::vector<CacheEntry>* imports) {
  const auto missing = [](CacheEntry& entry) {
    const auto src = entry.attrs.find("src");
    if (entry.type != "local" || src == entry.attrs.end() || entry.attrs.count("digest") != 0)
      return false;
    const auto tag = entry.attrs.find("tag");
    const absl::StatusOr<std::string> digest =
        OciIndex(src->second).Find(tag == entry.attrs.end() ? "latest" : tag->second);
    if (digest.ok()) {
      entry.attrs["digest"] = *digest;
      return false;
    }
    std::cerr << "note: local cache import at " << src->second
              << " skipped: " << digest.status().message() << "\n";
    return true;
  };
  imports->erase(std::remove_if(imports->begin(), imports->end(), missing), imports->end());
}

absl::Status FillSourcePolicy(std::string file, SolveOptions* options) {
  const char* variable = std::getenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY");
  if (file.empty() && variable != nullptr) file = variable;
  if (file.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(options->source_policy, ReadSourcePolicy(file));
  return absl::OkStatus();
}

bool IsImageOutput(const ExportRequest& output) {
  return output.type == "image" || output.type == "oci" || output.type == "docker";
}

}  // namespace

void AddBuildFlags(CLI::App* app, BuildFlags* flags) {
  const auto repeated = [app](const char* names, std::vector<std::string>* values,
                              const char* help) {
    app->add_option(names, *values, absl::StrCat(help, "; repeatable"))
        ->allow_extra_args(false)
        ->take_all();
  };
  DockerfileFlags* docker = &flags->docker;
  app->add_option("-f,--file", docker->file, "the Dockerfile; \"-\": standard input");
  app->add_option("--target", docker->target, "stage to build");
  repeated("--build-arg", &docker->build_args, "NAME=VALUE, or NAME of the environment");
  repeated("--label", &docker->labels, "NAME=VALUE, a label of the image");
  repeated("--platform", &docker->platforms, "linux/arm64, …");
  repeated("--build-context", &docker->contexts,
           "NAME=DIR | docker-image://… | oci-layout://DIR | URL");
  repeated("--add-host", &docker->add_hosts, "NAME=IP or NAME:IP for every RUN");
  repeated("--ulimit", &docker->ulimits, "NAME=SOFT[:HARD] for every RUN");
  repeated("--no-cache-filter", &docker->no_cache_filter, "stage that runs whatever is known");
  app->add_option("--network", docker->network, "of every RUN: default, none or host");
  app->add_option("--shm-size", docker->shm_size, "of /dev/shm in every RUN: bytes, 64m, 1g");
  app->add_option("--cgroup-parent", docker->cgroup_parent, "of every RUN");
  app->add_option("--provenance", docker->provenance, "true, false or mode=min|max,…");
  app->add_option("--sbom", docker->sbom, "true, false or generator=IMAGE");
  repeated("--attest", &docker->attests, "type=provenance|sbom[,disabled=true][,NAME=VALUE…]");
  app->add_flag("--pull", docker->pull, "ask the registry for every image");
  app->add_flag("--check", docker->check, "only look for mistakes in the Dockerfile");
  app->add_option("--call", docker->call, "build, check, outline or targets[,format=json]");
  app->add_option("--frontend", flags->frontend, "another frontend, with --opt and --local");
  repeated("--opt", &flags->opts, "NAME=VALUE for the frontend");
  repeated("--local", &flags->locals, "NAME=DIRECTORY that the build may read");
  repeated("-o,--output", &flags->outputs,
           "type=local,dest=DIR | type=tar,dest=FILE | type=oci,dest=FILE | … | DIR | -");
  repeated("-t,--tag", &flags->tags, "name of the image. Alone: the daemon keeps it");
  repeated("--annotation", &flags->annotations,
           "[TYPE[,TYPE…]:]NAME=VALUE, of the image's manifest or index");
  app->add_flag("--push", flags->push, "push the image to the registries of its names");
  app->add_flag("--load", flags->load, "hand the image to docker, podman or containerd");
  repeated("--secret", &flags->secrets, "id=ID[,src=FILE][,env=VARIABLE]");
  repeated("--ssh", &flags->ssh, "default | ID[=SOCKET | =KEYFILE[,KEYFILE…]]");
  repeated("--allow", &flags->allow, "entitlement: network.host, security.insecure");
  repeated("--cache-from,--import-cache", &flags->cache_from, "type=registry,ref=…");
  repeated("--cache-to,--export-cache", &flags->cache_to, "type=registry,ref=…");
  app->add_option("--source-policy-file", flags->source_policy_file,
                  "JSON rules that allow, deny or convert sources; default: "
                  "$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY");
  app->add_flag("--no-cache", flags->no_cache, "run every step");
}

absl::Status FillSessionOptions(const BuildFlags& flags, bool stdout_is_terminal,
                                SolveOptions* options) {
  KILN_ASSIGN_OR_RETURN(options->cache_imports, ParseCaches(flags.cache_from, "--cache-from"));
  KILN_ASSIGN_OR_RETURN(options->cache_exports, ParseCaches(flags.cache_to, "--cache-to"));
  KILN_RETURN_IF_ERROR(FillSourcePolicy(flags.source_policy_file, options));
  for (const std::string& secret : flags.secrets)
    KILN_RETURN_IF_ERROR(Annotate(options->secrets.Add(secret), absl::StrCat("--secret ", secret)));
  for (const std::string& agent : flags.ssh) KILN_RETURN_IF_ERROR(options->ssh.Add(agent));
  int to_stdout = 0;
  for (const std::string& output : flags.outputs) {
    KILN_ASSIGN_OR_RETURN(ExportRequest request, ParseOutput(output, stdout_is_terminal));
    to_stdout += request.target.path == "-" ? 1 : 0;
    options->outputs.push_back(std::move(request));
  }
  if (to_stdout > 1)
    return absl::InvalidArgumentError("only one --output may go to standard output");
  return absl::OkStatus();
}

absl::Status FillBuildOptions(const BuildFlags& flags, bool stdout_is_terminal,
                              SolveOptions* options) {
  KILN_RETURN_IF_ERROR(CheckFlagValues(flags));
  KILN_RETURN_IF_ERROR(FillSessionOptions(flags, stdout_is_terminal, options));
  KILN_ASSIGN_OR_RETURN(options->frontend_attrs, ParsePairs(flags.opts, "--opt"));
  KILN_ASSIGN_OR_RETURN(options->local_dirs, ParsePairs(flags.locals, "--local"));
  DropMissingCaches(&options->cache_imports);
  for (const CacheEntry& entry : options->cache_exports) {
    const auto dest = entry.attrs.find("dest");
    if (entry.type != "local" || dest == entry.attrs.end()) continue;
    KILN_RETURN_IF_ERROR(MakeRoomFor({ExportTarget::Kind::kLayout, dest->second, false},
                                     absl::StrCat("--cache-to type=local,dest=", dest->second)));
  }
  options->no_cache = flags.no_cache;
  options->frontend = flags.frontend;
  options->entitlements = flags.allow;
  for (size_t i = 0; i < options->outputs.size(); ++i)
    KILN_RETURN_IF_ERROR(
        MakeRoomFor(options->outputs[i].target, absl::StrCat("--output ", flags.outputs[i])));
  return absl::OkStatus();
}

absl::Status AddImageOutputs(const BuildFlags& flags, std::unique_ptr<ImageLoader>* loader,
                             SolveOptions* options) {
  const std::string names = absl::StrJoin(flags.tags, ",");
  std::vector<ExportRequest>& outputs = options->outputs;
  if (options->frontend_attrs.count("requestid") != 0) {  // a question: its answer is no image
    outputs.clear();
    options->cache_exports.clear();
    return absl::OkStatus();
  }
  if (flags.load) {
    KILN_ASSIGN_OR_RETURN(*loader, ImageLoader::Find());
    outputs.push_back((*loader)->Request(flags.tags, options->cancel));
  }
  if (names.empty() && flags.push)
    return absl::InvalidArgumentError("--push needs a name: --tag REGISTRY/NAME");
  if (!names.empty()) {
    for (ExportRequest& output : outputs)
      if (IsImageOutput(output)) output.attrs.try_emplace("name", names);
    bool has_image = false;
    for (const ExportRequest& output : outputs) has_image = has_image || output.type == "image";
    if (outputs.empty() || (flags.push && !has_image))
      outputs.push_back({"image", {{"name", names}}, {}});
  }
  for (ExportRequest& output : outputs) {
    if (!IsImageOutput(output)) continue;
    if (flags.push && output.type == "image") output.attrs["push"] = "true";
    for (const std::string& annotation : flags.annotations) {
      KILN_ASSIGN_OR_RETURN(const auto attrs, ParseAnnotation(annotation));
      for (const auto& [key, value] : attrs) output.attrs[key] = value;
    }
  }
  return absl::OkStatus();
}

bool HasImage(const SolveOptions& options) {
  return std::any_of(options.outputs.begin(), options.outputs.end(), IsImageOutput);
}

absl::StatusOr<ProgressMode> DisplayMode(const std::string& progress) {
  std::string text = progress;
  for (const char* variable : {"KILN_PROGRESS", "BUILDKIT_PROGRESS"}) {
    const char* value = std::getenv(variable);
    if (text.empty() && value != nullptr) text = value;
  }
  KILN_ASSIGN_OR_RETURN(const ProgressMode mode, ParseProgressMode(text.empty() ? "auto" : text));
  return ResolveMode(mode, STDERR_FILENO);
}

}  // namespace kiln::client
