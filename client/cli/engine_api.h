#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/image_archive.h"
#include "store/base/cancel.h"

namespace kiln::client {

// Docker's API on a unix socket, which Podman speaks, too: what loading an image takes of it. Not
// thread-safe; blocks. Errors say what the engine said; kUnavailable: it went away.
class EngineApi {
 public:
  explicit EngineApi(std::string socket);
  ~EngineApi();
  EngineApi(const EngineApi&) = delete;
  EngineApi& operator=(const EngineApi&) = delete;

  // The layers that an archive need not have, as the engine has them under the same lower ones; as
  // far as its 100 newest images say. None where it wants all layers.
  absl::StatusOr<std::set<std::string>> KnownLayers(const ImageArchive& archive,
                                                    const CancelToken& cancel);
  // Loads an archive, which these ranges of the file are.
  absl::Status Load(int file, const std::vector<ImageArchive::Range>& ranges,
                    const CancelToken& cancel);

 private:
  struct Http;
  absl::Status Open();
  // The body of a success.
  absl::StatusOr<std::string> Perform(const std::string& path, const CancelToken& cancel);
  absl::StatusOr<std::string> Get(const std::string& path, const CancelToken& cancel);

  const std::string socket_;
  std::unique_ptr<Http> http_;  // once it was needed
};

}  // namespace kiln::client
