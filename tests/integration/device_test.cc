// Devices of the Container Device Interface, from the client's grant to the step.
#include <gmock/gmock.h>

#include "tests/integration/build_fixture.h"

namespace kiln::integration {
namespace {

using testing::HasSubstr;
namespace llb = client::llb;

class DeviceTest : public BuildTest {
 protected:
  DeviceTest() {
    folder_.Write("v.yaml", R"(
cdiVersion: 0.6.0
kind: vendor.test/zero
devices:
- name: a
  containerEdits:
    env: [ "DEVICE=a" ]
    deviceNodes: [ { path: /dev/zero-a, hostPath: /dev/zero } ]
- name: b
  containerEdits: { env: [ "DEVICE=b" ] }
)");
    config_ = absl::StrCat("[cdi]\n  specDirs = [ \"", folder_.path(), "\" ]\n");
  }
  // What a step with the device says, or the error.
  std::string Use(const std::string& device, std::vector<std::string> entitlements) {
    llb::RunInfo run = Step("use", "echo got $DEVICE; head -c 2 /dev/zero-a | wc -c");
    run.cdi_devices.push_back({device, false});
    const llb::State state = base_.state().Run(run);
    const auto definition = state.Marshal();
    if (!definition.ok()) return std::string(definition.status().message());
    client::ConnectOptions connect;
    connect.address = daemon_->address();
    auto connection = client::Connection::Open(connect);
    if (!connection.ok()) return std::string(connection.status().message());
    client::SolveOptions options;
    options.definition = definition->Serialize();
    options.local_dirs["base"] = base_.path();
    options.entitlements = std::move(entitlements);
    SeenProgress seen;
    const auto result = client::Solve(**connection, options, &seen);
    if (!result.ok()) return std::string(result.status().message());
    return seen.step("use").cached ? "cached" : seen.step("use").log;
  }

  TempDir folder_;
};

TEST_F(DeviceTest, GrantedOnesAreThere) {
  EXPECT_EQ(Use("vendor.test/zero=a", {"device"}), "got a\n2\n");
  EXPECT_EQ(Use("vendor.test/zero", {"device=vendor.test/zero=a"}), "cached")
      << "the first of its kind is the same device";
  EXPECT_THAT(Use("mine", {"device=vendor.test/zero=b,alias=mine"}), HasSubstr("got b\n"));
}

TEST_F(DeviceTest, OthersAreRefused) {
  EXPECT_THAT(Use("vendor.test/zero=a", {}),
              HasSubstr("device vendor.test/zero=a is requested by the build but not allowed"));
  EXPECT_THAT(Use("vendor.test/zero=*", {"device=vendor.test/zero=a"}),
              HasSubstr("device vendor.test/zero=b is requested by the build but not allowed"));
  EXPECT_THAT(Use("vendor.test/none", {"device"}),
              HasSubstr("required device \"vendor.test/none\" is not registered"));
  EXPECT_THAT(Use("vendor.test/zero=a", {"device=vendor.test/zero=a,as=x"}),
              HasSubstr("unknown device config key \"as\""));
}

class NoDeviceTest : public BuildTest {
 protected:
  NoDeviceTest() { config_ = "[cdi]\n  disabled = true\n"; }
};

TEST_F(NoDeviceTest, ADaemonWithoutThemGrantsNone) {
  client::ConnectOptions connect;
  connect.address = daemon_->address();
  auto connection = client::Connection::Open(connect);
  ASSERT_TRUE(connection.ok());
  client::SolveOptions options;
  options.entitlements = {"device"};
  EXPECT_THAT(std::string(client::Solve(**connection, options, nullptr).status().message()),
              HasSubstr("granting entitlement device is not allowed"));
}

}  // namespace
}  // namespace kiln::integration
