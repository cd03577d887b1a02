#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/error_text.h"
#include "client/progress/display.h"
#include "client/progress/model.h"
#include "client/progress/plain_display.h"
#include "client/progress/raw_json_display.h"
#include "client/progress/text.h"
#include "client/progress/tty_display.h"
#include "proto/status_details.h"

namespace kiln::client {
namespace {

using testing::HasSubstr;

const absl::Time kBegin = absl::FromUnixSeconds(1700000000);
absl::Time At(double seconds) { return kBegin + absl::Seconds(seconds); }

VertexEvent Vertex(const std::string& digest) {
  VertexEvent event;
  event.digest = digest;
  event.name = absl::StrCat("step ", digest);
  return event;
}
VertexEvent Started(const std::string& digest, double at) {
  VertexEvent event = Vertex(digest);
  event.started = At(at);
  return event;
}
VertexEvent Done(const std::string& digest, double from, double to, bool cached = false,
                 const std::string& error = "") {
  VertexEvent event = Started(digest, from);
  event.completed = At(to);
  event.cached = cached;
  event.error = error;
  return event;
}
ProgressUpdate Of(std::vector<VertexEvent> vertices) {
  ProgressUpdate update;
  update.vertices = std::move(vertices);
  return update;
}
ProgressUpdate Log(const std::string& digest, const std::string& data, double at) {
  ProgressUpdate update;
  update.logs.push_back({digest, 1, data, At(at)});
  return update;
}

// A display's output, with the time in the test's hands.
struct Screen {
  std::string text;
  absl::Time now = kBegin;
  TerminalSize size;
  DisplayOutput Output() {
    DisplayOutput output;
    output.write = [this](absl::string_view data) { absl::StrAppend(&text, data); };
    output.size = [this] { return size; };
    output.now = [this] { return now; };
    output.own_thread = false;
    return output;
  }
};

TEST(ProgressModelTest, CountsEachStepOnce) {
  ProgressModel model;
  model.Apply(Of({Vertex("a"), Done("a", 0, 1), Done("b", 0, 0, true), Started("c", 1)}));
  model.Apply(Of({Vertex("a"), Done("c", 1, 2, false, "process: context canceled")}));
  model.Apply(Of({Done("d", 1, 2, false, "exit code: 1")}));
  const StepCounts counts = model.Counts();
  EXPECT_EQ(counts.total, 4);
  EXPECT_EQ(counts.run, 1);
  EXPECT_EQ(counts.cached, 1);
  EXPECT_EQ(counts.canceled, 1);
  EXPECT_EQ(counts.failed, 1);
}

TEST(ProgressModelTest, RunsOfOneStepAddUp) {
  ProgressModel model;
  model.Apply(Of({Done("a", 0, 1)}));
  model.Apply(Of({Started("a", 5)}));
  EXPECT_EQ(model.started()[0]->state, Step::State::kRunning);
  model.Apply(Of({Done("a", 5, 7)}));
  EXPECT_EQ(model.started()[0]->Elapsed(At(9)), absl::Seconds(3));
}

TEST(ProgressModelTest, LogsSplitIntoLinesAndOverwritesCollapse) {
  ProgressModel model;
  model.Apply(Of({Started("a", 0)}));
  model.Apply(Log("a", "on", 1));
  model.Apply(Log("a", "e\n10%\r50%\r100%\r\nlast", 2));
  ASSERT_EQ(model.started()[0]->new_lines.size(), 2u);
  EXPECT_EQ(model.started()[0]->new_lines[0].text, "one");
  EXPECT_EQ(model.started()[0]->new_lines[1].text, "100%");
  model.Apply(Of({Done("a", 0, 3)}));
  ASSERT_EQ(model.started()[0]->new_lines.size(), 3u);
  EXPECT_EQ(model.started()[0]->new_lines[2].text, "last");
}

TEST(ProgressModelTest, AGroupIsOneStepThatWeakMembersDoNotShow) {
  const auto grouped = [](VertexEvent event, bool weak) {
    event.group = ProgressGroupInfo{"g", "COPY --link", weak};
    return event;
  };
  ProgressModel model;
  model.Apply(Of({grouped(Done("a", 0, 1, true), true)}));
  EXPECT_TRUE(model.started().empty());
  model.Apply(Of({grouped(Started("b", 2), false)}));
  ASSERT_EQ(model.started().size(), 1u);
  EXPECT_EQ(model.started()[0]->name, "COPY --link");
  EXPECT_EQ(model.started()[0]->state, Step::State::kRunning);
  model.Apply(Of({grouped(Done("b", 2, 3, true), false)}));
  EXPECT_EQ(model.started()[0]->state, Step::State::kCached);
}

TEST(PlainDisplayTest, WritesBuildkitsForm) {
  Screen screen;
  PlainDisplay display(screen.Output());
  display.OnUpdate(Of({Started("a", 0)}));
  display.OnUpdate(Log("a", "hello\n", 0.1234));
  ProgressUpdate status;
  status.statuses.push_back(
      {"transferring context:", "a", "transferring", 1500, 0, At(0.5), At(0), At(0.5)});
  display.OnUpdate(status);
  display.OnUpdate(Of({Done("a", 0, 1.25)}));
  display.OnUpdate(Of({Done("b", 1, 1, true)}));
  display.OnUpdate(Of({Done("c", 1, 2, false, "boom")}));
  display.OnUpdate(Of({Done("d", 1, 2, false, "x: context canceled")}));
  display.Finish(absl::OkStatus());
  EXPECT_EQ(screen.text,
            "#1 step a\n#1 0.123 hello\n#1 transferring context: 1.50kB 0.5s done\n#1 DONE 1.2s\n\n"
            "#2 step b\n#2 CACHED\n\n"
            "#3 step c\n#3 ERROR: boom\n\n"
            "#4 step d\n#4 CANCELED\n\n");
}

TEST(PlainDisplayTest, ASilentStepGivesUpTheWord) {
  Screen screen;
  PlainDisplay display(screen.Output());
  display.OnUpdate(Of({Started("a", 0)}));
  display.OnUpdate(Of({Started("b", 0)}));
  display.OnUpdate(Log("b", "from b\n", 0.1));
  EXPECT_EQ(screen.text, "#1 step a\n");
  screen.now += absl::Seconds(1);
  display.Tick();
  EXPECT_EQ(screen.text, "#1 step a\n#1 ...\n\n#2 step b\n#2 0.100 from b\n");
}

TEST(PlainDisplayTest, FailureRepeatsTheLastLines) {
  Screen screen;
  PlainDisplay display(screen.Output());
  display.OnUpdate(Of({Started("a", 0)}));
  for (int i = 0; i < 12; ++i) display.OnUpdate(Log("a", absl::StrCat("line ", i, "\n"), 0));
  display.OnUpdate(Of({Done("a", 0, 1, false, "exit code: 1")}));
  screen.text.clear();
  display.Finish(absl::UnknownError("exit code: 1"));
  EXPECT_THAT(screen.text, HasSubstr("------\n > step a:\nline 2\n"));
  EXPECT_THAT(screen.text, HasSubstr("line 11\n------\n"));
  EXPECT_THAT(screen.text, testing::Not(HasSubstr("line 1\n")));
}

// The visible rows of the last frame, and how far up the cursor went after it.
struct FrameRows {
  std::vector<std::string> rows;
  int up = 0;
};
FrameRows LastFrame(const std::string& text) {
  FrameRows frame;
  std::string last = text.substr(text.rfind("\x1b[?7l"));
  for (absl::string_view row : absl::StrSplit(last, '\n')) {
    frame.rows.push_back(ToDisplay(row, 1000));
  }
  const size_t end = last.rfind('A');
  const size_t begin = last.rfind("\x1b[", end);
  if (end != std::string::npos) frame.up = std::atoi(last.c_str() + begin + 2);
  return frame;
}

TEST(TtyDisplayTest, AFrameFitsAndEndsOnItsFirstLine) {
  Screen screen;
  TtyDisplay display(screen.Output());
  for (int i = 0; i < 40; ++i) {
    const std::string name = absl::StrCat("s", i, std::string(200, 'x'));
    display.OnUpdate(Of({i < 30 ? Done(name, 0, 1, i % 2 == 0) : Started(name, 1)}));
    display.OnUpdate(Log(name, absl::StrCat(std::string(300, 'y'), "\n"), 1));
  }
  for (const TerminalSize size : {TerminalSize{80, 24}, TerminalSize{20, 5}, TerminalSize{1, 1}}) {
    screen.size = size;
    screen.now += absl::Seconds(1);
    display.Tick();
    const FrameRows frame = LastFrame(screen.text);
    EXPECT_LE(static_cast<int>(frame.rows.size()), std::max(1, size.rows - 1));
    EXPECT_EQ(frame.up, static_cast<int>(frame.rows.size()) - 1);
    for (const std::string& row : frame.rows) {
      EXPECT_LE(DisplayWidth(row), std::max(1, size.columns - 1)) << row;
    }
  }
}

TEST(TtyDisplayTest, ShowsRunningStepsWithTimeAndOutputAndCachedMarks) {
  Screen screen;
  screen.now = absl::Now();  // the daemon's clock is ours plus a constant
  TtyDisplay display(screen.Output());
  display.OnUpdate(Of({Started("a", 0), Done("b", 0, 0, true), Vertex("c")}));
  display.OnUpdate(Log("a", "compiling\n", 1));
  screen.now += absl::Seconds(2);
  display.Tick();
  EXPECT_THAT(screen.text, HasSubstr("(1/3)  1 cached"));
  EXPECT_THAT(screen.text, HasSubstr("s step a"));
  EXPECT_THAT(screen.text, HasSubstr(" => => # compiling"));
  EXPECT_THAT(screen.text, HasSubstr("CACHED step b"));
  display.Finish(absl::OkStatus());
  EXPECT_THAT(screen.text, HasSubstr("FINISHED"));
  EXPECT_THAT(screen.text, testing::EndsWith("\x1b[?25h"));  // the cursor is back
}

TEST(RawJsonTest, EqualsBuildkitsLines) {
  VertexEvent vertex = Started("sha256:0e", 0.648009324);
  vertex.name = "[internal] <load>";
  ProgressUpdate update = Of({vertex});
  update.statuses.push_back({"transferring dockerfile:", "sha256:0e", "transferring", 0, 0, At(0.5),
                             At(0.25), std::nullopt});
  update.logs.push_back({"sha256:0e", 2, "hi\n", At(1)});
  EXPECT_EQ(ToRawJson(update),
            R"({"vertexes":[{"digest":"sha256:0e","name":"[internal] \u003cload\u003e",)"
            R"("started":"2023-11-14T22:13:20.648009324Z"}],)"
            R"("statuses":[{"id":"transferring dockerfile:","vertex":"sha256:0e",)"
            R"("name":"transferring","current":0,"timestamp":"2023-11-14T22:13:20.5Z",)"
            R"("started":"2023-11-14T22:13:20.25Z"}],)"
            R"("logs":[{"vertex":"sha256:0e","stream":2,"data":"aGkK",)"
            R"("timestamp":"2023-11-14T22:13:21Z"}]})");
}

TEST(TextTest, BytesAndSummary) {
  EXPECT_EQ(FormatBytes(297), "297B");
  EXPECT_EQ(FormatBytes(1500), "1.50kB");
  EXPECT_EQ(FormatBytes(24920000), "24.92MB");
  EXPECT_EQ(SummaryLine({12, 8, 4, 0, 0}, absl::Seconds(3.2)), "12 steps: 8 cached, 4 run, 3.2 s");
  EXPECT_EQ(SummaryLine({1, 0, 0, 1, 0}, absl::Seconds(1)),
            "1 step: 0 cached, 0 run, 1 failed, 1.0 s");
}

TEST(TextTest, OnlyPrintableTextReachesTheTerminal) {
  EXPECT_EQ(ToDisplay("a\x1b[31mred\x1b[0m\tb\rc\x07", 80), "ared bc");
  EXPECT_EQ(ToDisplay("\xff ok", 80), "? ok");
  EXPECT_EQ(ToDisplay("日本語", 5), "日本");
  EXPECT_EQ(DisplayWidth("日本"), 4);
  EXPECT_EQ(ToDisplay("\x1b]0;title\x07x", 80), "x");
}

TEST(ErrorTextTest, ExcerptMarksTheLine) {
  absl::Status status = absl::UnknownError("exit code: 1");
  AddDetail(kSourceDetail,
            R"({"info":{"filename":"Dockerfile","data":"RlJPTSBhClJVTiBiClJVTiBjClJVTiBkCg=="},)"
            R"("ranges":[{"start":{"line":2},"end":{"line":2}}]})",
            &status);
  EXPECT_EQ(DescribeError(status),
            "Dockerfile:2\n"
            "--------------------\n"
            "   1 |     FROM a\n"
            "   2 | >>> RUN b\n"
            "   3 |     RUN c\n"
            "   4 |     RUN d\n"
            "   5 |     \n"
            "--------------------\n"
            "error: exit code: 1\n");
}

TEST(ErrorTextTest, BrokenDetailsAreLeftOut) {
  absl::Status status = absl::UnknownError("no");
  for (const char* detail : {"", "[]", "{\"info\":3}", R"({"info":{"data":"!"},"ranges":[{}]})",
                             R"({"info":{},"ranges":[{"start":{"line":99}}]})"}) {
    AddDetail(kSourceDetail, detail, &status);
  }
  EXPECT_EQ(DescribeError(status), "error: no\n");
}

}  // namespace
}  // namespace kiln::client
