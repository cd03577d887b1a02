// A registry that is killed and started again in the middle of a blob.

#include <atomic>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/llb/file_action.h"
#include "tests/integration/image_fixture.h"
#include "tests/integration/middle_proxy.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using Json = nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::SizeIs;

constexpr size_t kMiddle = 3 << 20;

class RegistryRestartTest : public ImageBuildTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(registry_.Start().ok());
    ImageBuildTest::SetUp();
  }
  static uint16_t PortOf(const std::string& host) {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(host.substr(host.find(':') + 1), &port));
    return static_cast<uint16_t>(port);
  }
  // 8 MiB that nothing makes smaller.
  static const std::string& Bytes() {
    static const std::string* const bytes = [] {
      auto* out = new std::string;
      uint64_t state = 1;
      while (out->size() < 8 << 20) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out->push_back(static_cast<char>(state >> 56));
      }
      return out;
    }();
    return *bytes;
  }
  void RestartWhen(MiddleProxy::Way way) {
    proxy_.When(way, kMiddle, [this] {
      registry_.Stop();
      restarted_ = registry_.Start();
      ++restarts_;
    });
  }

  RegistryProcess registry_;  // of this test alone
  MiddleProxy proxy_{PortOf(registry_.host())};
  absl::Status restarted_;
  std::atomic<int> restarts_ = 0;
};

TEST_F(RegistryRestartTest, APushAndAPullGoOn) {
  const std::string name = proxy_.host() + "/restarted";
  const llb::State made = llb::State().File(llb::Mkfile("/f", 0644, Bytes()));
  RestartWhen(MiddleProxy::Way::kUp);
  const auto pushed = Solve({.state = made, .outputs = {ToRegistry(name)}});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(restarts_, 1);
  ASSERT_TRUE(restarted_.ok()) << restarted_;
  const Json manifest =
      Json::parse(Output({"skopeo", "inspect", "--raw", "--tls-verify=false",
                          absl::StrCat("docker://", registry_.host(), "/restarted")}));
  const std::string layer = manifest.at("layers").at(0).at("digest");

  Prune();
  RestartWhen(MiddleProxy::Way::kDown);
  EXPECT_EQ(Content({.state = llb::Image(name)}, "f"), Bytes());
  EXPECT_EQ(restarts_, 2);
  ASSERT_TRUE(restarted_.ok()) << restarted_;
  // The first GET died with its server, before that wrote about it.
  EXPECT_THAT(registry_.Requests({"GET /v2/restarted/blobs/" + layer}, 1),
              AllOf(SizeIs(1), Contains(HasSubstr("206"))));
}

}  // namespace
}  // namespace kiln::integration
