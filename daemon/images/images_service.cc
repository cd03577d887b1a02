#include "daemon/images/images_service.h"

#include <grpcpp/server_context.h>

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/images/stored_image.h"
#include "daemon/registry/reference.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/kiln/images.grpc.pb.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using Context = grpc::CallbackServerContext;

absl::StatusOr<std::string> FullName(const std::string& text) {
  KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(text));
  return reference.ToString();
}

absl::StatusOr<store::NamedImage> Find(store::ImageTable& images, const std::string& text) {
  KILN_ASSIGN_OR_RETURN(const std::string name, FullName(text));
  return images.Get(name);
}

absl::Status Fill(store::BlobStore& blobs, const store::NamedImage& image, v1::Image* out) {
  out->set_name(image.name);
  out->set_digest(image.root.digest.ToString());
  out->set_media_type(image.root.media_type);
  out->set_created_at_ms(absl::ToUnixMillis(image.created_at));
  KILN_ASSIGN_OR_RETURN(const ImageSummary summary, Summarize(blobs, image));
  for (const std::string& platform : summary.platforms) out->add_platforms(platform);
  out->set_size_bytes(summary.size_bytes);
  out->set_missing_bytes(summary.missing_bytes);
  return absl::OkStatus();
}

// One push: works on the pool; messages queue up while one is being written. Counts of bytes that
// were not sent yet are replaced by newer ones. The pool's thread holds the object while it holds
// the lock; the object holds itself until OnDone.
class PushCall : public grpc::ServerWriteReactor<v1::PushImageProgress> {
 public:
  PushCall(const ImagesServiceDeps& deps, v1::PushImageRequest request)
      : deps_(deps), request_(std::move(request)) {}

  static PushCall* Open(const ImagesServiceDeps& deps, v1::PushImageRequest request) {
    auto call = std::make_shared<PushCall>(deps, std::move(request));
    PushCall* const raw = call.get();
    raw->self_ = call;
    deps.pool->Post([call] {
      const absl::Status status = call->Push();
      MutexLock lock(&call->mu_);
      call->end_ = ToGrpc(status);
      call->Advance();
    });
    return raw;
  }

 private:
  absl::Status Push() {
    KILN_ASSIGN_OR_RETURN(const store::NamedImage named, Find(*deps_.images, request_.name()));
    KILN_ASSIGN_OR_RETURN(const WrittenImage image, ReadStoredImage(*deps_.blobs, named));
    const BlobLease lease(deps_.blobs);
    PushRequest push;
    push.name = named.name;
    push.call.insecure = request_.insecure();
    push.call.cancel = cancel_.token();
    push.call.session_ids.assign(request_.session().begin(), request_.session().end());
    push.call.log = [this](absl::string_view line) {
      v1::PushImageProgress message;
      message.set_line(std::string(line));
      Send(std::move(message));
    };
    push.progress = [this](int64_t sent, int64_t total) {
      v1::PushImageProgress message;
      message.set_sent_bytes(sent);
      message.set_total_bytes(total);
      Send(std::move(message));
    };
    KILN_RETURN_IF_ERROR(deps_.pusher->Push(image, push, lease));
    v1::PushImageProgress done;
    done.set_digest(named.root.digest.ToString());
    Send(std::move(done));
    return absl::OkStatus();
  }

  void Send(v1::PushImageProgress message) {
    MutexLock lock(&mu_);
    if (!queue_.empty() && message.total_bytes() > 0 && queue_.back().total_bytes() > 0)
      queue_.back() = std::move(message);
    else
      queue_.push_back(std::move(message));
    Advance();
  }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (!queue_.empty() && !broken_) {
      writing_ = true;
      current_ = std::move(queue_.front());
      queue_.pop_front();
      StartWrite(&current_);
    } else if (end_.has_value()) {
      finished_ = true;
      Finish(*end_);
    }
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    broken_ = broken_ || !ok;
    Advance();
  }
  void OnCancel() override { cancel_.Cancel(); }
  void OnDone() override { self_.reset(); }

  const ImagesServiceDeps deps_;
  std::shared_ptr<PushCall> self_;  // changed only before start and in OnDone
  const v1::PushImageRequest request_;
  CancelSource cancel_;
  Mutex mu_;
  std::deque<v1::PushImageProgress> queue_ ABSL_GUARDED_BY(mu_);
  v1::PushImageProgress current_;  // being written
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;  // the client takes nothing more
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class ImagesService : public v1::Images::CallbackService {
 public:
  explicit ImagesService(const ImagesServiceDeps& deps) : deps_(deps) {}

 private:
  grpc::ServerUnaryReactor* List(Context*, const v1::ListImagesRequest*,
                                 v1::ListImagesResponse* response) override {
    return RunUnary(deps_.pool, [this, response](const CancelToken& cancel) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const auto images, deps_.images->List());
      for (const store::NamedImage& image : images) {
        if (cancel.Cancelled()) return cancel.status();
        // A damaged image is listed too: it can still be removed.
        const absl::Status filled = Fill(*deps_.blobs, image, response->add_images());
        if (!filled.ok() && !absl::IsDataLoss(filled)) return filled;
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Tag(Context*, const v1::TagImageRequest* request,
                                v1::TagImageResponse* response) override {
    return RunUnary(deps_.pool, [this, request, response](const CancelToken&) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const std::string source, FullName(request->source()));
      KILN_ASSIGN_OR_RETURN(const std::string target, FullName(request->target()));
      KILN_RETURN_IF_ERROR(deps_.images->Tag(source, target, absl::Now()));
      KILN_ASSIGN_OR_RETURN(const store::NamedImage image, deps_.images->Get(target));
      return Fill(*deps_.blobs, image, response->mutable_image());
    });
  }

  grpc::ServerUnaryReactor* Remove(Context*, const v1::RemoveImagesRequest* request,
                                   v1::RemoveImagesResponse* response) override {
    return RunUnary(deps_.pool, [this, request, response](const CancelToken&) -> absl::Status {
      // All names are looked up before one goes.
      std::vector<store::NamedImage> found;
      for (const std::string& name : request->names()) {
        KILN_ASSIGN_OR_RETURN(store::NamedImage image, Find(*deps_.images, name));
        found.push_back(std::move(image));
      }
      for (const store::NamedImage& image : found) {
        KILN_RETURN_IF_ERROR(deps_.images->Remove(image.name));
        v1::Image* removed = response->add_removed();
        removed->set_name(image.name);
        removed->set_digest(image.root.digest.ToString());
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<v1::PushImageProgress>* Push(
      Context*, const v1::PushImageRequest* request) override {
    return PushCall::Open(deps_, *request);
  }

  const ImagesServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeImagesService(const ImagesServiceDeps& deps) {
  return std::make_unique<ImagesService>(deps);
}

}  // namespace kiln::daemon
