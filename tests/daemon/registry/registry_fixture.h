#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "daemon/registry/http_registry.h"
#include "tests/daemon/registry/fake_registry.h"
#include "tests/daemon/source/fake_op_context.h"

namespace kiln::daemon {

// A registry client next to a fake registry; waits between tries are noted, not waited.
class RegistryFixture : public testing::Test {
 protected:
  HttpRegistry& client() {
    if (client_ == nullptr) {
      HttpRegistryOptions options;
      options.config = config_;
      options.user_agent = "kiln/test";
      options.sleep = [this](absl::Duration wait, const CancelToken& cancel) {
        MutexLock lock(&mu_);
        waits_.push_back(wait);
        if (on_wait_) on_wait_();
        return cancel.status();
      };
      client_ = std::make_unique<HttpRegistry>(&sessions_, std::move(options));
    }
    return *client_;
  }
  Reference Ref(const std::string& name, FakeRegistry* registry = nullptr) {
    if (registry == nullptr) registry = &registry_;
    return *Reference::ParseFamiliar(absl::StrCat(registry->host(), "/", name));
  }
  RegistryCall Call() {
    RegistryCall call;
    call.cancel = cancel_.token();
    call.log = [this](absl::string_view line) { log_.emplace_back(line); };
    return call;
  }
  absl::StatusOr<std::string> Fetch(const Reference& repository, const store::Descriptor& blob,
                                    int64_t offset = 0) {
    std::string out;
    const absl::Status status =
        client().FetchBlob(repository, blob, offset, Call(), [&](absl::string_view data) {
          out.append(data.data(), data.size());
          return absl::OkStatus();
        });
    if (!status.ok()) return status;
    return out;
  }

  FakeRegistry registry_;
  FakeSessions sessions_;
  RegistryConfig config_;  // set before the first call
  std::function<void()> on_wait_;
  Mutex mu_;
  std::vector<absl::Duration> waits_;
  std::vector<std::string> log_;
  CancelSource cancel_;
  std::unique_ptr<HttpRegistry> client_;
};

}  // namespace kiln::daemon
