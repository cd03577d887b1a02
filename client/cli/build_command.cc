#include <fcntl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/dockerfile_flags.h"
#include "client/cli/image_loader.h"
#include "client/progress/display.h"
#include "client/progress/model.h"
#include "client/progress/text.h"
#include "client/solve/solve.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kMaxDefinitionBytes = 16 << 20;  // what a message may hold

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
    if (entry.type == "local") {
      return absl::UnimplementedError(absl::StrCat(
          flag, " ", text, ": type=local (a content store on the client) is not implemented"));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

// Counts steps for the summary and passes everything on.
class CountingSink : public ProgressSink {
 public:
  explicit CountingSink(Display* display) : display_(display) {}
  void OnUpdate(const ProgressUpdate& update) override {
    for (Step* step : model_.Apply(update)) {
      step->new_lines.clear();
      step->warnings.clear();
    }
    display_->OnUpdate(update);
  }
  StepCounts Counts() const { return model_.Counts(); }

 private:
  Display* const display_;
  ProgressModel model_;
};

absl::Status WriteMetadata(const std::string& file, const SolveResult& result) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const auto& [key, value] : result.exporter_response) {
    // Some values are base64 of JSON: written as what they are, as buildctl does.
    std::string decoded;
    nlohmann::json parsed = nlohmann::json::value_t::discarded;
    if (absl::Base64Unescape(value, &decoded)) {
      parsed = nlohmann::json::parse(decoded, nullptr, false);
    }
    metadata[key] = parsed.is_object() || parsed.is_array() ? parsed : nlohmann::json(value);
  }
  metadata["buildx.build.ref"] = result.ref;
  const std::string text = metadata.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  return Annotate(WriteFileAtomic(file, text + "\n", 0644), "metadata file");
}

class BuildCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand(
        "build", "build a Dockerfile (of a directory), or an LLB definition (a file)");
    const auto repeated = [sub](const char* names, std::vector<std::string>* values,
                                const char* help) {
      sub->add_option(names, *values, absl::StrCat(help, "; repeatable"))
          ->allow_extra_args(false)
          ->take_all();
    };
    sub->add_option("CONTEXT", file_,
                    "directory, git or web address of a build context; or an LLB definition: a "
                    "file, \"-\" or nothing for standard input");
    sub->add_option("-f,--file", docker_.file, "the Dockerfile; \"-\": standard input");
    sub->add_option("--target", docker_.target, "stage to build");
    repeated("--build-arg", &docker_.build_args, "NAME=VALUE, or NAME of the environment");
    repeated("--label", &docker_.labels, "NAME=VALUE, a label of the image");
    repeated("--platform", &docker_.platforms, "linux/arm64, …");
    repeated("--build-context", &docker_.contexts, "NAME=DIR | docker-image://… | URL");
    repeated("--add-host", &docker_.add_hosts, "NAME=IP or NAME:IP for every RUN");
    repeated("--ulimit", &docker_.ulimits, "NAME=SOFT[:HARD] for every RUN");
    repeated("--no-cache-filter", &docker_.no_cache_filter, "stage that runs whatever is known");
    sub->add_option("--network", docker_.network, "of every RUN: default, none or host");
    sub->add_option("--provenance", docker_.provenance, "true, false or mode=min|max,…");
    sub->add_option("--sbom", docker_.sbom, "true, false or generator=IMAGE");
    sub->add_flag("--pull", docker_.pull, "ask the registry for every image");
    sub->add_flag("--check", docker_.check, "only look for mistakes in the Dockerfile");
    sub->add_option("--call", docker_.call, "build, check, outline or targets[,format=json]");
    sub->add_option("--frontend", frontend_, "another frontend, with --opt and --local");
    repeated("--opt", &opts_, "NAME=VALUE for the frontend");
    repeated("--local", &locals_, "NAME=DIRECTORY that the build may read");
    repeated("-o,--output", &outputs_,
             "type=local,dest=DIR | type=tar,dest=FILE | type=oci,dest=FILE | … | DIR | -");
    repeated("-t,--tag", &tags_, "name of the image. Alone: the daemon keeps it");
    sub->add_flag("--push", push_, "push the image to the registries of its names");
    sub->add_flag("--load", load_, "hand the image to docker, podman or containerd");
    repeated("--secret", &secrets_, "id=ID[,src=FILE][,env=VARIABLE]");
    repeated("--ssh", &ssh_, "default | ID[=SOCKET]");
    repeated("--allow", &allow_, "entitlement: network.host, security.insecure");
    repeated("--cache-from,--import-cache", &import_cache_, "type=registry,ref=…");
    repeated("--cache-to,--export-cache", &export_cache_, "type=registry,ref=…");
    sub->add_flag("--no-cache", options_.no_cache, "run every step");
    sub->add_option("--progress", progress_, "auto, tty, plain, rawjson or quiet");
    sub->add_option("--metadata-file", metadata_file_, "write what the exporters say as JSON");
    sub->add_option("--iidfile", iid_file_, "write the image's digest");
    sub->add_option("--ref-file", ref_file_, "write the build's id");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const ProgressMode mode, Mode());
    KILN_RETURN_IF_ERROR(FillOptions());
    options_.cancel = globals.connect.cancel;
    KILN_RETURN_IF_ERROR(AddImageOutputs());
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    const absl::Time begin = absl::Now();
    const std::unique_ptr<Display> display = MakeDisplay(mode, OutputTo(STDERR_FILENO));
    CountingSink sink(display.get());
    const absl::StatusOr<SolveResult> result = Solve(*connection, options_, &sink);
    display->Finish(result.status());
    if (mode == ProgressMode::kPlain || mode == ProgressMode::kTty) {
      std::cerr << SummaryLine(sink.Counts(), absl::Now() - begin) << "\n";
    }
    if (!result.ok()) {
      return absl::IsCancelled(result.status()) ? result.status()
                                                : Annotate(result.status(), "failed to solve");
    }
    if (loader_ != nullptr) {
      KILN_RETURN_IF_ERROR(loader_->Load(options_.cancel));
      std::cerr << "loaded into " << loader_->engine() << "\n";
    }
    KILN_RETURN_IF_ERROR(PrintCall(docker_, *result));
    if (!iid_file_.empty()) {
      const auto digest = result->exporter_response.find("containerimage.digest");
      if (digest == result->exporter_response.end())
        return absl::InvalidArgumentError("--iidfile: the build has no image; use --tag");
      KILN_RETURN_IF_ERROR(WriteFileAtomic(iid_file_, digest->second, 0644));
    }
    if (!ref_file_.empty()) KILN_RETURN_IF_ERROR(WriteFileAtomic(ref_file_, result->ref, 0644));
    if (!metadata_file_.empty()) return WriteMetadata(metadata_file_, *result);
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<ProgressMode> Mode() const {
    std::string text = progress_;
    for (const char* variable : {"KILN_PROGRESS", "BUILDKIT_PROGRESS"}) {
      const char* value = std::getenv(variable);
      if (text.empty() && value != nullptr) text = value;
    }
    KILN_ASSIGN_OR_RETURN(const ProgressMode mode, ParseProgressMode(text.empty() ? "auto" : text));
    return ResolveMode(mode, STDERR_FILENO);
  }

  absl::Status FillOptions() {
    KILN_ASSIGN_OR_RETURN(options_.frontend_attrs, ParsePairs(opts_, "--opt"));
    KILN_ASSIGN_OR_RETURN(options_.local_dirs, ParsePairs(locals_, "--local"));
    KILN_ASSIGN_OR_RETURN(options_.cache_imports, ParseCaches(import_cache_, "--import-cache"));
    KILN_ASSIGN_OR_RETURN(options_.cache_exports, ParseCaches(export_cache_, "--export-cache"));
    options_.entitlements = allow_;
    for (const std::string& secret : secrets_) KILN_RETURN_IF_ERROR(options_.secrets.Add(secret));
    for (const std::string& agent : ssh_) KILN_RETURN_IF_ERROR(options_.ssh.Add(agent));
    int to_stdout = 0;
    for (const std::string& output : outputs_) {
      KILN_ASSIGN_OR_RETURN(ExportRequest request, ParseOutput(output, isatty(STDOUT_FILENO) == 1));
      to_stdout += request.target.path == "-" ? 1 : 0;
      options_.outputs.push_back(std::move(request));
    }
    if (to_stdout > 1) {
      return absl::InvalidArgumentError("only one --output may go to standard output");
    }
    options_.frontend = frontend_;
    if (!frontend_.empty()) return absl::OkStatus();
    if (IsBuildContext(file_))
      return FillDockerfileBuild(file_, docker_, &stdin_dockerfile_, &options_);
    if (!docker_.file.empty() || docker_.check || !docker_.call.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("\"", file_, "\" is no build context: name a directory or an address"));
    return ReadDefinition();
  }

  // What --tag and --load ask for beside --output.
  absl::Status AddImageOutputs() {
    const std::string names = absl::StrJoin(tags_, ",");
    if (load_) {
      KILN_ASSIGN_OR_RETURN(loader_, ImageLoader::Find());
      options_.outputs.push_back(loader_->Request(names));
    }
    if (names.empty() && push_)
      return absl::InvalidArgumentError("--push needs a name: --tag REGISTRY/NAME");
    if (names.empty()) return absl::OkStatus();
    for (ExportRequest& output : options_.outputs) {
      if (output.type == "image" || output.type == "oci" || output.type == "docker")
        output.attrs.try_emplace("name", names);
    }
    if (options_.outputs.empty()) options_.outputs.push_back({"image", {{"name", names}}, {}});
    if (push_) {
      for (ExportRequest& output : options_.outputs)
        if (output.type == "image") output.attrs["push"] = "true";
    }
    return absl::OkStatus();
  }

  absl::Status ReadDefinition() {
    if (file_.empty() || file_ == "-") {
      if (isatty(STDIN_FILENO) == 1) {
        return absl::InvalidArgumentError(
            "standard input is a terminal: pipe an LLB definition in, name a file, or use "
            "--frontend");
      }
      KILN_ASSIGN_OR_RETURN(options_.definition, ReadAll(STDIN_FILENO, kMaxDefinitionBytes));
    } else {
      KILN_ASSIGN_OR_RETURN(options_.definition, ReadFileToString(file_, kMaxDefinitionBytes));
    }
    if (options_.definition.empty()) {
      return absl::InvalidArgumentError("the LLB definition is empty");
    }
    return absl::OkStatus();
  }

  std::string file_, frontend_, progress_, metadata_file_, ref_file_;
  std::vector<std::string> opts_, locals_, outputs_, secrets_, ssh_, allow_;
  std::vector<std::string> import_cache_, export_cache_;
  std::vector<std::string> tags_;
  bool load_ = false, push_ = false;
  std::string iid_file_;
  DockerfileFlags docker_;
  StdinDockerfile stdin_dockerfile_;
  std::unique_ptr<ImageLoader> loader_;  // with --load
  SolveOptions options_;
};

}  // namespace

std::unique_ptr<Command> MakeBuildCommand() { return std::make_unique<BuildCommand>(); }

}  // namespace kiln::client
