#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/dockerfile_flags.h"
#include "client/cli/image_loader.h"
#include "client/progress/display.h"
#include "client/solve/solve.h"

namespace CLI {
class App;
}

namespace kiln::client {

// The flags that say what one build is; `kiln build` has them, and each target of `kiln bake`.
struct BuildFlags {
  DockerfileFlags docker;
  std::string frontend;
  std::vector<std::string> opts, locals;  // of another frontend
  std::vector<std::string> outputs, tags, annotations;
  std::vector<std::string> cache_from, cache_to;
  std::vector<std::string> secrets, ssh, allow;
  std::string source_policy_file;
  bool no_cache = false, push = false, load = false;
};

// Registers the flags in a command.
void AddBuildFlags(CLI::App* app, BuildFlags* flags);

// The part of FillBuildOptions that asks nothing of a daemon and leaves nothing behind: secrets,
// SSH agents, outputs, caches by their text, the source policy.
absl::Status FillSessionOptions(const BuildFlags& flags, bool stdout_is_terminal,
                                SolveOptions* options);
// Puts the flags into `options`, those of the Dockerfile and those of AddImageOutputs excepted.
// kInvalidArgument names the flag.
absl::Status FillBuildOptions(const BuildFlags& flags, bool stdout_is_terminal,
                              SolveOptions* options);
// Completes the outputs: what --tag, --push, --load and --annotation ask for beside --output.
// `loader` gets the engine of --load.
absl::Status AddImageOutputs(const BuildFlags& flags, std::unique_ptr<ImageLoader>* loader,
                             SolveOptions* options);

// Whether an output is an image.
bool HasImage(const SolveOptions& options);

// The display that a --progress asks for; "" is $KILN_PROGRESS, $BUILDKIT_PROGRESS, or auto.
absl::StatusOr<ProgressMode> DisplayMode(const std::string& progress);

}  // namespace kiln::client
