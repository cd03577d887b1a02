#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/auth.grpc.pb.h"
#include "proto/buildkit/filesync.grpc.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/ssh.grpc.pb.h"
#include "proto/buildkit/upload.grpc.pb.h"
#include "store/base/mutex.h"
#include "store/fsutil/directory_source.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/packet_codec.h"
#include "store/fsutil/receiver.h"
#include "store/fsutil/sender.h"

namespace kiln::daemon {

// Packets over any server stream of protobuf messages, through their bytes: the generated Packet
// type on FileSync, and on FileSend BytesMessage, which keeps what it does not know.
template <typename Message>
class MessagePacketStream : public fsutil::PacketStream {
 public:
  MessagePacketStream(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<Message, Message>* stream)
      : context_(context), stream_(stream) {}
  absl::StatusOr<bool> Read(fsutil::Packet* packet) override {
    Message message;
    if (!stream_->Read(&message)) return false;
    absl::Status status = fsutil::ParsePacket(message.SerializeAsString(), packet);
    if (!status.ok()) return status;
    return true;
  }
  absl::Status Write(const fsutil::Packet& packet) override {
    std::string bytes;
    fsutil::AppendPacket(packet, &bytes);
    Message message;
    if (!message.ParseFromString(bytes)) return absl::InternalError("not a message");
    return stream_->Write(message) ? absl::OkStatus() : absl::UnavailableError("write");
  }
  void Abort() override { context_->TryCancel(); }

 private:
  grpc::ServerContext* const context_;
  grpc::ServerReaderWriter<Message, Message>* const stream_;
};

using Headers = std::multimap<std::string, std::string>;

inline grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()),
                      std::string(status.message()));
}

