#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/llb/state.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/image/platform.h"

namespace kiln::daemon {

// "attest:sbom" of a build: a bill of materials is wanted (images-and-cache.md 3.11). A plain
// value.
struct SbomOptions {
  std::string generator;                          // the scanner's image, a whole reference
  std::map<std::string, std::string> parameters;  // for the scanner

  // From the options of a frontend; nullopt when none is asked for. kInvalidArgument.
  static absl::StatusOr<std::optional<SbomOptions>> FromFrontend(
      const std::map<std::string, std::string>& opts);
};

// A program in an image that lists what file systems consist of. One step for each file system,
// cached like every other. The client outlives it. Thread-safe.
class SbomScanner {
 public:
  // Resolves the image for `platform`, the one that steps run on. kInvalidArgument when it has no
  // command. Blocks.
  static absl::StatusOr<SbomScanner> Create(FrontendClient& client, const SbomOptions& options,
                                            const Platform& platform,
                                            const std::string& resolve_mode);

  struct Target {
    std::string name;         // of the platform, for the step's name
    client::llb::State core;  // what the list is about
    // What went into it, by name: the build context, stages.
    std::map<std::string, client::llb::State> extras = {};
    bool ignore_cache = false;
    // Of ops in the targets that name no platform; nullopt: this machine's.
    std::optional<client::llb::Platform> platform = {};
  };
  // The scan as an attestation to attach: nothing runs before its ref is evaluated.
  absl::StatusOr<BridgeAttestation> Scan(const Target& target) const;

 private:
  SbomScanner(FrontendClient* client, const Platform& platform)
      : client_(client), platform_(platform) {}

  FrontendClient* client_;
  Platform platform_;
  std::string image_;
  std::vector<std::string> args_;
  std::vector<std::pair<std::string, std::string>> env_;
  std::string dir_;
  std::map<std::string, std::string> parameters_;
};

// Whether the frontend has attached a bill of materials already.
bool HasSbom(const BridgeResult& result);

}  // namespace kiln::daemon
