#include "daemon/session/services.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/session/packet_call.h"
#include "daemon/session/session_call.h"
#include "proto/buildkit/filesync.grpc.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/ssh.grpc.pb.h"
#include "proto/buildkit/upload.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kFileSyncDiffCopy[] = "/moby.filesync.v1.FileSync/DiffCopy";
constexpr char kFileSendDiffCopy[] = "/moby.filesync.v1.FileSend/DiffCopy";

// Small writes are gathered up to this size; a Go client takes messages up to 4 MiB.
constexpr size_t kFileChunkBytes = 256 << 10;
constexpr size_t kMaxMessageBytes = 3 << 20;
constexpr size_t kSshChunkBytes = 32 << 10;

// One packet call.
class PacketExchange : public CallEndings::Call {
 public:
  PacketExchange(Session& session, const CancelToken& cancel, const char* method,
                 const CallMetadata& metadata)
      : call_(session, cancel) {
    call_.AddHeaders(metadata);
    packets_.emplace(session.channel(), method, call_.context());
  }

  PacketCall& packets() { return *packets_; }
  absl::Status Finish() { return call_.ToStatus(packets_->Finish()); }
  void WhenEnded(std::function<void()> ended) override { packets_->WhenEnded(std::move(ended)); }
  void Cancel() override { call_.context()->TryCancel(); }

 private:
  SessionCall call_;
  std::optional<PacketCall> packets_;
};

// Runs `transfer` over one packet call. Where only the stream's end told it that something is
// wrong, the peer's status says what. `endings`, if any, await the end of one that went well.
absl::Status RunPackets(Session& session, const CancelToken& cancel, const char* method,
                        const CallMetadata& metadata,
                        const std::function<absl::Status(fsutil::PacketStream&)>& transfer,
                        CallEndings* endings = nullptr) {
  auto exchange = std::make_unique<PacketExchange>(session, cancel, method, metadata);
  const absl::Status status = transfer(exchange->packets());
  if (status.ok() && endings != nullptr) {
    endings->Await(std::move(exchange));
    return absl::OkStatus();
  }
  if (!status.ok()) exchange->packets().Abort();
  const absl::Status finished = exchange->Finish();
  if (cancel.Cancelled()) return cancel.status();
  if (!status.ok()) return absl::IsUnavailable(status) && !finished.ok() ? finished : status;
  return finished;
}

// Gathers what an exporter writes and sends it as BytesMessages.
class FileWriter {
 public:
  using Stream =
      grpc::ClientReaderWriter<moby::filesync::v1::BytesMessage, moby::filesync::v1::BytesMessage>;
  explicit FileWriter(Stream& stream) : stream_(stream) {}

  absl::Status Append(absl::string_view data) {
    while (!data.empty()) {
      if (held_.empty() && data.size() >= kFileChunkBytes) {
        const size_t n = std::min(data.size(), kMaxMessageBytes);
        KILN_RETURN_IF_ERROR(Send(data.substr(0, n)));
        data.remove_prefix(n);
        continue;
      }
      const size_t n = std::min(data.size(), kFileChunkBytes - held_.size());
      held_.append(data.data(), n);
      data.remove_prefix(n);
      if (held_.size() == kFileChunkBytes) KILN_RETURN_IF_ERROR(Flush());
    }
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (held_.empty()) return absl::OkStatus();
    KILN_RETURN_IF_ERROR(Send(held_));
    held_.clear();
    return absl::OkStatus();
  }

 private:
  absl::Status Send(absl::string_view data) {
    message_.mutable_data()->assign(data.data(), data.size());
    if (stream_.Write(message_)) return absl::OkStatus();
    return absl::UnavailableError("the client ended the transfer");
  }

  Stream& stream_;
  std::string held_;
  moby::filesync::v1::BytesMessage message_;
};

absl::Status RequireFileSend(Session& session) {
  if (session.Supports(kFileSendDiffCopy)) return absl::OkStatus();
  return absl::UnimplementedError(
      "method /moby.filesync.v1.FileSend/diffcopy not supported by the client");
}

