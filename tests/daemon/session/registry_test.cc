#include "daemon/session/registry.h"

#include <gtest/gtest.h>

#include <thread>

namespace kiln::daemon {
namespace {

class FakeSession : public Session {
 public:
  explicit FakeSession(std::string id) : id_(std::move(id)) {}
  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return id_; }
  bool Supports(absl::string_view) const override { return false; }
  std::shared_ptr<grpc::Channel> channel() const override { return nullptr; }
  CancelToken closed() const override { return CancelToken(); }

 private:
  const std::string id_;
};

TEST(SessionRegistry, WaitsForASessionThatIsAboutToAttach) {
  SessionRegistry registry(absl::Minutes(1));
  const SessionPtr session = std::make_shared<FakeSession>("x");
  absl::StatusOr<SessionPtr> got = absl::UnknownError("not yet");
  std::thread waiter([&] { got = registry.Get("p:x", CancelToken()); });
  registry.Add(session);
  waiter.join();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, session);
}

TEST(SessionRegistry, TellsWhomItMissed) {
  SessionRegistry registry(absl::Milliseconds(1));
  const absl::Status status = registry.Get("p:x", CancelToken()).status();
  EXPECT_EQ(status, absl::NotFoundError("no active session for x: context deadline exceeded"));
}

TEST(SessionRegistry, CancelEndsTheWait) {
  SessionRegistry registry(absl::Minutes(5));
  CancelSource source;
  absl::Status status;
  std::thread waiter([&] { status = registry.Get("x", source.token()).status(); });
  source.Cancel(absl::CancelledError("enough"));
  waiter.join();
  EXPECT_EQ(status, absl::CancelledError("enough"));
}

TEST(SessionRegistry, AnyTriesOneAfterTheOther) {
  SessionRegistry registry(absl::Milliseconds(1));
  registry.Add(std::make_shared<FakeSession>("a"));
  registry.Add(std::make_shared<FakeSession>("b"));
  std::vector<std::string> tried;
  auto only_b = [&](Session& session) {
    tried.push_back(session.id());
    return session.id() == "b" ? absl::OkStatus() : absl::NotFoundError("not here");
  };
  const std::vector<std::string> ids = {"gone", "a", "b", "c"};
  EXPECT_EQ(registry.Any(ids, CancelToken(), only_b), absl::OkStatus());
  EXPECT_EQ(tried, (std::vector<std::string>{"a", "b"}));
  const std::vector<std::string> only_a = {"a"};
  EXPECT_EQ(registry.Any(only_a, CancelToken(), only_b), absl::NotFoundError("not here"));
  EXPECT_EQ(registry.Any({}, CancelToken(), only_b), absl::NotFoundError("no active sessions"));
}

}  // namespace
}  // namespace kiln::daemon
