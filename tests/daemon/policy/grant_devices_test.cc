#include "daemon/policy/grant_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

class GrantDevicesTest : public testing::Test {
 protected:
  GrantDevicesTest() {
    EXPECT_TRUE(WriteFileAtomic(dir_.File("gpu.yaml"),
                                "cdiVersion: 0.6.0\nkind: v/gpu\ndevices: [{name: a}, {name: b}]\n")
                    .ok());
  }
  absl::StatusOr<std::string> Grant(const pb::Definition& definition,
                                    const std::vector<std::string>& entitlements) {
    return GrantDevices(definition.SerializeAsString(), *DeviceGrants::Parse(entitlements),
                        registry_);
  }
  // A source, a step with the device on it, and the terminal op.
  static pb::Definition WithDevice(const std::string& device) {
    pb::Definition definition;
    pb::Op source;
    source.mutable_source()->set_identifier("local://x");
    const auto add = [&](pb::Op op, const std::string& input) {
      if (!input.empty()) op.add_inputs()->set_digest(input);
      const std::string bytes = op.SerializeAsString();
      definition.add_def(bytes);
      const std::string digest = Digest::Of(bytes).ToString();
      (*definition.mutable_metadata())[digest].mutable_description()->insert({"is", digest});
      return digest;
    };
    pb::Op exec;
    exec.mutable_exec()->mutable_meta()->add_args("true");
    if (!device.empty()) exec.mutable_exec()->add_cdidevices()->set_name(device);
    add(pb::Op(), add(exec, add(source, "")));
    return definition;
  }
  static std::vector<std::string> DevicesOf(const std::string& bytes) {
    pb::Definition definition;
    EXPECT_TRUE(definition.ParseFromString(bytes));
    pb::Op op;
    EXPECT_TRUE(op.ParseFromString(definition.def(1)));
    std::vector<std::string> names;
    for (const pb::CDIDevice& device : op.exec().cdidevices()) names.push_back(device.name());
    return names;
  }

  TempDir dir_;
  DeviceRegistry registry_{{dir_.File("")}, {}};
};

TEST_F(GrantDevicesTest, NamesAreQualifiedAndTheGraphHoldsTogether) {
  const pb::Definition before = WithDevice("v/gpu=*");
  const auto after = Grant(before, {"device=v/gpu=*"});
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_THAT(DevicesOf(*after), testing::ElementsAre("v/gpu=a", "v/gpu=b"));
  pb::Definition definition;
  ASSERT_TRUE(definition.ParseFromString(*after));
  EXPECT_EQ(definition.def(0), before.def(0));
  const std::string step = Digest::Of(definition.def(1)).ToString();
  pb::Op last;
  ASSERT_TRUE(last.ParseFromString(definition.def(2)));
  EXPECT_EQ(last.inputs(0).digest(), step);
  ASSERT_TRUE(definition.metadata().contains(step)) << "metadata moves along";
  EXPECT_EQ(definition.metadata().at(step).description().at("is"),
            Digest::Of(before.def(1)).ToString());
}

TEST_F(GrantDevicesTest, WhatNeedsNoChangeKeepsItsBytes) {
  for (const char* device : {"", "v/gpu=a"}) {
    const pb::Definition definition = WithDevice(device);
    EXPECT_EQ(*Grant(definition, {"device=v/gpu=a"}), definition.SerializeAsString());
  }
  EXPECT_THAT(DevicesOf(*Grant(WithDevice("v/gpu"), {"device"})), testing::ElementsAre("v/gpu"));
}

TEST_F(GrantDevicesTest, Refuses) {
  EXPECT_EQ(Grant(WithDevice("v/gpu=b"), {"device=v/gpu=a"}).status().message(),
            "device v/gpu=b is requested by the build but not allowed");
  EXPECT_EQ(Grant(WithDevice("v/none"), {}).status().message(),
            "required device \"v/none\" is not registered");
}

// It is the loader's to say what is wrong with it.
TEST_F(GrantDevicesTest, MalformedBytesAreLeftAlone) {
  const std::string whole = WithDevice("v/gpu=b").SerializeAsString();
  const DeviceGrants none;
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string cut = whole.substr(0, size);
    const auto after = GrantDevices(cut, none, registry_);
    if (after.ok()) {
      EXPECT_EQ(*after, cut) << size;
    }
  }
  for (const std::string& bytes :
       {std::string("\x0a\xff\xff\xff\xff\x0f"), std::string("\x0a\x7f x"),
        std::string(100, '\xff'), std::string("\x0a\x04\x12\x02\x32\x09")})
    EXPECT_EQ(*GrantDevices(bytes, none, registry_), bytes);
}

}  // namespace
}  // namespace kiln::daemon
