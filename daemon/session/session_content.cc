#include "daemon/session/session_content.h"

#include <grpcpp/channel.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "daemon/session/call_metadata.h"
#include "daemon/session/session_call.h"
#include "proto/containerd/content.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace content = containerd::services::content::v1;
using Stream =
    grpc::ClientReaderWriter<content::WriteContentRequest, content::WriteContentResponse>;

constexpr char kWrite[] = "/containerd.services.content.v1.Content/Write";
constexpr int64_t kChunkBytes = 1 << 20;  // a Go client takes messages up to 4 MiB

// Requests and answers go in lockstep. False: the client ended the call.
bool Exchange(Stream& stream, const content::WriteContentRequest& request,
              content::WriteContentResponse* response) {
  return stream.Write(request) && stream.Read(response);
}

absl::Status WriteBytes(Stream& stream, store::BlobStore& blobs, const Digest& digest,
                        int64_t size_bytes, const CancelToken& cancel) {
  const std::string text = digest.ToString();
  content::WriteContentRequest request;
  content::WriteContentResponse response;
  request.set_action(content::STAT);
  request.set_ref(absl::StrCat("kiln-export-", digest.hex()));
  request.set_total(size_bytes);
  request.set_expected(text);
  if (!Exchange(stream, request, &response)) return absl::OkStatus();
  // An ingest that an earlier try left goes on where it ended.
  int64_t offset = std::clamp<int64_t>(response.offset(), 0, size_bytes);
  request.set_action(content::WRITE);
  while (offset < size_bytes) {
    if (cancel.Cancelled()) return cancel.status();
    std::string& data = *request.mutable_data();
    data.resize(static_cast<size_t>(std::min(kChunkBytes, size_bytes - offset)));
    KILN_ASSIGN_OR_RETURN(const size_t got, blobs.ReadAt(digest, offset, absl::MakeSpan(data)));
    if (got == 0) return absl::DataLossError(absl::StrCat("blob ", text, " is cut short"));
    data.resize(got);
    request.set_offset(offset);
    if (!Exchange(stream, request, &response)) return absl::OkStatus();
    offset += static_cast<int64_t>(got);
  }
  request.clear_data();
  request.set_action(content::COMMIT);
  request.set_offset(size_bytes);
  if (!Exchange(stream, request, &response)) return absl::OkStatus();
  if (response.offset() != size_bytes || (!response.digest().empty() && response.digest() != text))
    return absl::DataLossError(absl::StrCat("the client stored ", response.offset(), " bytes as ",
                                            response.digest(), " for blob ", text));
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSessionBlob(Session& session, absl::string_view store_id, store::BlobStore& blobs,
                              const Digest& digest, int64_t size_bytes, const CancelToken& cancel) {
  if (!session.Supports(kWrite))
    return absl::UnimplementedError("the client offers no content store for this export");
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(headers.Add("buildkit-attachable-store-id", store_id));
  SessionCall call(session, cancel);
  call.AddHeaders(headers);
  auto stub = content::Content::NewStub(session.channel());
  auto stream = stub->Write(call.context());
  const absl::Status status = WriteBytes(*stream, blobs, digest, size_bytes, cancel);
  if (!status.ok()) call.context()->TryCancel();
  stream->WritesDone();
  content::WriteContentResponse rest;
  while (stream->Read(&rest)) {
  }
  const absl::Status finished = call.ToStatus(stream->Finish());
  if (cancel.Cancelled()) return cancel.status();
  if (!status.ok()) return status;
  return absl::IsAlreadyExists(finished)
             ? absl::OkStatus()
             : Annotate(finished, absl::StrCat("write blob ", digest.ToString(),
                                               " to content store ", store_id));
}

}  // namespace kiln::daemon
