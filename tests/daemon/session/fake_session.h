#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/session/session.h"

namespace kiln::daemon {

// A session over any channel.
class FakeSession : public Session {
 public:
  FakeSession(std::string id, std::shared_ptr<grpc::Channel> channel, std::string shared_key = "")
      : id_(std::move(id)), shared_key_(std::move(shared_key)), channel_(std::move(channel)) {}

  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return shared_key_; }
  bool Supports(absl::string_view method) const override {
    return unsupported.count(absl::AsciiStrToLower(method)) == 0;
  }
  std::shared_ptr<grpc::Channel> channel() const override { return channel_; }
  CancelToken closed() const override { return closed_.token(); }

  void Close() { closed_.Cancel(); }
  std::set<std::string> unsupported;  // lower case

 private:
  const std::string id_, shared_key_;
  const std::shared_ptr<grpc::Channel> channel_;
  mutable CancelSource closed_;
};

}  // namespace kiln::daemon
