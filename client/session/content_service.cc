#include "client/session/content_service.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/grpc_status.h"
#include "client/session/oci_layout.h"
#include "proto/containerd/content.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

namespace api = containerd::services::content::v1;

constexpr char kStoreId[] = "buildkit-attachable-store-id";
constexpr size_t kChunkBytes = 1 << 20;

void SetTime(absl::Time time, google::protobuf::Timestamp* out) {
  const timespec value = absl::ToTimespec(time);
  out->set_seconds(value.tv_sec);
  out->set_nanos(static_cast<int32_t>(value.tv_nsec));
}

void FillInfo(const Digest& digest, const OciLayout::BlobInfo& info, api::Info* out) {
  out->set_digest(digest.ToString());
  out->set_size(info.size);
  SetTime(info.modified, out->mutable_created_at());
  SetTime(info.modified, out->mutable_updated_at());
}

class ContentService : public api::Content::Service {
 public:
  explicit ContentService(const SessionOptions& options) : options_(options) {}

  grpc::Status Info(grpc::ServerContext* context, const api::InfoRequest* request,
                    api::InfoResponse* response) override {
    return ToGrpc([&]() -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const OciLayout layout, Choose(context, /*write=*/false));
      KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(request->digest()));
      KILN_ASSIGN_OR_RETURN(const OciLayout::BlobInfo info, layout.Info(digest));
      FillInfo(digest, info, response->mutable_info());
      return absl::OkStatus();
    }());
  }

  grpc::Status List(grpc::ServerContext* context, const api::ListContentRequest* request,
                    grpc::ServerWriter<api::ListContentResponse>* stream) override {
    return ToGrpc([&]() -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const OciLayout layout, Choose(context, /*write=*/false));
      for (const std::string& filter : request->filters())
        if (!filter.empty()) return absl::UnimplementedError("content filters are not implemented");
      return layout.ForEach([&](const Digest& digest) -> absl::Status {
        api::ListContentResponse response;
        KILN_ASSIGN_OR_RETURN(const OciLayout::BlobInfo info, layout.Info(digest));
        FillInfo(digest, info, response.add_info());
        return stream->Write(response) ? absl::OkStatus()
                                       : absl::CancelledError("the daemon ended the listing");
      });
    }());
  }

  grpc::Status Delete(grpc::ServerContext* context, const api::DeleteContentRequest* request,
                      google::protobuf::Empty*) override {
    return ToGrpc([&]() -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const OciLayout layout, Choose(context, /*write=*/true));
      KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(request->digest()));
      return layout.Remove(digest);
    }());
  }

  grpc::Status Read(grpc::ServerContext* context, const api::ReadContentRequest* request,
                    grpc::ServerWriter<api::ReadContentResponse>* stream) override {
    return ToGrpc(SendBlob(context, *request, stream));
  }

  grpc::Status Write(grpc::ServerContext* context,
                     grpc::ServerReaderWriter<api::WriteContentResponse, api::WriteContentRequest>*
                         stream) override {
    return ToGrpc(ReceiveBlob(context, stream));
  }

  grpc::Status Update(grpc::ServerContext*, const api::UpdateRequest*,
                      api::UpdateResponse*) override {
    return ToGrpc(absl::FailedPreconditionError("content of a client has no labels to update"));
  }
  // An ingest lives as long as its stream, so none is ever there to be asked about.
  grpc::Status Status(grpc::ServerContext*, const api::StatusRequest* request,
                      api::StatusResponse*) override {
    return ToGrpc(NoIngest(request->ref()));
  }
  grpc::Status Abort(grpc::ServerContext*, const api::AbortRequest* request,
                     google::protobuf::Empty*) override {
    return ToGrpc(NoIngest(request->ref()));
  }
  grpc::Status ListStatuses(grpc::ServerContext*, const api::ListStatusesRequest*,
                            api::ListStatusesResponse*) override {
    return grpc::Status::OK;
  }

 private:
  static absl::Status NoIngest(const std::string& ref) {
    return absl::NotFoundError(absl::StrCat("there is no ingest ", ref));
  }

  absl::StatusOr<OciLayout> Choose(grpc::ServerContext* context, bool write) const {
    const auto id = context->client_metadata().find(kStoreId);
    if (id == context->client_metadata().end())
      return absl::InvalidArgumentError(absl::StrCat("request lacks metadata \"", kStoreId, "\""));
    const std::string name(id->second.data(), id->second.size());
    const auto found = options_.content.find(name);
    if (found == options_.content.end())
      return absl::NotFoundError(absl::StrCat("unknown store ", name));
    if (write && !found->second.writable)
      return absl::PermissionDeniedError(absl::StrCat("store ", name, " is for reading"));
    return OciLayout(found->second.folder);
  }

  absl::Status SendBlob(grpc::ServerContext* context, const api::ReadContentRequest& request,
                        grpc::ServerWriter<api::ReadContentResponse>* stream) const {
    KILN_ASSIGN_OR_RETURN(const OciLayout layout, Choose(context, /*write=*/false));
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(request.digest()));
    KILN_ASSIGN_OR_RETURN(const OciLayout::BlobInfo info, layout.Info(digest));
    KILN_ASSIGN_OR_RETURN(const Fd fd, layout.Open(digest));
    if (request.offset() < 0 || request.offset() > info.size)
      return absl::OutOfRangeError(absl::StrCat("offset ", request.offset(), " is past the end of ",
                                                digest.ToString(), ", ", info.size, " bytes"));
    int64_t left = info.size - request.offset();
    if (request.size() > 0) left = std::min(left, request.size());
    api::ReadContentResponse response;
    for (int64_t offset = request.offset(); left > 0;) {
      std::string* data = response.mutable_data();
      data->resize(std::min<size_t>(kChunkBytes, left));
      const ssize_t got = pread(fd.get(), data->data(), data->size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, absl::StrCat("read ", digest.ToString()));
      if (got == 0) return absl::DataLossError(absl::StrCat(digest.ToString(), " became shorter"));
      data->resize(got);
      response.set_offset(offset);
      offset += got;
      left -= got;
      if (!stream->Write(response)) return absl::CancelledError("the daemon ended the transfer");
    }
    return absl::OkStatus();
  }

  absl::Status ReceiveBlob(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<api::WriteContentResponse, api::WriteContentRequest>* stream) const {
    KILN_ASSIGN_OR_RETURN(const OciLayout layout, Choose(context, /*write=*/true));
    api::WriteContentRequest request;
    if (!stream->Read(&request)) return absl::InvalidArgumentError("no request");
    if (request.ref().empty()) return absl::InvalidArgumentError("first message must have a ref");
    int64_t total = 0;
    std::string expected;
    std::unique_ptr<OciLayout::Writer> writer;
    const absl::Time started = absl::Now();
    do {
      if (request.total() > 0) total = request.total();
      if (!request.expected().empty()) expected = request.expected();
      if (writer == nullptr) {
        KILN_RETURN_IF_ERROR(CheckNew(layout, expected));
        KILN_ASSIGN_OR_RETURN(writer, layout.Write());
      }
      api::WriteContentResponse response;
      if (request.action() != api::STAT) KILN_RETURN_IF_ERROR(Append(request, writer.get()));
      if (request.action() == api::COMMIT) {
        KILN_ASSIGN_OR_RETURN(const Digest digest, writer->Commit(total, expected));
        response.set_digest(digest.ToString());
      }
      response.set_action(request.action());
      response.set_offset(writer->size());
      response.set_total(total);
      SetTime(started, response.mutable_started_at());
      SetTime(absl::Now(), response.mutable_updated_at());
      if (!stream->Write(response)) return absl::CancelledError("the daemon ended the transfer");
      if (request.action() == api::COMMIT) return absl::OkStatus();
    } while (stream->Read(&request));
    return absl::OkStatus();  // given up: the writer removes what is there
  }

  // kAlreadyExists when the blob is there: the daemon takes that for success.
  static absl::Status CheckNew(const OciLayout& layout, const std::string& expected) {
    if (expected.empty()) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(expected));
    if (!layout.Info(digest).ok()) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat("content ", expected, " already exists"));
  }

  // Offset 0 is also what a writer says that does not care.
  static absl::Status Append(const api::WriteContentRequest& request, OciLayout::Writer* writer) {
    if (request.offset() > 0 && request.offset() != writer->size())
      return absl::OutOfRangeError(absl::StrCat("write at ", request.offset(),
                                                " must occur at current offset ", writer->size()));
    if (request.offset() == 0 && request.action() == api::WRITE && writer->size() > 0)
      KILN_RETURN_IF_ERROR(writer->Clear());
    return request.data().empty() ? absl::OkStatus() : writer->Append(request.data());
  }

  const SessionOptions& options_;
};

}  // namespace

SessionService MakeContentService(const SessionOptions& options) {
  const std::string prefix = "/containerd.services.content.v1.Content/";
  SessionService service{std::make_unique<ContentService>(options), {}};
  for (const char* method :
       {"Info", "Update", "List", "Delete", "Read", "Status", "ListStatuses", "Write", "Abort"})
    service.methods.push_back(absl::StrCat(prefix, method));
  return service;
}

}  // namespace kiln::client
