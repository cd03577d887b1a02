#pragma once

#include <memory>

#include "daemon/registry/registry.h"
#include "daemon/session/session.h"
#include "daemon/source/source.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// "docker-image+blob://NAME@DIGEST" and "oci-layout+blob://NAME@DIGEST": one blob as a file
// (llb.md 2.1.3). What arrives is checked against its digest.
class ImageBlobSource : public Source {
 public:
  // All outlive it.
  ImageBlobSource(store::RefStore* refs, Registry* registry, SessionFinder* sessions)
      : refs_(refs), registry_(registry), sessions_(sessions) {}

  bool Handles(absl::string_view scheme) const override {
    return scheme == "docker-image+blob" || scheme == "oci-layout+blob";
  }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override;

 private:
  store::RefStore* const refs_;
  Registry* const registry_;
  SessionFinder* const sessions_;
};

}  // namespace kiln::daemon
