#pragma once

#include <memory>

#include "daemon/exporter/image_pusher.h"
#include "store/base/thread_pool.h"
#include "store/blob_store.h"
#include "store/image_table.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

struct ImagesServiceDeps {
  store::ImageTable* images = nullptr;
  store::BlobStore* blobs = nullptr;
  ImagePusher* pusher = nullptr;
  ThreadPool* pool = nullptr;  // one thread for each call
};

// kiln.v1.Images: the images that the daemon keeps by name. Names may be short ("app").
std::unique_ptr<grpc::Service> MakeImagesService(const ImagesServiceDeps& deps);

}  // namespace kiln::daemon