const std::string& SshId(const std::string& id) {
  static const std::string* const kDefault = new std::string("default");
  return id.empty() ? *kDefault : id;
}

using SshStream = grpc::ClientReaderWriter<moby::sshforward::v1::BytesMessage,
                                           moby::sshforward::v1::BytesMessage>;

// Container to agent, until the container closes its end.
void PumpToAgent(int fd, SshStream& stream) {
  moby::sshforward::v1::BytesMessage message;
  for (;;) {
    std::string& data = *message.mutable_data();
    data.resize(kSshChunkBytes);
    const ssize_t n = ::recv(fd, data.data(), data.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    data.resize(static_cast<size_t>(n));
    if (!stream.Write(message)) return;
  }
  stream.WritesDone();
}

absl::Status SendAllTo(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "send to the ssh socket");
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DiffCopy(Session& session, const FileSyncRequest& request, const CancelToken& cancel,
                      const std::function<absl::Status(fsutil::PacketStream&)>& receive,
                      CallEndings* endings) {
  if (!session.Supports(kFileSyncDiffCopy))
    return absl::UnimplementedError("no local sources enabled");
  CallMetadata metadata;
  KILN_RETURN_IF_ERROR(metadata.AddEncoded("dir-name", {request.dir_name}));
  KILN_RETURN_IF_ERROR(metadata.AddEncoded("include-patterns", request.include_patterns));
  KILN_RETURN_IF_ERROR(metadata.AddEncoded("exclude-patterns", request.exclude_patterns));
  KILN_RETURN_IF_ERROR(metadata.AddEncoded("followpaths", request.follow_paths));
  KILN_RETURN_IF_ERROR(metadata.CheckSize(
      absl::StrCat("include, exclude and follow patterns of local source ", request.dir_name)));
  return RunPackets(session, cancel, kFileSyncDiffCopy, metadata, receive, endings);
}

absl::Status SendDirectory(Session& session, int exporter_index,
                           const std::map<std::string, std::string>& metadata,
                           const CancelToken& cancel,
                           const std::function<absl::Status(fsutil::PacketStream&)>& send) {
  KILN_RETURN_IF_ERROR(RequireFileSend(session));
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(
      headers.Add("buildkit-attachable-exporter-id", absl::StrCat(exporter_index)));
  for (const auto& [key, value] : metadata) KILN_RETURN_IF_ERROR(headers.Add(key, value));
  KILN_RETURN_IF_ERROR(headers.CheckSize("headers of an export"));
  return RunPackets(session, cancel, kFileSendDiffCopy, headers, send);
}

absl::Status SendFile(Session& session, int exporter_index,
                      const std::map<std::string, std::string>& metadata, const CancelToken& cancel,
                      const std::function<absl::Status(const ByteSink&)>& produce) {
  KILN_RETURN_IF_ERROR(RequireFileSend(session));
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(
      headers.Add("buildkit-attachable-exporter-id", absl::StrCat(exporter_index)));
  for (const auto& [key, value] : metadata)
    KILN_RETURN_IF_ERROR(headers.Add(absl::StrCat("exporter-md-", key), value));
  KILN_RETURN_IF_ERROR(headers.CheckSize("headers of an export"));

  SessionCall call(session, cancel);
  call.AddHeaders(headers);
  auto stub = moby::filesync::v1::FileSend::NewStub(session.channel());
  auto stream = stub->DiffCopy(call.context());
  FileWriter writer(*stream);
  absl::Status status = produce([&](absl::string_view data) { return writer.Append(data); });
  if (status.ok()) status = writer.Flush();
  if (!status.ok() && !absl::IsUnavailable(status)) call.context()->TryCancel();
  stream->WritesDone();
  moby::filesync::v1::BytesMessage rest;
  while (stream->Read(&rest)) {
  }
  const absl::Status finished = call.ToStatus(stream->Finish());
  if (cancel.Cancelled()) return cancel.status();
  if (!status.ok()) return absl::IsUnavailable(status) && !finished.ok() ? finished : status;
  return finished;
}

absl::Status PullUpload(Session& session, const std::string& host, const std::string& path,
                        const CancelToken& cancel, const ByteSink& sink) {
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(headers.Add("urlpath", path));
  KILN_RETURN_IF_ERROR(headers.Add("urlhost", host));
  SessionCall call(session, cancel);
  call.AddHeaders(headers);
  auto stub = moby::upload::v1::Upload::NewStub(session.channel());
  auto stream = stub->Pull(call.context());
  absl::Status status;
  moby::upload::v1::BytesMessage message;
  while (status.ok() && stream->Read(&message)) status = sink(message.data());
  if (!status.ok()) call.context()->TryCancel();
  stream->WritesDone();
  const absl::Status finished = call.ToStatus(stream->Finish());
  return status.ok() ? finished : status;
}

absl::StatusOr<std::string> GetSecret(Session& session, const std::string& id,
                                      const CancelToken& cancel) {
  SessionCall call(session, cancel);
  moby::buildkit::secrets::v1::GetSecretRequest request;
  request.set_id(id);
  moby::buildkit::secrets::v1::GetSecretResponse response;
  auto stub = moby::buildkit::secrets::v1::Secrets::NewStub(session.channel());
  const absl::Status status = call.ToStatus(stub->GetSecret(call.context(), request, &response));
  if (absl::IsNotFound(status) || absl::IsUnimplemented(status))
    return absl::NotFoundError(absl::StrCat("secret ", id, ": not found"));
  if (!status.ok()) return Annotate(status, absl::StrCat("secret ", id));
  return std::move(*response.mutable_data());
}

absl::Status CheckSshAgent(Session& session, const std::string& id, const CancelToken& cancel) {
  SessionCall call(session, cancel);
  moby::sshforward::v1::CheckAgentRequest request;
  request.set_id(SshId(id));
  moby::sshforward::v1::CheckAgentResponse response;
  auto stub = moby::sshforward::v1::SSH::NewStub(session.channel());
  const absl::Status status = call.ToStatus(stub->CheckAgent(call.context(), request, &response));
  if (absl::IsUnimplemented(status))
    return absl::NotFoundError(
        absl::StrCat("no SSH key \"", SshId(id), "\" forwarded from the client"));
  return status;
}

absl::Status ForwardSshAgent(Session& session, const std::string& id, Fd connection,
                             const CancelToken& cancel) {
  CallMetadata headers;
  KILN_RETURN_IF_ERROR(headers.Add("buildkit.ssh.id", SshId(id)));
  SessionCall call(session, cancel);
  call.AddHeaders(headers);
  const int fd = connection.get();
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "make the ssh socket blocking");
  CancelRegistration unblock_on_cancel = cancel.OnCancel([fd] { ::shutdown(fd, SHUT_RDWR); });
  CancelRegistration unblock_on_close =
      session.closed().OnCancel([fd] { ::shutdown(fd, SHUT_RDWR); });
  auto stub = moby::sshforward::v1::SSH::NewStub(session.channel());
  auto stream = stub->ForwardAgent(call.context());
  std::thread to_agent([&] { PumpToAgent(fd, *stream); });
  moby::sshforward::v1::BytesMessage message;
  absl::Status written;
  while (written.ok() && stream->Read(&message)) written = SendAllTo(fd, message.data());
  if (!written.ok()) call.context()->TryCancel();
  // The agent is done, or the container left: either way nothing more is to be said.
  ::shutdown(fd, SHUT_RDWR);
  to_agent.join();
  const absl::Status finished = call.ToStatus(stream->Finish());
  // A container that closes early is no failure of anything.
  return written.ok() ? finished : absl::OkStatus();
}

}  // namespace kiln::daemon
