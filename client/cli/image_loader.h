#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/session/exports.h"
#include "store/base/cancel.h"

namespace kiln::client {

// Hands an image to a container engine of this machine. Found in this order: $DOCKER_HOST (a unix
// socket), Docker's sockets, Podman's, containerd's with the ctr program ($CONTAINERD_ADDRESS,
// $CONTAINERD_NAMESPACE). One that does not listen, or not to this user, is passed over.
class ImageLoader {
 public:
  // kFailedPrecondition, saying why each one cannot be used, when there is no engine;
  // kUnimplemented for a $DOCKER_HOST that is no unix socket.
  static absl::StatusOr<std::unique_ptr<ImageLoader>> Find();
  // Removes the archive.
  ~ImageLoader();
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;

  // The export that writes what Load hands over. `names` in commas; may be empty.
  ExportRequest Request(const std::string& names) const;
  // Hands the archive over, without the layers that the engine has; to be called when the build is
  // done. The error says what the engine
  // said. Blocks.
  absl::Status Load(const CancelToken& cancel) const;

  const std::string& engine() const { return engine_; }  // "docker (/var/run/docker.sock)"

 private:
  ImageLoader() = default;
  absl::Status Send(const CancelToken& cancel) const;

  std::string engine_, socket_;
  bool containerd_ = false;
  std::string archive_;  // a file of the temporary folder
};

}  // namespace kiln::client
