#include "daemon/frontend/gateway/frontend_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Options and inputs, and one image in the registry.
class FakeClient : public FrontendClient {
 public:
  std::map<std::string, std::string> opts_, inputs_;
  std::string config = "{}";
  std::string asked;

  const std::map<std::string, std::string>& opts() const override { return opts_; }
  const std::map<std::string, std::string>& inputs() const override { return inputs_; }
  const std::string& session_id() const override { return session_; }
  std::vector<std::string> worker_platforms() const override { return {}; }
  absl::StatusOr<BridgeResult> SolveGraph(const Solve&) override { return BridgeResult(); }
  absl::StatusOr<std::string> DefinitionOf(absl::string_view) override { return ""; }
  absl::StatusOr<std::string> ReadFile(absl::string_view, absl::string_view, int64_t,
                                       int64_t) override {
    return "";
  }
  absl::StatusOr<std::vector<fsutil::Stat>> ReadDir(absl::string_view, absl::string_view,
                                                    const std::string&) override {
    return std::vector<fsutil::Stat>();
  }
  absl::StatusOr<fsutil::Stat> StatFile(absl::string_view, absl::string_view) override {
    return fsutil::Stat();
  }
  absl::StatusOr<Image> ResolveImage(const ImageRequest& request) override {
    asked = request.reference;
    return Image{request.reference, Digest::Of("image"), config};
  }
  absl::StatusOr<SourceFacts> ResolveSource(absl::string_view, const std::string&) override {
    return SourceFacts();
  }
  absl::Status Warn(const Digest&, const solver::Warning&) override { return absl::OkStatus(); }
  const CancelToken& cancel() const override { return cancel_; }

 private:
  const std::string session_ = "s";
  const CancelToken cancel_;
};

std::string SourceOf(const std::string& definition) {
  pb::Definition parsed;
  pb::Op op;
  if (!parsed.ParseFromString(definition) || parsed.def_size() != 2 ||
      !op.ParseFromString(parsed.def(0)))
    return "";
  return op.source().identifier();
}

TEST(FrontendImageTest, ImageIsPinnedAndItsConfigUsed) {
  FakeClient client;
  client.config = R"({"config":{"Entrypoint":["/bin/fe","-x"],"Env":["A=1"],"WorkingDir":"/w",
      "Labels":{"moby.buildkit.frontend.caps":"a,b"}}})";
  const auto image = FindFrontendImage(client, "me/fe:1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(client.asked, "docker.io/me/fe:1");
  EXPECT_EQ(SourceOf(image->definition),
            "docker-image://docker.io/me/fe:1@" + Digest::Of("image").ToString());
  EXPECT_THAT(image->entrypoint, ElementsAre("/bin/fe", "-x"));
  EXPECT_THAT(image->env, ElementsAre("A=1"));
  EXPECT_EQ(image->cwd, "/w");
}

TEST(FrontendImageTest, ContextsComeBeforeImages) {
  FakeClient client;
  client.inputs_["in"] = "a definition";
  struct Case {
    const char *key, *value, *want_asked, *want_definition;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"context:busybox", "input:in", "", "a definition"},
           {"context:docker.io/library/busybox:latest", "input:in", "", "a definition"},
           {"context:busybox", "docker-image://alpine:3", "docker.io/library/alpine:3", nullptr},
           {"context:other", "input:in", "docker.io/library/busybox:latest", nullptr}}) {
    client.asked.clear();
    client.opts_ = {{c.key, c.value}};
    const auto image = FindFrontendImage(client, "busybox");
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(client.asked, c.want_asked) << c.key;
    if (c.want_definition != nullptr) {
      EXPECT_EQ(image->definition, c.want_definition);
    }
  }
}

TEST(FrontendImageTest, InputsMayHaveAConfig) {
  FakeClient client;
  client.inputs_["in"] = "a definition";
  client.opts_ = {{"context:fe", "input:in"},
                  {"input-metadata:in", R"({"containerimage.config":"e30="})"}};
  const auto image = FindFrontendImage(client, "fe");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(image->has_config);
  EXPECT_THAT(image->entrypoint, ElementsAre("/run"));
}

TEST(FrontendImageTest, WhatIsWrongIsNamed) {
  struct Case {
    std::map<std::string, std::string> opts;
    const char* config;
    const char* want;
  };
  for (const Case& c : std::vector<Case>{
           {{{"context:fe", "input:none"}}, "{}", "invalid input none"},
           {{{"context:fe", "https://example.com/x"}}, "{}", "https://example.com/x"},
           {{{"context:fe", "input:in"}, {"input-metadata:in", "["}}, "{}", "input-metadata:in"},
           {{{"context:fe", "input:in"}, {"input-metadata:in", R"({"containerimage.config":"%"})"}},
            "{}",
            "not base64"},
           {{}, "[]", "not a JSON object"},
           {{}, R"({"config":{"Entrypoint":"/run"}})", "Entrypoint is no list of strings"}}) {
    FakeClient client;
    client.inputs_["in"] = "a definition";
    client.opts_ = c.opts;
    client.config = c.config;
    const auto image = FindFrontendImage(client, "fe");
    ASSERT_FALSE(image.ok()) << c.want;
    EXPECT_THAT(std::string(image.status().message()), HasSubstr(c.want));
  }
}

TEST(FrontendImageTest, CapabilitiesAreCheckedAgainstTheLabel) {
  struct Case {
    const char *wanted, *label;
    bool inputs;
    const char* missing;  // "": none
  };
  for (const Case& c :
       std::initializer_list<Case>{{"", "", false, ""},
                                   {"a", "a,b", false, ""},
                                   {"a+forward, b", "b,a+x", false, ""},
                                   {"c", "a,b", false, "c"},
                                   {"", "a", true, "moby.buildkit.frontend.inputs"},
                                   {"", "moby.buildkit.frontend.inputs", true, ""}}) {
    FakeClient client;
    client.opts_["frontend.caps"] = c.wanted;
    if (c.inputs) client.inputs_["x"] = "";
    FrontendImage image;
    image.labels["moby.buildkit.frontend.caps"] = c.label;
    EXPECT_EQ(CheckFrontendCaps(client, image), absl::OkStatus());  // nothing is known of it
    image.has_config = true;
    const absl::Status status = CheckFrontendCaps(client, image);
    if (*c.missing == '\0') {
      EXPECT_EQ(status, absl::OkStatus()) << c.wanted;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_EQ(status.message(), std::string("unsupported frontend capability ") + c.missing);
    ASSERT_EQ(Details(status).size(), 1u);
    EXPECT_EQ(Details(status)[0].value, std::string(R"({"name":")") + c.missing + "\"}");
  }
}

}  // namespace
}  // namespace kiln::daemon
