#include "daemon/content/content_service.h"

#include <grpcpp/server_context.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/containerd/content.grpc.pb.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace content = containerd::services::content::v1;
using Context = grpc::CallbackServerContext;

constexpr int64_t kChunkBytes = 1 << 20;
constexpr size_t kInfosPerMessage = 100;

absl::Status ReadOnly(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("read-only content store: ", what));
}

absl::Status NotFound(const std::string& digest) {
  return absl::NotFoundError(absl::StrCat("content ", digest, ": not found"));
}

absl::StatusOr<int64_t> SizeOf(store::BlobStore& blobs, const std::string& text) {
  KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(text));
  const auto size = blobs.Size(digest);
  return absl::IsNotFound(size.status()) ? NotFound(text) : size;
}

// Sends what `next` yields until it says that there is no more. `next` blocks, on the pool.
template <typename Response>
class Stream : public grpc::ServerWriteReactor<Response> {
 public:
  // True: `response` is to be sent.
  using Next = std::function<absl::StatusOr<bool>(Response* response)>;

  Stream(ThreadPool* pool, Next next) : pool_(pool), next_(std::move(next)) { Continue(); }

 private:
  void Continue() {
    pool_->Post([this] {
      const auto more = next_(&response_);
      if (more.ok() && *more) {
        this->StartWrite(&response_);
        return;
      }
      next_ = nullptr;  // what it captured must not outlive the answer
      this->Finish(ToGrpc(more.status()));
    });
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      Continue();
    } else {
      this->Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client left"));
    }
  }
  void OnCancel() override {}  // the next write fails
  void OnDone() override { delete this; }

  ThreadPool* const pool_;
  Next next_;
  Response response_;
};

// The bytes of one blob from an offset on. The open file stays readable when the blob goes.
struct BlobReading {
  Fd file;
  int64_t offset = 0, end = 0;

  absl::StatusOr<bool> Next(content::ReadContentResponse* response) {
    if (offset >= end) return false;
    std::string& data = *response->mutable_data();
    data.resize(static_cast<size_t>(std::min(kChunkBytes, end - offset)));
    ssize_t got = 0;
    do {
      got = ::pread(file.get(), data.data(), data.size(), offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return ErrnoStatus(errno, "read a blob");
    if (got == 0) return absl::DataLossError("a blob is cut short");
    data.resize(static_cast<size_t>(got));
    response->set_offset(offset);
    offset += got;
    return true;
  }
};

absl::StatusOr<BlobReading> OpenReading(store::BlobStore& blobs,
                                        const content::ReadContentRequest& request) {
  KILN_ASSIGN_OR_RETURN(const int64_t size, SizeOf(blobs, request.digest()));
  if (request.offset() < 0 || request.offset() > size)
    return absl::OutOfRangeError(absl::StrCat(
        "read of ", request.digest(), " past its end: offset ", request.offset(), ", size ", size));
  BlobReading reading;
  KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(request.digest()));
  KILN_ASSIGN_OR_RETURN(reading.file, blobs.OpenBlob(digest));
  reading.offset = request.offset();
  reading.end = request.size() > 0
                    ? std::min(size - request.offset(), request.size()) + request.offset()
                    : size;
  return reading;
}

// Refuses the first request.
class RefusedWrite
    : public grpc::ServerBidiReactor<content::WriteContentRequest, content::WriteContentResponse> {
 public:
  RefusedWrite() { Finish(ToGrpc(ReadOnly("Write"))); }
  void OnDone() override { delete this; }
};

class ContentService : public content::Content::CallbackService {
 public:
  explicit ContentService(const ContentServiceDeps& deps) : deps_(deps) {}

 private:
  grpc::ServerUnaryReactor* Info(Context*, const content::InfoRequest* request,
                                 content::InfoResponse* response) override {
    return RunUnary(deps_.pool, [this, request, response](const CancelToken&) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const int64_t size, SizeOf(*deps_.blobs, request->digest()));
      response->mutable_info()->set_digest(request->digest());
      response->mutable_info()->set_size(size);
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<content::ListContentResponse>* List(
      Context*, const content::ListContentRequest* request) override {
    struct Listing {
      bool read = false;
      std::vector<std::pair<Digest, int64_t>> blobs;
      size_t next = 0;
    };
    const auto listing = std::make_shared<Listing>();
    const bool filtered = request->filters_size() > 0;
    return new Stream<content::ListContentResponse>(
        deps_.pool,
        [this, listing, filtered](content::ListContentResponse* response) -> absl::StatusOr<bool> {
          if (filtered)
            return absl::UnimplementedError("filters are not supported by this content store");
          if (!std::exchange(listing->read, true)) {
            KILN_ASSIGN_OR_RETURN(listing->blobs, deps_.blobs->List());
          }
          response->Clear();
          for (size_t i = 0; i < kInfosPerMessage && listing->next < listing->blobs.size(); ++i) {
            const auto& [digest, size] = listing->blobs[listing->next++];
            auto* info = response->add_info();
            info->set_digest(digest.ToString());
            info->set_size(size);
          }
          return response->info_size() > 0;
        });
  }

  grpc::ServerWriteReactor<content::ReadContentResponse>* Read(
      Context*, const content::ReadContentRequest* request) override {
    const auto reading = std::make_shared<std::optional<BlobReading>>();
    return new Stream<content::ReadContentResponse>(
        deps_.pool,
        [this, reading,
         wanted = *request](content::ReadContentResponse* response) -> absl::StatusOr<bool> {
          if (!reading->has_value()) {
            KILN_ASSIGN_OR_RETURN(*reading, OpenReading(*deps_.blobs, wanted));
          }
          return (*reading)->Next(response);
        });
  }

  grpc::ServerUnaryReactor* Status(Context* context, const content::StatusRequest* request,
                                   content::StatusResponse*) override {
    return AnswerNow(context,
                     absl::NotFoundError(absl::StrCat("ingest ", request->ref(), ": not found")));
  }
  // There are no ingests.
  grpc::ServerUnaryReactor* ListStatuses(Context* context, const content::ListStatusesRequest*,
                                         content::ListStatusesResponse*) override {
    return AnswerNow(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Update(Context* context, const content::UpdateRequest*,
                                   content::UpdateResponse*) override {
    return AnswerNow(context, ReadOnly("Update"));
  }
  grpc::ServerUnaryReactor* Delete(Context* context, const content::DeleteContentRequest*,
                                   google::protobuf::Empty*) override {
    return AnswerNow(context, ReadOnly("Delete"));
  }
  grpc::ServerUnaryReactor* Abort(Context* context, const content::AbortRequest*,
                                  google::protobuf::Empty*) override {
    return AnswerNow(context, ReadOnly("Abort"));
  }
  grpc::ServerBidiReactor<content::WriteContentRequest, content::WriteContentResponse>* Write(
      Context*) override {
    return new RefusedWrite();
  }

  const ContentServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeContentService(const ContentServiceDeps& deps) {
  return std::make_unique<ContentService>(deps);
}

}  // namespace kiln::daemon
