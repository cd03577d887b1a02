#pragma once

#include <memory>

#include "store/base/thread_pool.h"
#include "store/blob_store.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

struct ContentServiceDeps {
  store::BlobStore* blobs = nullptr;
  ThreadPool* pool = nullptr;  // what reads the disk
};

// containerd.services.content.v1.Content (wire.md 1.1): what builds made, read-only. Everything
// that would change it is refused with "read-only content store". Namespaces are ignored.
std::unique_ptr<grpc::Service> MakeContentService(const ContentServiceDeps& deps);

}  // namespace kiln::daemon
