#include "daemon/device/cdi_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(CdiSpecTest, ReadsYaml) {
  const auto spec = ParseCdiSpec(R"(
cdiVersion: "0.6.0"
kind: "vendor.com/gpu"
annotations:
  shared: spec
  own: spec
containerEdits:
  env: [ "ALL=1" ]
devices:
  - name: "0"
    annotations: { own: device }
    containerEdits:
      env:
        - GPU=0
      deviceNodes:
        - path: /dev/gpu0
          hostPath: /dev/vendor/gpu0
          type: c
          major: 195
          minor: 7
          fileMode: 438
          permissions: rw
          uid: 1000
      mounts:
        - hostPath: /usr/lib/vendor
          containerPath: /usr/lib/vendor
          options: [ ro, nosuid ]
      hooks:
        - hookName: createContainer
          path: /usr/bin/hook
          args: [ hook, update ]
          timeout: 3
      additionalGids: [ 44 ]
  - name: all.gpus:x
)");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->kind, "vendor.com/gpu");
  EXPECT_THAT(spec->edits.env, ElementsAre("ALL=1"));
  ASSERT_EQ(spec->devices.size(), 2u);
  EXPECT_EQ(spec->devices[1].name, "all.gpus:x");
  EXPECT_EQ(spec->devices[1].annotations.at("own"), "spec");
  const CdiSpec::Device& device = spec->devices[0];
  EXPECT_EQ(device.annotations.at("own"), "device");
  EXPECT_EQ(device.annotations.at("shared"), "spec");
  EXPECT_THAT(device.edits.env, ElementsAre("GPU=0"));
  ASSERT_EQ(device.edits.nodes.size(), 1u);
  const DeviceNode& node = device.edits.nodes[0];
  EXPECT_EQ(node.path, "/dev/gpu0");
  EXPECT_EQ(node.host_path, "/dev/vendor/gpu0");
  EXPECT_EQ(node.type, "c");
  EXPECT_EQ(node.major, 195);
  EXPECT_EQ(node.minor, 7);
  EXPECT_EQ(node.mode, 0666u);
  EXPECT_EQ(node.access, "rw");
  EXPECT_EQ(node.uid, 1000u);
  EXPECT_FALSE(node.gid.has_value());
  ASSERT_EQ(device.edits.mounts.size(), 1u);
  EXPECT_EQ(device.edits.mounts[0].source, "/usr/lib/vendor");
  EXPECT_EQ(device.edits.mounts[0].type, "bind");
  EXPECT_THAT(device.edits.mounts[0].options, ElementsAre("ro", "nosuid"));
  ASSERT_EQ(device.edits.hooks.size(), 1u);
  EXPECT_EQ(device.edits.hooks[0].point, "createContainer");
  EXPECT_EQ(device.edits.hooks[0].timeout_seconds, 3);
  EXPECT_THAT(device.edits.groups, ElementsAre(44));
}

TEST(CdiSpecTest, ReadsJson) {
  const auto spec = ParseCdiSpec(
      R"({"cdiVersion":"0.3.0","kind":"a/b","devices":[{"name":"x","containerEdits":{"env":["A=B"]}}]})");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->devices[0].edits.env, ElementsAre("A=B"));
}

TEST(CdiSpecTest, RefusesByName) {
  const auto with = [](absl::string_view edits) {
    return absl::StrCat(
        "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- name: x\n  containerEdits:\n    ", edits, "\n");
  };
  const struct {
    std::string text, error;
  } rows[] = {
      {"", "not a map"},
      {"- a", "not a map"},
      {"a: [", "line"},
      {"kind: a/b", "unknown cdiVersion \"\""},
      {"cdiVersion: 9.9.9\nkind: a/b", "unknown cdiVersion \"9.9.9\""},
      {"cdiVersion: 0.6.0\nkind: gpu", "invalid kind \"gpu\""},
      {"cdiVersion: 0.6.0\nkind: 1a/b", "invalid kind"},
      {"cdiVersion: 0.6.0\nkind: a/b-", "invalid kind"},
      {"cdiVersion: 0.6.0\nkind: a/b", "no devices"},
      {"cdiVersion: 0.6.0\nkind: a/b\ndevices: [{name: \"-x\"}]", "invalid device name \"-x\""},
      {"cdiVersion: 0.6.0\nkind: a/b\ndevices: [{name: x}, {name: x}]", "device x is there twice"},
      {with("env: [NOVALUE]"), "line 6: invalid environment variable \"NOVALUE\""},
      {with("env: {a: b}"), "line 6"},
      {with("deviceNodes: [{type: c}]"), "a device node without a path"},
      {with("deviceNodes: [{path: /dev/x, type: q}]"), "device node /dev/x: invalid type q"},
      {with("deviceNodes: [{path: /dev/x, permissions: rx}]"), "invalid permissions rx"},
      {with("deviceNodes: [{path: /dev/x, major: many}]"), "line 6"},
      {with("deviceNodes: /dev/x"), "deviceNodes is not a list"},
      {with("mounts: [{containerPath: /x}]"), "a mount without a hostPath"},
      {with("mounts: [{hostPath: /x, containerPath: y}]"), "containerPath \"y\" is not absolute"},
      {with("hooks: [{hookName: never, path: /x}]"), "invalid hook name \"never\""},
      {with("hooks: [{hookName: poststop}]"), "hook poststop without a path"},
      {with("netDevices: [{hostInterfaceName: eth0, name: x}]"),
       "containerEdits.netDevices is not supported"},
      {with("intelRdt: {closID: x}"), "containerEdits.intelRdt is not supported"},
  };
  for (const auto& row : rows) {
    const auto spec = ParseCdiSpec(row.text);
    EXPECT_FALSE(spec.ok()) << row.text;
    EXPECT_THAT(std::string(spec.status().message()), HasSubstr(row.error)) << row.text;
  }
}

}  // namespace
}  // namespace kiln::daemon
