#include "daemon/session/session_blob.h"

#include <grpcpp/channel.h>

#include "absl/strings/str_cat.h"
#include "daemon/session/call_metadata.h"
#include "daemon/session/session_call.h"
#include "proto/containerd/content.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace content = containerd::services::content::v1;

constexpr char kRead[] = "/containerd.services.content.v1.Content/Read";

absl::Status Prepare(Session& session, absl::string_view store_id, SessionCall* call) {
  if (!session.Supports(kRead))
    return absl::UnimplementedError(
        absl::StrCat("the client offers no content store, ", store_id, " was asked for"));
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(headers.Add("buildkit-attachable-store-id", store_id));
  call->AddHeaders(headers);
  return absl::OkStatus();
}

std::string Doing(absl::string_view store_id, const Digest& digest) {
  return absl::StrCat("read blob ", digest.ToString(), " from content store ", store_id,
                      " of the client");
}

}  // namespace

absl::StatusOr<int64_t> SessionBlobSize(Session& session, absl::string_view store_id,
                                        const Digest& digest, const CancelToken& cancel) {
  SessionCall call(session, cancel);
  KILN_RETURN_IF_ERROR(Prepare(session, store_id, &call));
  content::InfoRequest request;
  request.set_digest(digest.ToString());
  content::InfoResponse response;
  auto stub = content::Content::NewStub(session.channel());
  const absl::Status status = call.ToStatus(stub->Info(call.context(), request, &response));
  if (cancel.Cancelled()) return cancel.status();
  KILN_RETURN_IF_ERROR(Annotate(status, Doing(store_id, digest)));
  return response.info().size();
}

absl::Status ReadSessionBlob(Session& session, absl::string_view store_id, const Digest& digest,
                             int64_t offset, const CancelToken& cancel, const ByteSink& sink) {
  SessionCall call(session, cancel);
  KILN_RETURN_IF_ERROR(Prepare(session, store_id, &call));
  content::ReadContentRequest request;
  request.set_digest(digest.ToString());
  request.set_offset(offset);
  auto stub = content::Content::NewStub(session.channel());
  auto stream = stub->Read(call.context(), request);
  absl::Status status;
  content::ReadContentResponse response;
  while (status.ok() && stream->Read(&response)) {
    if (response.offset() != offset) {
      status =
          absl::DataLossError(absl::StrCat(Doing(store_id, digest), ": it sent bytes from ",
                                           response.offset(), " on where ", offset, " was next"));
      break;
    }
    status = sink(response.data());
    offset += static_cast<int64_t>(response.data().size());
  }
  if (!status.ok()) call.context()->TryCancel();
  const absl::Status finished = call.ToStatus(stream->Finish());
  if (cancel.Cancelled()) return cancel.status();
  if (!status.ok()) return status;
  return Annotate(finished, Doing(store_id, digest));
}

}  // namespace kiln::daemon
