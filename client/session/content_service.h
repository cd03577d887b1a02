#pragma once

#include "client/session/services.h"

namespace kiln::client {

// containerd's content API over the layouts of SessionOptions::content (wire.md 3.9): the daemon
// names one in the metadata "buildkit-attachable-store-id". Blobs have no labels.
SessionService MakeContentService(const SessionOptions& options);

}  // namespace kiln::client
