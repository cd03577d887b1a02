#include "daemon/device/device_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "store/base/fd.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class DeviceRegistryTest : public testing::Test {
 protected:
  DeviceRegistryTest() {
    for (const char* folder : {"etc", "run"}) ::mkdir(dir_.File(folder).c_str(), 0755);
    Write("etc/gpu.yaml", R"(
cdiVersion: 0.6.0
kind: vendor.com/gpu
containerEdits: { env: [ "SPEC=1" ] }
devices:
- { name: "0", containerEdits: { env: [ "GPU0=1" ] } }
- { name: "1", containerEdits: { env: [ "GPU1=1" ] },
    annotations: { org.mobyproject.buildkit.device.class: fast,
                   org.mobyproject.buildkit.device.autoallow: "true" } }
)");
    Write("etc/net.json",
          R"({"cdiVersion":"0.6.0","kind":"vendor.com/net","devices":[{"name":"a"}]})");
    Write("etc/notes.txt", "no spec");
  }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(dir_.File(name), text).ok());
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const Device& device : registry_.List()) names.push_back(device.name);
    return names;
  }

  TempDir dir_;
  DeviceRegistry registry_{{dir_.File("etc"), dir_.File("run"), dir_.File("none")},
                           {"vendor.com/net"}};
};

TEST_F(DeviceRegistryTest, ListsByName) {
  const std::vector<Device> devices = registry_.List();
  ASSERT_EQ(devices.size(), 3u);
  EXPECT_EQ(devices[0].name, "vendor.com/gpu=0");
  EXPECT_FALSE(devices[0].auto_allow);
  EXPECT_TRUE(devices[1].auto_allow) << "by its annotation";
  EXPECT_EQ(devices[1].annotations.at("org.mobyproject.buildkit.device.class"), "fast");
  EXPECT_TRUE(devices[2].auto_allow) << "by its kind";
}

TEST_F(DeviceRegistryTest, FindsWhatARequestMeans) {
  const struct {
    std::vector<DeviceRequest> requests;
    std::vector<std::string> want;
  } rows[] = {
      {{{"vendor.com/gpu=1"}}, {"vendor.com/gpu=1"}},
      {{{"vendor.com/gpu"}}, {"vendor.com/gpu=0"}},
      {{{"vendor.com/gpu="}}, {"vendor.com/gpu=0"}},
      {{{"vendor.com/gpu=*"}}, {"vendor.com/gpu=0", "vendor.com/gpu=1"}},
      {{{"fast"}}, {"vendor.com/gpu=1"}},
      {{{"vendor.com/net=a"}, {"vendor.com/gpu=*"}, {"fast"}},
       {"vendor.com/net=a", "vendor.com/gpu=0", "vendor.com/gpu=1"}},
      {{{"vendor.com/gpu=9", true}, {"vendor.com/g", true}, {"slow", true}}, {}},
      {{}, {}},
  };
  for (const auto& row : rows) {
    const auto found = registry_.Find(row.requests);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, row.want);
  }
  for (const char* name : {"vendor.com/gpu=9", "vendor.com/g", "gpu", "", "=*"}) {
    const auto found = registry_.Find({{{name}}});
    ASSERT_FALSE(found.ok()) << name;
    EXPECT_EQ(found.status().message(),
              absl::StrCat("required device \"", name, "\" is not registered"));
  }
}

TEST_F(DeviceRegistryTest, EditsOfASpecComeOnceAndFirst) {
  const std::vector<std::string> names = {"vendor.com/net=a", "vendor.com/gpu=1",
                                          "vendor.com/gpu=0"};
  const auto edits = registry_.Edits(names);
  ASSERT_TRUE(edits.ok()) << edits.status();
  EXPECT_THAT(edits->env, ElementsAre("SPEC=1", "GPU1=1", "GPU0=1"));
  const std::vector<std::string> gone = {"vendor.com/gpu=7"};
  EXPECT_THAT(std::string(registry_.Edits(gone).status().message()), HasSubstr("vendor.com/gpu=7"));
}

TEST_F(DeviceRegistryTest, ALaterFolderCountsMore) {
  Write("run/gpu.yaml",
        "cdiVersion: 0.6.0\nkind: vendor.com/gpu\n"
        "devices: [{name: \"0\", containerEdits: {env: [LATER=1]}}]\n");
  const std::vector<std::string> names = {"vendor.com/gpu=0"};
  EXPECT_THAT(registry_.Edits(names)->env, ElementsAre("LATER=1"));
  EXPECT_THAT(Names(), ElementsAre("vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/net=a"));
}

TEST_F(DeviceRegistryTest, WhatTwoFilesHaveAndWhatIsWrongIsNotOffered) {
  Write("etc/net2.json",
        R"({"cdiVersion":"0.6.0","kind":"vendor.com/net","devices":[{"name":"a"},{"name":"b"}]})");
  Write("etc/wrong.yaml", "cdiVersion: 0.6.0\nkind: vendor.com/bad\ndevices: {");
  EXPECT_THAT(Names(), ElementsAre("vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/net=b"));
}

TEST_F(DeviceRegistryTest, NothingThereNothingOffered) {
  EXPECT_THAT(DeviceRegistry({dir_.File("none")}, {}).List(), IsEmpty());
}

}  // namespace
}  // namespace kiln::daemon
