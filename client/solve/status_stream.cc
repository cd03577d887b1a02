#include "client/solve/status_stream.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <optional>
#include <utility>

#include "client/grpc_status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "store/base/mutex.h"

namespace kiln::client {
namespace {

using moby::buildkit::v1::StatusResponse;

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

VertexEvent ToEvent(const moby::buildkit::v1::Vertex& from) {
  VertexEvent event;
  event.digest = from.digest();
  event.inputs.assign(from.inputs().begin(), from.inputs().end());
  event.name = from.name();
  event.cached = from.cached();
  if (from.has_started()) event.started = ToTime(from.started());
  if (from.has_completed()) event.completed = ToTime(from.completed());
  event.error = from.error();
  if (from.has_progressgroup()) {
    event.group = ProgressGroupInfo{from.progressgroup().id(), from.progressgroup().name(),
                                    from.progressgroup().weak()};
  }
  return event;
}

StatusEvent ToEvent(const moby::buildkit::v1::VertexStatus& from) {
  StatusEvent event;
  event.id = from.id();
  event.vertex = from.vertex();
  event.name = from.name();
  event.current = from.current();
  event.total = from.total();
  event.timestamp = ToTime(from.timestamp());
  if (from.has_started()) event.started = ToTime(from.started());
  if (from.has_completed()) event.completed = ToTime(from.completed());
  return event;
}

WarningEvent ToEvent(const moby::buildkit::v1::VertexWarning& from) {
  WarningEvent event;
  event.vertex = from.vertex();
  event.level = static_cast<int>(from.level());
  event.short_text = from.short_();
  event.detail.assign(from.detail().begin(), from.detail().end());
  event.url = from.url();
  if (from.has_info()) {
    event.filename = from.info().filename();
    event.source = from.info().data();
  }
  for (const pb::Range& range : from.ranges()) {
    const int first = range.start().line();
    event.lines.emplace_back(first, range.end().line() == 0 ? first : range.end().line());
  }
  return event;
}

}  // namespace

ProgressUpdate ToProgressUpdate(const StatusResponse& response) {
  ProgressUpdate update;
  for (const auto& vertex : response.vertexes()) update.vertices.push_back(ToEvent(vertex));
  for (const auto& status : response.statuses()) update.statuses.push_back(ToEvent(status));
  for (const auto& warning : response.warnings()) update.warnings.push_back(ToEvent(warning));
  for (const auto& log : response.logs()) {
    update.logs.push_back(
        {log.vertex(), static_cast<int>(log.stream()), log.msg(), ToTime(log.timestamp())});
  }
  return update;
}

struct StatusStream::Impl {
  std::unique_ptr<moby::buildkit::v1::Control::Stub> stub;
  grpc::ClientContext context;
  std::thread reader;
  Mutex mu;
  CondVar changed;
  uint64_t messages = 0;                // guarded by mu
  std::optional<absl::Status> outcome;  // guarded by mu; set at the end

  void Read(const std::string& ref, ProgressSink* sink) {
    moby::buildkit::v1::StatusRequest request;
    request.set_ref(ref);
    auto stream = stub->Status(&context, request);
    StatusResponse response;
    while (stream->Read(&response)) {
      if (sink != nullptr) sink->OnUpdate(ToProgressUpdate(response));
      MutexLock lock(&mu);
      ++messages;
      changed.SignalAll();
    }
    absl::Status status = FromGrpc(stream->Finish());
    MutexLock lock(&mu);
    outcome = std::move(status);
    changed.SignalAll();
  }
};

StatusStream::StatusStream(const Connection& connection, const std::string& ref, ProgressSink* sink)
    : impl_(std::make_unique<Impl>()) {
  impl_->stub = moby::buildkit::v1::Control::NewStub(connection.channel());
  impl_->reader = std::thread([impl = impl_.get(), ref, sink] { impl->Read(ref, sink); });
}

StatusStream::~StatusStream() {
  impl_->context.TryCancel();
  impl_->reader.join();
}

absl::Status StatusStream::Finish(absl::Duration idle) {
  MutexLock lock(&impl_->mu);
  while (!impl_->outcome) {
    const uint64_t before = impl_->messages;
    if (!impl_->changed.WaitFor(&impl_->mu, idle) && impl_->messages == before && !impl_->outcome) {
      return absl::UnavailableError("the daemon did not end the progress stream");
    }
  }
  return *impl_->outcome;
}

}  // namespace kiln::client
