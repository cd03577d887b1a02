#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/build_display.h"
#include "client/cli/build_flags.h"
#include "client/cli/build_metadata.h"
#include "client/cli/command.h"
#include "client/cli/flag_values.h"
#include "client/cli/image_loader.h"
#include "client/error_text.h"
#include "client/solve/solve.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kMaxDefinitionBytes = 16 << 20;  // what a message may hold

class BuildCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand(
        "build", "build a Dockerfile (of a directory), or an LLB definition (a file)");
    sub->add_option("CONTEXT", file_,
                    "directory, git or web address of a build context; or an LLB definition: a "
                    "file, \"-\" or nothing for standard input");
    AddBuildFlags(sub, &flags_);
    sub->add_flag("-q,--quiet", quiet_, "print the image's id only");
    sub->add_option("--progress", progress_, "auto, tty, plain, rawjson or quiet");
    sub->add_option("--metadata-file", metadata_file_, "write what the exporters say as JSON");
    sub->add_option("--iidfile", iid_file_,
                    "write the image's id: the digest of its config, or of its index");
    sub->add_option("--ref-file", ref_file_, "write the build's id");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const ProgressMode mode, DisplayMode(quiet_ ? "quiet" : progress_));
    KILN_RETURN_IF_ERROR(WrongUsage(FillOptions()));
    options_.cancel = globals.connect.cancel;
    KILN_RETURN_IF_ERROR(WrongUsage(AddImageOutputs(flags_, &loader_, &options_)));
    KILN_RETURN_IF_ERROR(WrongUsage(CheckResultFiles()));
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    BuildDisplay display(mode);
    const absl::StatusOr<SolveResult> result = Solve(*connection, options_, &display);
    display.Finish(result.status());
    if (!result.ok()) {
      return absl::IsCancelled(result.status()) ? result.status()
                                                : Annotate(result.status(), "failed to solve");
    }
    if (loader_ != nullptr) {
      KILN_RETURN_IF_ERROR(loader_->Load(options_.cancel, [&] {
        std::cerr << "the engine wants all layers: exporting again\n";
        ImageLoader::SendWhole(&options_.outputs);
        BuildDisplay again(mode);
        const absl::Status status = Solve(*connection, options_, &again).status();
        again.Finish(status);
        return status;
      }));
      std::cerr << "loaded into " << loader_->engine() << "\n";
    }
    KILN_RETURN_IF_ERROR(PrintCall(flags_.docker, *result));
    const std::string id = ImageId(*result);
    if (quiet_ && !id.empty()) std::cout << id << "\n";
    if (!iid_file_.empty()) {
      if (id.empty()) return absl::InternalError("--iidfile: the daemon told no image");
      KILN_RETURN_IF_ERROR(WriteFileAtomic(iid_file_, id, 0644));
    }
    if (!ref_file_.empty()) KILN_RETURN_IF_ERROR(WriteFileAtomic(ref_file_, result->ref, 0644));
    if (!metadata_file_.empty()) {
      return Annotate(WriteFileAtomic(metadata_file_, MetadataText(MetadataOf(*result)), 0644),
                      "metadata file");
    }
    return absl::OkStatus();
  }

 private:
  // A build that took an hour should not fail for these.
  absl::Status CheckResultFiles() const {
    KILN_RETURN_IF_ERROR(CheckResultFile("--metadata-file", metadata_file_));
    KILN_RETURN_IF_ERROR(CheckResultFile("--iidfile", iid_file_));
    KILN_RETURN_IF_ERROR(CheckResultFile("--ref-file", ref_file_));
    if (iid_file_.empty() || HasImage(options_)) return absl::OkStatus();
    return absl::InvalidArgumentError("--iidfile: the build has no image; use --tag");
  }

  absl::Status FillOptions() {
    if (flags_.ssh.empty() && flags_.frontend.empty() && IsSshAddress(file_))
      flags_.ssh = {"default"};
    KILN_RETURN_IF_ERROR(FillBuildOptions(flags_, isatty(STDOUT_FILENO) == 1, &options_));
    if (!flags_.frontend.empty()) return absl::OkStatus();
    if (IsBuildContext(file_))
      return FillDockerfileBuild(file_, flags_.docker, &text_dockerfile_, &options_);
    if (!flags_.docker.file.empty() || flags_.docker.check || !flags_.docker.call.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("\"", file_, "\" is no build context: name a directory or an address"));
    return ReadDefinition();
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

  std::string file_, progress_, metadata_file_, ref_file_, iid_file_;
  bool quiet_ = false;
  BuildFlags flags_;
  TextDockerfile text_dockerfile_;
  std::unique_ptr<ImageLoader> loader_;  // with --load
  SolveOptions options_;
};

}  // namespace

std::unique_ptr<Command> MakeBuildCommand() { return std::make_unique<BuildCommand>(); }

}  // namespace kiln::client
