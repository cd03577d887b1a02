#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <map>
#include <memory>
#include <string>

#include "proto/containerd/content.grpc.pb.h"
#include "proto/digest.h"

namespace kiln::daemon {

// The content stores of a client, read-only, served in this process.
class FakeContentClient : private containerd::services::content::v1::Content::Service {
 public:
  FakeContentClient() {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeContentClient() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::shared_ptr<grpc::Channel> Channel() { return server_->InProcessChannel({}); }

  // Set before use: store id -> digest -> bytes.
  std::map<std::string, std::map<std::string, std::string>> stores;
  Digest Add(const std::string& store, const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    stores[store][digest.ToString()] = bytes;
    return digest;
  }
  size_t cut_after = SIZE_MAX;  // bytes of one Read; then the call fails

 private:
  grpc::Status Find(grpc::ServerContext* context, const std::string& digest, std::string* bytes) {
    auto id = context->client_metadata().find("buildkit-attachable-store-id");
    if (id == context->client_metadata().end())
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no store id");
    const std::string name(id->second.data(), id->second.size());
    auto store = stores.find(name);
    if (store == stores.end())
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown store " + name);
    auto blob = store->second.find(digest);
    if (blob == store->second.end())
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "content " + digest + ": not found");
    *bytes = blob->second;
    return grpc::Status::OK;
  }
  grpc::Status Info(grpc::ServerContext* context,
                    const containerd::services::content::v1::InfoRequest* request,
                    containerd::services::content::v1::InfoResponse* response) override {
    std::string bytes;
    const grpc::Status status = Find(context, request->digest(), &bytes);
    response->mutable_info()->set_size(static_cast<int64_t>(bytes.size()));
    return status;
  }
  grpc::Status Read(
      grpc::ServerContext* context,
      const containerd::services::content::v1::ReadContentRequest* request,
      grpc::ServerWriter<containerd::services::content::v1::ReadContentResponse>* writer) override {
    std::string bytes;
    const grpc::Status status = Find(context, request->digest(), &bytes);
    if (!status.ok()) return status;
    constexpr size_t kChunk = 1000;
    size_t sent = 0;
    for (size_t at = static_cast<size_t>(request->offset()); at < bytes.size(); at += kChunk) {
      if (sent >= cut_after) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "disk unplugged");
      containerd::services::content::v1::ReadContentResponse response;
      response.set_offset(static_cast<int64_t>(at));
      response.set_data(bytes.substr(at, kChunk));
      sent += response.data().size();
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace kiln::daemon
