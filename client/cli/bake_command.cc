#include <fcntl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <functional>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/bake/builds.h"
#include "client/bake/definition.h"
#include "client/bake/plan.h"
#include "client/cli/bake_targets.h"
#include "client/cli/build_display.h"
#include "client/cli/build_metadata.h"
#include "client/cli/command.h"
#include "client/cli/flag_values.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
// In the order in which later ones are put on top.
constexpr const char* kFileNames[] = {"docker-bake.json", "docker-bake.override.json",
                                      "docker-bake.hcl", "docker-bake.override.hcl"};
constexpr const char* kComposeNames[] = {"compose.yaml", "compose.yml", "docker-compose.yml",
                                         "docker-compose.yaml"};

std::optional<std::string> Environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

bool IsCompose(absl::string_view name) {
  return absl::EndsWith(name, ".yml") || absl::EndsWith(name, ".yaml");
}

absl::Status NoCompose(absl::string_view name) {
  return absl::UnimplementedError(
      absl::StrCat(name, ": compose files are not implemented; bake reads HCL and JSON"));
}

// "amd64" of this machine, as Go names it.
std::string LocalPlatform() {
#if defined(__aarch64__)
  return "linux/arm64";
#elif defined(__riscv)
  return "linux/riscv64";
#else
  return "linux/amd64";
#endif
}

class BakeCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand(
        "bake", "build the targets of docker-bake.hcl or docker-bake.json at once");
    const auto repeated = [sub](const char* names, std::vector<std::string>* values,
                                const char* help) {
      return sub->add_option(names, *values, absl::StrCat(help, "; repeatable"))
          ->allow_extra_args(false)
          ->take_all();
    };
    sub->add_option("TARGETS", options_.names, "targets and groups; default: \"default\"");
    repeated("-f,--file", &files_, "definition file, HCL or JSON; \"-\": standard input");
    repeated("--set", &options_.sets, "TARGET.KEY=VALUE, or TARGET.KEY+=VALUE for lists");
    repeated("--var", &vars_, "NAME=VALUE of a variable, before the environment's");
    CLI::Option* print = sub->add_flag("--print", print_, "print what would be built, as JSON");
    sub->add_option("--list", list_, "print \"targets\" or \"variables\"")->excludes(print);
    sub->add_flag("--push", push_, "push the images to the registries of their names");
    sub->add_flag("--load", load_, "hand the images to docker, podman or containerd");
    no_cache_option_ = sub->add_flag("--no-cache", no_cache_, "run every step");
    pull_option_ = sub->add_flag("--pull", pull_, "ask the registry for every image");
    sub->add_option("--provenance", provenance_, "true, false or mode=min|max,…");
    sub->add_option("--sbom", sbom_, "true, false or generator=IMAGE");
    sub->add_option("--call", call_, "build, check, outline or targets[,format=json]");
    sub->add_flag("--check", check_, "only look for mistakes in the Dockerfiles");
    repeated("--allow", &allow_, "entitlement: network.host, security.insecure");
    sub->add_option("--progress", progress_, "auto, tty, plain, rawjson or quiet");
    sub->add_option("--metadata-file", metadata_file_, "write what the exporters say as JSON");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const ProgressMode mode, DisplayMode(progress_));
    for (const std::string& name : options_.names)
      if (bake::IsRemoteAddress(name))
        return absl::UnimplementedError(
            absl::StrCat(name, ": definitions at an address are not implemented"));
    KILN_ASSIGN_OR_RETURN(const bake::Definition definition, Read());
    if (!list_.empty()) return List(definition);
    AddSettings();
    KILN_ASSIGN_OR_RETURN(const bake::Plan plan, bake::MakePlan(definition, options_));
    const bool stdout_is_terminal = isatty(STDOUT_FILENO) == 1;
    if (print_) {
      KILN_RETURN_IF_ERROR(CheckPlan(plan, stdout_is_terminal));
      std::cout << bake::PlanJson(plan) << "\n";
      return absl::OkStatus();
    }
    KILN_RETURN_IF_ERROR(CheckResultFile("--metadata-file", metadata_file_));
    KILN_ASSIGN_OR_RETURN(auto targets, PrepareTargets(plan, allow_, stdout_is_terminal));
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    std::map<std::string, bake::TargetBuild> builds;
    for (auto& [name, target] : targets) builds[name] = std::move(target.build);
    const auto build = [&] {
      BuildDisplay display(mode);
      auto results = bake::BuildTargets(*connection, builds, globals.connect.cancel, &display);
      display.Finish(results.status());
      return results;
    };
    const auto results = build();
    if (!results.ok())
      return absl::IsCancelled(results.status()) ? results.status()
                                                 : Annotate(results.status(), "failed to solve");
    return Report(globals, targets, *results, [&] {
      std::cerr << "the engine wants all layers: exporting again\n";
      for (auto& [name, target] : builds) ImageLoader::SendWhole(&target.options.outputs);
      return build().status();
    });
  }

 private:
  absl::StatusOr<bake::Definition> Read() {
    KILN_ASSIGN_OR_RETURN(const std::vector<bake::File> files, ReadFiles());
    std::map<std::string, std::string> vars;
    for (const std::string& var : vars_) {
      const size_t equals = var.find('=');
      if (equals == std::string::npos || equals == 0)
        return absl::InvalidArgumentError(absl::StrCat("--var ", var, " must be NAME=VALUE"));
      vars[var.substr(0, equals)] = var.substr(equals + 1);
    }
    bake::DefinitionOptions options;
    options.lookup = [&vars](const std::string& name) -> std::optional<std::string> {
      const auto found = vars.find(name);
      if (found != vars.end()) return found->second;
      return Environment(name);
    };
    options.built_in = {{"BAKE_CMD_CONTEXT", "cwd://"}, {"BAKE_LOCAL_PLATFORM", LocalPlatform()}};
    options_.lookup = &Environment;
    return bake::ReadDefinition(files, options);
  }

  absl::StatusOr<std::vector<bake::File>> ReadFiles() const {
    std::vector<bake::File> files;
    for (const std::string& name : files_) {
      if (IsCompose(name)) return NoCompose(name);
      absl::StatusOr<std::string> text = name == "-" ? ReadAll(STDIN_FILENO, kMaxFileBytes)
                                                     : ReadFileToString(name, kMaxFileBytes);
      KILN_RETURN_IF_ERROR(text.status());
      files.push_back({name, *std::move(text)});
    }
    if (!files_.empty()) return files;
    for (const char* name : kFileNames) {
      absl::StatusOr<std::string> text = ReadFileToString(name, kMaxFileBytes);
      if (absl::IsNotFound(text.status())) continue;
      KILN_RETURN_IF_ERROR(text.status());
      files.push_back({name, *std::move(text)});
    }
    for (const char* name : kComposeNames) {
      if (access(name, F_OK) != 0) continue;
      if (files.empty()) return NoCompose(name);
      std::cerr << "note: " << name << " is not read: compose files are not implemented\n";
    }
    if (files.empty())
      return absl::InvalidArgumentError(
          "couldn't find a bake definition: docker-bake.hcl, docker-bake.json, or name one with "
          "-f");
    return files;
  }

  // What the flags mean for all targets.
  void AddSettings() {
    const auto all = [this](absl::string_view setting) {
      options_.sets.push_back(absl::StrCat("*.", setting));
    };
    if (load_) all("output=type=docker");
    if (push_) all(load_ ? "output=type=image,push=true" : "push=true");
    if (no_cache_option_->count() > 0) all(absl::StrCat("no-cache=", no_cache_ ? "true" : "false"));
    if (pull_option_->count() > 0) all(absl::StrCat("pull=", pull_ ? "true" : "false"));
    for (const auto& [type, value] :
         {std::pair("sbom", sbom_), std::pair("provenance", provenance_)}) {
      if (value.empty()) continue;
      const bool word = value == "true" || value == "false";
      all(absl::StrCat(
          "attest=type=", type, ",",
          word ? absl::StrCat("disabled=", value == "true" ? "false" : "true") : value));
    }
    if (check_ && call_.empty()) call_ = "check";
    if (absl::StartsWith(call_, "check")) call_.replace(0, 5, "lint");
    if (!call_.empty()) all(absl::StrCat("call=", call_));
  }

  absl::Status List(const bake::Definition& definition) const {
    const absl::string_view what = absl::StripPrefix(list_, "type=");
    const auto row = [](const std::string& first, const std::string& second) {
      std::cout << std::left << std::setw(32) << first << " " << second << "\n";
    };
    if (what == "targets") {
      row("TARGET", "DESCRIPTION");
      for (const bake::Group& group : definition.groups)
        row(group.name,
            group.description.empty() ? absl::StrJoin(group.targets, ", ") : group.description);
      for (const bake::Target& target : definition.targets)
        row(target.name, target.Text("description"));
      return absl::OkStatus();
    }
    if (what != "variables")
      return absl::InvalidArgumentError(
          absl::StrCat("--list ", list_, ": use targets or variables"));
    row("VARIABLE", "VALUE                            DESCRIPTION");
    for (const bake::VariableInfo& variable : definition.variables) {
      std::string value = variable.value;
      if (value.size() < 32) value.resize(32, ' ');
      row(variable.name, absl::StrCat(value, " ", variable.description));
    }
    return absl::OkStatus();
  }

  // After the builds: images to engines, answers of frontends, metadata. `build_whole`: see
  // ImageLoader::Load.
  absl::Status Report(const Globals& globals, const std::map<std::string, BakeTarget>& targets,
                      const std::map<std::string, SolveResult>& results,
                      const std::function<absl::Status()>& build_whole) const {
    nlohmann::json metadata = nlohmann::json::object();
    absl::Status status;
    for (const auto& [name, target] : targets) {
      const SolveResult& result = results.at(name);
      if (target.loader != nullptr) {
        KILN_RETURN_IF_ERROR(
            Annotate(target.loader->Load(globals.connect.cancel, build_whole), name));
        std::cerr << name << ": loaded into " << target.loader->engine() << "\n";
      }
      if (!target.flags.docker.call.empty() && target.flags.docker.call != "build") {
        std::cout << name << "\n\n";
        const absl::Status answer = Annotate(PrintCall(target.flags.docker, result), name);
        std::cout << "\n";
        if (status.ok()) status = answer;
      }
      metadata[name] = MetadataOf(result);
    }
    if (!metadata_file_.empty())
      KILN_RETURN_IF_ERROR(
          Annotate(WriteFileAtomic(metadata_file_, MetadataText(metadata), 0644), "metadata file"));
    return status;
  }

  bake::PlanOptions options_;
  std::vector<std::string> files_, vars_, allow_;
  std::string list_, provenance_, sbom_, call_, progress_, metadata_file_;
  bool print_ = false, push_ = false, load_ = false, no_cache_ = false, pull_ = false;
  bool check_ = false;
  CLI::Option* no_cache_option_ = nullptr;
  CLI::Option* pull_option_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> MakeBakeCommand() { return std::make_unique<BakeCommand>(); }

}  // namespace kiln::client
