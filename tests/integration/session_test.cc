// What a build asks of its client: directories, and what becomes of it when the client goes
// (llb.md 6.5).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/llb/file_action.h"
#include "store/base/deadline.h"
#include "store/base/process.h"
#include "tests/integration/build_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
namespace llb = client::llb;

class SessionTest : public BuildTest {
 protected:
  // Sends `dir` as "src" and brings all of it back to `out`. All ask with one definition, which
  // names no session: whose files are meant is a matter of who asks.
  absl::Status Echo(const TempDir& dir, SeenProgress* seen, const std::string& out) {
    return Build(daemon_->address(), base_, llb::Local("src", {.shared_key_hint = "src"}), seen,
                 out, {}, {{"src", dir.path()}});
  }

  // Bytes that a build received for "src".
  static int64_t Received(const SeenProgress& seen) {
    int64_t bytes = 0;
    for (const auto& [name, step] : seen.steps()) {
      for (const auto& [text, count] : step.transferred)
        if (absl::StrContains(text, "src")) bytes += count;
    }
    return bytes;
  }
};

TEST_F(SessionTest, Llb6_76_OnlyTheChangedFileIsSent) {
  TempDir source;
  for (int i = 0; i < 20; ++i)
    source.Write(absl::StrCat("file", i), std::string(50'000, static_cast<char>('a' + i)));
  SeenProgress first, second;
  TempDir out_first, out;
  ASSERT_TRUE(Echo(source, &first, out_first.path()).ok());
  EXPECT_GE(Received(first), 20 * 50'000);
  source.Write("file7", "changed");
  fs::remove(source.path() + "/file8");
  ASSERT_TRUE(Echo(source, &second, out.path()).ok());
  EXPECT_LT(Received(second), 50'000) << "only file7 travels, and the listing";
  EXPECT_EQ(Slurp(out.path() + "/file7"), "changed");
  EXPECT_FALSE(fs::exists(out.path() + "/file8"));
  EXPECT_EQ(Slurp(out.path() + "/file9"), std::string(50'000, 'j'));
}

TEST_F(SessionTest, Llb6_75_ParallelBuildsOfOneNameDoNotMix) {
  constexpr int kBuilds = 4;
  std::vector<TempDir> sources(kBuilds), outs(kBuilds);
  std::vector<absl::Status> status(kBuilds);
  std::vector<std::thread> clients;
  for (int i = 0; i < kBuilds; ++i) {
    for (int file = 0; file < 200; ++file)
      sources[i].Write(absl::StrCat("d/f", file), absl::StrCat("of build ", i));
    sources[i].Write(absl::StrCat("only", i), "");
    sources[i].Write("same", std::string(1'000'000, 's'));
    fs::last_write_time(sources[i].path() + "/same", fs::file_time_type(std::chrono::hours(1)));
    clients.emplace_back([&, i] {
      SeenProgress seen;
      status[i] = Echo(sources[i], &seen, outs[i].path());
    });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < kBuilds; ++i) {
    ASSERT_TRUE(status[i].ok()) << status[i];
    for (int file = 0; file < 200; ++file)
      ASSERT_EQ(Slurp(absl::StrCat(outs[i].path(), "/d/f", file)), absl::StrCat("of build ", i));
    for (int other = 0; other < kBuilds; ++other)
      EXPECT_EQ(fs::exists(absl::StrCat(outs[i].path(), "/only", other)), other == i);
  }
  // One of the copies, of whichever build, is taken up again.
  SeenProgress seen;
  TempDir out;
  ASSERT_TRUE(Echo(sources[0], &seen, out.path()).ok());
  EXPECT_LT(Received(seen), 1'000'000);
  EXPECT_EQ(Slurp(out.path() + "/d/f1"), "of build 0");
}

TEST_F(SessionTest, Llb6_77_LinksOfTheClientStayInTheTree) {
  TempDir source, victim;
  victim.Write("secret", "of the host");
  source.Write("dir/file", "first");
  fs::create_symlink(victim.path() + "/secret", source.path() + "/to-file");
  fs::create_symlink(victim.path(), source.path() + "/to-dir");
  const llb::State tree = llb::Local("src", {.shared_key_hint = "links"});
  for (const std::string path : {"/to-file", "/to-dir/secret"}) {
    SeenProgress seen;
    const absl::Status status =
        Build(daemon_->address(), base_,
              llb::State().File(llb::Copy(tree, path, "/x", {.follow_symlinks = true})), &seen, "",
              {}, {{"src", source.path()}});
    EXPECT_NE(status.message().find("not found"), absl::string_view::npos)
        << path << ": " << status;
  }
  // A directory that became a link: what is written below it must not reach its target.
  fs::remove_all(source.path() + "/dir");
  fs::create_symlink(victim.path(), source.path() + "/dir");
  SeenProgress seen;
  const absl::Status status =
      Build(daemon_->address(), base_,
            llb::State(tree).File(llb::Mkfile("/dir/written", 0644, "by the build")), &seen, "", {},
            {{"src", source.path()}});
  EXPECT_FALSE(fs::exists(victim.path() + "/written")) << status;
  EXPECT_EQ(Slurp(victim.path() + "/secret"), "of the host");
}

TEST_F(SessionTest, Llb6_74_KilledClientLeavesNothingRunning) {
  SeenProgress warm_up;
  ASSERT_TRUE(Run(base_.state().Run(Step("warm up", "true")).Root(), &warm_up).ok());
  const Holdings idle = daemon_->Count();
  absl::StatusOr<llb::Definition> definition =
      base_.state().Run(Step("endless", "sleep 600 & sleep 600")).Root().Marshal();
  ASSERT_TRUE(definition.ok());
  TempDir dir;
  dir.Write("graph", definition->Serialize());
  ProcessOptions options;
  options.args = {KILN_BINARY,
                  "--addr",
                  daemon_->address(),
                  "build",
                  dir.path() + "/graph",
                  "--local",
                  "base=" + base_.path(),
                  "--progress",
                  "quiet"};
  absl::StatusOr<Process> client = Process::Start(options);
  ASSERT_TRUE(client.ok()) << client.status();
  const Deadline end(absl::Minutes(1));
  while (daemon_->Count().cgroups.size() <= idle.cgroups.size() && !end.Passed())
    absl::SleepFor(absl::Milliseconds(20));
  ASSERT_GT(daemon_->Count().cgroups.size(), idle.cgroups.size()) << "the step never started";
  ASSERT_EQ(::kill(client->pid(), SIGKILL), 0);
  EXPECT_TRUE(daemon_->SettlesTo(idle))
      << "before: " << idle.ToString() << "\nafter: " << daemon_->Count().ToString();
  EXPECT_TRUE(client->Wait({}).ok());
}

}  // namespace
}  // namespace kiln::integration
