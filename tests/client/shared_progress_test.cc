#include "client/progress/shared_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace kiln::client {
namespace {

using testing::ElementsAre;

// Keeps what it is told, as lines.
class Recorder : public ProgressSink {
 public:
  void OnUpdate(const ProgressUpdate& update) override {
    for (const VertexEvent& vertex : update.vertices)
      lines.push_back(absl::StrCat(vertex.name, vertex.completed ? " done" : ""));
    for (const LogEvent& log : update.logs) lines.push_back(log.data);
  }
  std::vector<std::string> lines;
};

ProgressUpdate Step(const std::string& digest, bool completed, const std::string& log = "") {
  ProgressUpdate update;
  VertexEvent vertex;
  vertex.digest = digest;
  vertex.name = absl::StrCat("[stage 1/1] ", digest);
  if (completed) vertex.completed = absl::Now();
  update.vertices.push_back(vertex);
  if (!log.empty()) update.logs.push_back({digest, 1, log, absl::Now()});
  return update;
}

TEST(SharedProgressTest, NamesCarryTheTarget) {
  EXPECT_EQ(PrefixName("app", "[internal] load"), "[app internal] load");
  EXPECT_EQ(PrefixName("app", "exporting"), "[app] exporting");
  EXPECT_EQ(PrefixName("", "[internal] load"), "[internal] load");
}

TEST(SharedProgressTest, SharedStepsAreToldOnce) {
  Recorder recorder;
  SharedProgress shared(&recorder);
  const auto a = shared.Add("a");
  const auto b = shared.Add("b");
  a->OnUpdate(Step("s", false, "hello"));
  b->OnUpdate(Step("s", false, "hello"));
  b->OnUpdate(Step("own", false));
  a->OnUpdate(Step("s", true));
  b->OnUpdate(Step("s", true));
  EXPECT_THAT(recorder.lines,
              ElementsAre("[a stage 1/1] s", "hello", "[b stage 1/1] own", "[a stage 1/1] s done"));
}

TEST(SharedProgressTest, AnotherTellsWhenTheFirstHasEnded) {
  Recorder recorder;
  SharedProgress shared(&recorder);
  auto a = shared.Add("a");
  const auto b = shared.Add("b");
  a->OnUpdate(Step("s", false));
  a.reset();
  b->OnUpdate(Step("s", true));
  EXPECT_THAT(recorder.lines, ElementsAre("[a stage 1/1] s", "[b stage 1/1] s done"));
}

}  // namespace
}  // namespace kiln::client
