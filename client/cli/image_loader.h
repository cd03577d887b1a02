#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/session/exports.h"
#include "proto/digest.h"
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

  // The export that writes what Load hands over; kilnd leaves out of it the layers that the engine
  // says it has. `names`: of the image; may be empty. Blocks for the engine's answers, which may
  // fail: then everything is sent.
  ExportRequest Request(const std::vector<std::string>& names, const CancelToken& cancel);
  // Hands the archive over, when the build is done. What an engine says it has it may want after
  // all: then `build_whole` is to build again with what SendWhole makes of the exports. The error
  // says what the engine said. Blocks.
  absl::Status Load(const CancelToken& cancel,
                    const std::function<absl::Status()>& build_whole) const;
  static void SendWhole(std::vector<ExportRequest>* outputs);

  const std::string& engine() const { return engine_; }  // "docker (/var/run/docker.sock)"

 private:
  ImageLoader() = default;
  absl::Status Send(const CancelToken& cancel) const;
  absl::StatusOr<std::vector<Digest>> KnownLayers(const std::vector<std::string>& names,
                                                  const CancelToken& cancel) const;

  std::string engine_, socket_;
  bool containerd_ = false;
  std::string archive_;  // a file of the temporary folder
  bool lacks_layers_ = false;
};

}  // namespace kiln::client
