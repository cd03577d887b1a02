// What the frontend sends for a Dockerfile must be, op for op, what BuildKit's sends: the files
// under tests/testdata/conformance/llb were written by it (v0.20.2).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/frontend/dockerfile/frontend.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "tests/daemon/frontend/dockerfile/fake_client.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kRoot = fs::path(KILN_TESTDATA) / "conformance";

// What newer frontends than the one that wrote the data write otherwise (v0.32.2): the time is in
// the result as well, and two instructions read better in the history.
constexpr char kNewInResult[] = "source.date.epoch";
const std::vector<std::pair<std::string, std::string>> kNewHistory = {
    {"EXPOSE map[8080/tcp:{} 9090/udp:{} 9091/udp:{} 9092/udp:{}]",
     "EXPOSE [8080/tcp 9090/udp 9091/udp 9092/udp]"},
    {"EXPOSE map[8080/tcp:{}]", "EXPOSE [8080/tcp]"},
    {"EXPOSE map[100/udp:{} 443/tcp:{} 80/tcp:{}]", "EXPOSE [100/udp 443/tcp 80/tcp]"},
    {R"(HEALTHCHECK &{[\"CMD-SHELL\" \"wget -q localhost || exit 1\"] \"5s\" \"3s\" \"2s\" \"1s\" '\\x04'})",
     "HEALTHCHECK {Test:[CMD-SHELL wget -q localhost || exit 1] Interval:5s Timeout:3s "
     "StartPeriod:2s StartInterval:1s Retries:4}"},
    {R"(HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'})",
     "HEALTHCHECK {Test:[CMD-SHELL true] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s "
     "Retries:0}"},
    {R"(HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'})",
     "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"},
};

std::string Read(const fs::path& path) { return ReadFileToString(path.string()).value_or(""); }

std::vector<std::string> Cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kRoot / "llb")) {
    if (fs::exists(entry.path() / "Dockerfile")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// One line for each op, with what travels beside it; the definition's meaning, whatever its order.
std::map<std::string, std::string> Describe(const pb::Definition& definition) {
  std::map<std::string, std::string> ops;
  for (const std::string& bytes : definition.def()) {
    const std::string digest = Digest::Of(bytes).ToString();
    pb::Op op;
    op.ParseFromString(bytes);
    std::string text = absl::StrCat(op.ShortDebugString(), "\n");
    if (const auto found = definition.metadata().find(digest);
        found != definition.metadata().end()) {
      pb::OpMetadata metadata = found->second;
      std::map<std::string, std::string> description(metadata.description().begin(),
                                                     metadata.description().end());
      std::map<std::string, bool> caps(metadata.caps().begin(), metadata.caps().end());
      metadata.clear_description();
      metadata.clear_caps();
      if (metadata.has_progress_group()) metadata.mutable_progress_group()->set_id("(random)");
      for (const auto& [key, value] : description) absl::StrAppend(&text, key, "=", value, "\n");
      for (const auto& [key, value] : caps) absl::StrAppend(&text, key, "=", value, " ");
      absl::StrAppend(&text, "\n", metadata.ShortDebugString());
    }
    const auto where = definition.source().locations().find(digest);
    if (where != definition.source().locations().end() && where->second.locations_size() > 0) {
      absl::StrAppend(&text, "\nat ", where->second.ShortDebugString());
    }
    ops[digest] = text;
  }
  return ops;
}

// All definitions of a build but the loading of the Dockerfile and .dockerignore, which the data
// leaves out.
std::vector<std::map<std::string, std::string>> Sent(const FakeClient& client) {
  std::vector<std::map<std::string, std::string>> sent;
  const std::vector<std::string> begun = client.Prefetched();
  for (const FrontendClient::Solve& solve : client.Solves()) {
    if (std::find(begun.begin(), begun.end(), solve.definition) != begun.end()) continue;
    pb::Definition definition;
    definition.ParseFromString(solve.definition);
    bool loading = false;
    for (const auto& [digest, metadata] : definition.metadata()) {
      const auto name = metadata.description().find("llb.customname");
      loading |= name != metadata.description().end() &&
                 absl::StartsWith(name->second, "[internal] load ") &&
                 !absl::StartsWith(name->second, "[internal] load build context") &&
                 definition.def_size() == 2;
    }
    if (!loading) sent.push_back(Describe(definition));
  }
  std::sort(sent.begin(), sent.end());
  return sent;
}

std::vector<std::map<std::string, std::string>> Wanted(const fs::path& folder) {
  std::vector<std::map<std::string, std::string>> wanted;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".pb") continue;
    pb::Definition definition;
    definition.ParseFromString(Read(entry.path()));
    wanted.push_back(Describe(definition));
  }
  std::sort(wanted.begin(), wanted.end());
  return wanted;
}

