#include "daemon/device/device_grants.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "store/base/fd.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

class DeviceGrantsTest : public testing::Test {
 protected:
  DeviceGrantsTest() {
    EXPECT_TRUE(WriteFileAtomic(dir_.File("gpu.yaml"), R"(
cdiVersion: 0.6.0
kind: v/gpu
devices:
- name: "0"
- name: "1"
- { name: free, annotations: { org.mobyproject.buildkit.device.autoallow: "1" } }
)")
                    .ok());
  }
  // The names that a step gets, or the error.
  std::string Grant(const std::vector<std::string>& entitlements,
                    const std::vector<DeviceRequest>& requests) {
    const auto grants = DeviceGrants::Parse(entitlements);
    if (!grants.ok()) return std::string(grants.status().message());
    const auto devices = grants->Grant(requests, registry_);
    if (!devices.ok()) return std::string(devices.status().message());
    return absl::StrJoin(*devices, " ", [](std::string* out, const DeviceRequest& one) {
      absl::StrAppend(out, one.name, one.optional ? "?" : "");
    });
  }

  TempDir dir_;
  DeviceRegistry registry_{{dir_.File("")}, {}};
};

TEST_F(DeviceGrantsTest, Table) {
  const struct {
    std::vector<std::string> entitlements;
    std::vector<DeviceRequest> requests;
    std::string want;
  } rows[] = {
      {{}, {}, ""},
      {{"network.host"}, {{"v/gpu=0"}}, "device v/gpu=0 is requested by the build but not allowed"},
      {{"device=v/gpu=free"},
       {{"v/gpu=*"}},
       "devices v/gpu=0, v/gpu=1 are requested by the build but not allowed"},
      {{}, {{"v/gpu=free"}}, "v/gpu=free"},
      {{"device"}, {{"v/gpu=*"}, {"none", true}}, "v/gpu=* none?"},
      {{"device=v/gpu=1", "device"}, {{"v/gpu"}}, "v/gpu"},
      {{"device=v/gpu=1"}, {{"v/gpu=1"}, {"v/gpu=free"}}, "v/gpu=1 v/gpu=free"},
      {{"device=v/gpu=*"}, {{"v/gpu"}}, "v/gpu=0"},
      {{"device=v/gpu"}, {{"v/gpu=0"}}, "v/gpu=0"},
      {{"device=v/gpu"}, {{"v/gpu=1"}}, "device v/gpu=1 is requested by the build but not allowed"},
      {{"device=v/gpu=1,alias=fast"}, {{"fast"}, {"v/gpu=free"}}, "v/gpu=1 v/gpu=free"},
      {{"device=v/gpu=1,alias=fast"},
       {{"v/gpu=1"}},
       "device v/gpu=1 is requested by the build but not allowed"},
      {{"device=v/other"}, {{"none", true}}, ""},
      {{"device"}, {{"v/gpu=9"}}, "v/gpu=9"},  // missed when it runs
      {{}, {{"v/gpu=9"}}, "required device \"v/gpu=9\" is not registered"},
      {{"device=v/gpu,alias"}, {}, "invalid device config \"alias\""},
      {{"device=v/gpu,as=x"}, {}, "unknown device config key \"as\""},
  };
  for (const auto& row : rows)
    EXPECT_EQ(Grant(row.entitlements, row.requests), row.want)
        << absl::StrJoin(row.entitlements, " ");
}

}  // namespace
}  // namespace kiln::daemon
