#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/llb/state.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/docker_image.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

// An option context:NAME=VALUE: something that stands for a stage or an image (dockerfile.md 5.4).
struct NamedContext {
  std::string name;   // as looked up, in its familiar form
  std::string label;  // the option's name: maybe with "::platform"
  std::string value;  // "docker-image://…", "local:…" and so on
  Platform platform;
};

// The context for a stage or image name; nullopt when there is none, and for the names that always
// mean the same. kInvalidArgument for what cannot name an image.
absl::StatusOr<std::optional<NamedContext>> FindNamedContext(const FrontendClient& client,
                                                             absl::string_view name,
                                                             const Platform& platform);

struct LoadedContext {
  client::llb::State state;
  std::optional<DockerImage> image;  // of images, and of inputs that bring one
};

// Loads contexts. Thread-safe; blocks. Everything it is made of outlives it.
class NamedContextLoader {
 public:
  NamedContextLoader(BuildSources* sources, ImageLookup* images, std::string resolve_mode)
      : sources_(sources), images_(images), resolve_mode_(std::move(resolve_mode)) {}

  // `needed` is asked when the graph is written, for a client's directory.
  absl::StatusOr<LoadedContext> Load(const NamedContext& context, BuildSources::NeededPaths needed);

 private:
  absl::StatusOr<LoadedContext> LoadImage(const NamedContext& context, absl::string_view value);
  absl::StatusOr<LoadedContext> LoadOciLayout(const NamedContext& context, absl::string_view value);
  absl::StatusOr<LoadedContext> LoadLocal(const NamedContext& context, const std::string& local,
                                          BuildSources::NeededPaths needed);
  absl::StatusOr<LoadedContext> LoadInput(const NamedContext& context, const std::string& input);

  BuildSources* const sources_;
  ImageLookup* const images_;
  const std::string resolve_mode_;
};

// The state with what an image's config says of environment, directory and platform.
client::llb::State WithImage(client::llb::State state, const DockerImage& image);

}  // namespace kiln::daemon::dockerfile