// What a client exposes on its session, served in this process.
class FakeClient : private moby::filesync::v1::FileSync::Service,
                   private moby::filesync::v1::FileSend::Service,
                   private moby::filesync::v1::Auth::Service,
                   private moby::buildkit::secrets::v1::Secrets::Service,
                   private moby::sshforward::v1::SSH::Service,
                   private moby::upload::v1::Upload::Service {
 public:
  FakeClient() {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 4 << 20);
    for (grpc::Service* service : std::initializer_list<grpc::Service*>{
             static_cast<moby::filesync::v1::FileSync::Service*>(this),
             static_cast<moby::filesync::v1::FileSend::Service*>(this),
             static_cast<moby::filesync::v1::Auth::Service*>(this),
             static_cast<moby::buildkit::secrets::v1::Secrets::Service*>(this),
             static_cast<moby::sshforward::v1::SSH::Service*>(this),
             static_cast<moby::upload::v1::Upload::Service*>(this)})
      builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  ~FakeClient() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 4 << 20);
    return server_->InProcessChannel(args);
  }

  // The headers of the last streaming call.
  Headers headers() {
    MutexLock lock(&mu_);
    return headers_;
  }
  int file_sync_calls() {
    MutexLock lock(&mu_);
    return file_sync_calls_;
  }

  // What it offers; set before use.
  std::map<std::string, std::string> dirs;     // local name -> directory
  std::map<std::string, std::string> secrets;  // id -> value
  std::map<std::string, std::string> uploads;  // path -> body
  std::string export_dir;                      // target of directory exports
  bool export_delete = false;
  std::string received_file;                    // what file exports brought
  absl::Status file_send_status;                // what FileSend answers
  fsutil::FileSource* custom_source = nullptr;  // sent in place of any directory
  std::function<void(Headers&)> on_file_sync;   // called before the walk
  std::function<void()> on_file_sync_end;       // called before the answer

 private:
  void Note(grpc::ServerContext* context) {
    MutexLock lock(&mu_);
    headers_.clear();
    for (const auto& [key, value] : context->client_metadata())
      headers_.emplace(std::string(key.data(), key.size()),
                       std::string(value.data(), value.size()));
  }
  std::vector<std::string> Values(const std::string& key) {
    Headers all = headers();
    std::vector<std::string> out;
    for (auto [it, end] = all.equal_range(key); it != end; ++it) out.push_back(it->second);
    return out;
  }

  grpc::Status DiffCopy(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<::fsutil::types::Packet, ::fsutil::types::Packet>* stream) override {
    Note(context);
    {
      MutexLock lock(&mu_);
      ++file_sync_calls_;
    }
    Headers all = headers();
    if (on_file_sync) on_file_sync(all);
    const std::vector<std::string> name = Values("dir-name");
    auto dir = dirs.find(name.empty() ? "" : name[0]);
    if (dir == dirs.end())
      return grpc::Status(grpc::StatusCode::NOT_FOUND,
                          absl::StrCat("no access allowed to dir \"", name[0], "\""));
    fsutil::FilterOptions filter;
    filter.include_patterns = Values("include-patterns");
    filter.exclude_patterns = Values("exclude-patterns");
    filter.follow_paths = Values("followpaths");
    auto source = fsutil::DirectorySource::Create(dir->second, filter);
    if (!source.ok()) return ToGrpcStatus(source.status());
    MessagePacketStream<::fsutil::types::Packet> packets(context, stream);
    const absl::Status sent =
        fsutil::Send(packets, custom_source != nullptr ? *custom_source : **source);
    if (on_file_sync_end) on_file_sync_end();
    return ToGrpcStatus(sent);
  }

  grpc::Status DiffCopy(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<moby::filesync::v1::BytesMessage, moby::filesync::v1::BytesMessage>*
          stream) override {
    Note(context);
    if (!file_send_status.ok()) return ToGrpcStatus(file_send_status);
    if (!export_dir.empty()) {
      auto target = fsutil::DirectoryTarget::Open(export_dir, true);
      if (!target.ok()) return ToGrpcStatus(target.status());
      MessagePacketStream<moby::filesync::v1::BytesMessage> packets(context, stream);
      fsutil::ReceiveOptions options;
      if (export_delete) options.existing_root = export_dir;
      absl::Status status = fsutil::Receive(packets, **target, options);
      fsutil::Packet rest;
      while (status.ok() && *packets.Read(&rest)) {
      }
      return ToGrpcStatus(status);
    }
    moby::filesync::v1::BytesMessage message;
    while (stream->Read(&message)) received_file += message.data();
    return grpc::Status::OK;
  }

  grpc::Status Credentials(grpc::ServerContext*,
                           const moby::filesync::v1::CredentialsRequest* request,
                           moby::filesync::v1::CredentialsResponse* response) override {
    if (request->host() != "registry.test")
      return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
    response->set_username("user");
    response->set_secret("pass");
    return grpc::Status::OK;
  }

  grpc::Status GetSecret(grpc::ServerContext*,
                         const moby::buildkit::secrets::v1::GetSecretRequest* request,
                         moby::buildkit::secrets::v1::GetSecretResponse* response) override {
    auto it = secrets.find(request->id());
    if (it == secrets.end())
      return grpc::Status(grpc::StatusCode::NOT_FOUND,
                          absl::StrCat("unknown secret ", request->id()));
    response->set_data(it->second);
    return grpc::Status::OK;
  }

  grpc::Status CheckAgent(grpc::ServerContext*,
                          const moby::sshforward::v1::CheckAgentRequest* request,
                          moby::sshforward::v1::CheckAgentResponse*) override {
    if (request->id() == "default") return grpc::Status::OK;
    if (request->id() == "none") return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
    return grpc::Status(grpc::StatusCode::UNKNOWN,
                        absl::StrCat("unset ssh forward key ", request->id()));
  }

  // An agent that answers each message with "<id>:" and the message, and leaves at "quit".
  grpc::Status ForwardAgent(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<moby::sshforward::v1::BytesMessage,
                               moby::sshforward::v1::BytesMessage>* stream) override {
    Note(context);
    const std::string id = Values("buildkit.ssh.id")[0];
    moby::sshforward::v1::BytesMessage message;
    while (stream->Read(&message)) {
      if (message.data() == "quit") return grpc::Status::OK;
      message.set_data(absl::StrCat(id, ":", message.data()));
      stream->Write(message);
    }
    return grpc::Status::OK;
  }

  grpc::Status Pull(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<moby::upload::v1::BytesMessage,
                                             moby::upload::v1::BytesMessage>* stream) override {
    Note(context);
    auto it = uploads.find(Values("urlpath")[0]);
    if (it == uploads.end()) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such upload");
    moby::upload::v1::BytesMessage message;
    message.set_data(it->second);
    stream->Write(message);
    return grpc::Status::OK;
  }

  Mutex mu_;
  Headers headers_ ABSL_GUARDED_BY(mu_);
  int file_sync_calls_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace kiln::daemon
