#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/digest.h"
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

  // Chain ids (OCI image-spec, layer chain id) of layers that an archive need not have: those of
  // its newest images, of which those of `repositories` ("app" of "app:1") come first. None where
  // it wants all layers. At most `limit`.
  absl::StatusOr<std::vector<Digest>> KnownLayers(const std::vector<std::string>& repositories,
                                                  size_t limit, const CancelToken& cancel);
  // Loads an archive: `bytes` of `file` from its start.
  absl::Status Load(int file, int64_t bytes, const CancelToken& cancel);

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
