#include "daemon/session/session_exporter.h"

#include <grpcpp/channel.h>

#include "daemon/session/session_call.h"
#include "proto/buildkit/exporter.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace pbe = moby::exporter::v1;

bool NotOffered(const absl::Status& status) {
  return absl::IsUnimplemented(status) || absl::IsUnavailable(status);
}

}  // namespace

absl::StatusOr<std::vector<SessionExporter>> FindSessionExporters(
    Session& session, const std::map<std::string, std::string>& metadata,
    const std::vector<std::string>& refs, const CancelToken& cancel) {
  pbe::FindExportersRequest request;
  for (const auto& [key, value] : metadata) (*request.mutable_metadata())[key] = value;
  for (const std::string& ref : refs) request.add_refs(ref);
  pbe::FindExportersResponse response;
  SessionCall call(session, cancel);
  const absl::Status status = call.ToStatus(
      pbe::Exporter::NewStub(session.channel())->FindExporters(call.context(), request, &response));
  std::vector<SessionExporter> found;
  if (NotOffered(status)) return found;
  KILN_RETURN_IF_ERROR(status);
  for (const pbe::ExporterRequest& each : response.exporters())
    found.push_back({each.type(), {each.attrs().begin(), each.attrs().end()}});
  return found;
}

absl::Status FinalizeSessionExport(Session& session,
                                   const std::map<std::string, std::string>& response,
                                   const CancelToken& cancel) {
  pbe::FinalizeExportRequest request;
  for (const auto& [key, value] : response) (*request.mutable_exporter_response())[key] = value;
  pbe::FinalizeExportResponse answer;
  SessionCall call(session, cancel);
  const absl::Status status = call.ToStatus(
      pbe::Exporter::NewStub(session.channel())->FinalizeExport(call.context(), request, &answer));
  return NotOffered(status) ? absl::OkStatus() : status;
}

}  // namespace kiln::daemon