Json Position(const pb::Range& range) {
  return {range.start().line(), range.start().character(), range.end().line(),
          range.end().character()};
}

Json WarningsOf(const FakeClient& client) {
  Json list = Json::array();
  for (const auto& [vertex, warning] : client.Warnings()) {
    Json ranges = Json::array();
    for (const std::string& bytes : warning.ranges) {
      pb::Range range;
      range.ParseFromString(bytes);
      ranges.push_back(Position(range));
    }
    list.push_back({{"detail", warning.detail},
                    {"level", warning.level},
                    {"range", ranges},
                    {"short", warning.short_text},
                    {"url", warning.url}});
  }
  return list;
}

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path folder = kRoot / "llb" / GetParam();
    client_.options["filename"] = "Dockerfile";
    if (fs::exists(folder / "opts.json")) {
      const Json options = Json::parse(Read(folder / "opts.json"));
      for (const auto& [key, value] : options.items()) {
        client_.options[key] = value.get<std::string>();
      }
    }
    client_.locals["dockerfile"]["Dockerfile"] = Read(folder / "Dockerfile");
    if (fs::exists(folder / "dockerignore")) {
      client_.locals["context"][".dockerignore"] = Read(folder / "dockerignore");
    }
    const Json images = Json::parse(Read(kRoot / "images.json"));
    for (const auto& [reference, image] : images.items()) {
      FrontendClient::Image& added = client_.images[reference];
      added.reference = reference;
      added.digest = *Digest::Parse(image["digest"].get<std::string>());
      added.config = image["config"].dump();
    }
  }

  FakeClient client_;
};

TEST_P(GoldenTest, SameGraphConfigAndWarnings) {
  const fs::path folder = kRoot / "llb" / GetParam();
  DockerfileFrontend frontend;
  const absl::StatusOr<BridgeResult> result = frontend.Run(client_);
  ASSERT_TRUE(result.ok()) << result.status();

  const auto sent = Sent(client_);
  const auto wanted = Wanted(folder);
  ASSERT_EQ(sent.size(), wanted.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    for (const auto& [digest, op] : wanted[i]) {
      const auto found = sent[i].find(digest);
      EXPECT_NE(found, sent[i].end()) << "missing " << digest << "\n" << op;
      if (found != sent[i].end()) {
        EXPECT_EQ(found->second, op) << digest;
      }
    }
    for (const auto& [digest, op] : sent[i]) {
      EXPECT_EQ(wanted[i].count(digest), 1u) << "surplus " << digest << "\n" << op;
    }
  }

  Json metadata = Json::object();
  for (const auto& [key, value] : result->metadata) {
    if (absl::StartsWith(key, kNewInResult)) continue;
    metadata[key] = Json::parse(value);
  }
  const std::string want =
      absl::StrReplaceAll(Json::parse(Read(folder / "result.json")).dump(1), kNewHistory);
  EXPECT_EQ(metadata.dump(1), want);

  const Json warnings = fs::exists(folder / "warnings.json")
                            ? Json::parse(Read(folder / "warnings.json"))
                            : Json::array();
  EXPECT_EQ(WarningsOf(client_).dump(1), warnings.dump(1));
}

INSTANTIATE_TEST_SUITE_P(Conformance, GoldenTest, testing::ValuesIn(Cases()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace kiln::daemon
