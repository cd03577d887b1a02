#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "store/base/process.h"

namespace kiln::daemon {

// What `git ARGS` prints in `dir`, without the white space around it: with nobody's configuration,
// and the same identities and times in every commit. A failure fails the test.
inline std::string RunGit(const std::string& dir, const std::vector<std::string>& args) {
  ProcessOptions options;
  options.args = {"git", "-c", "protocol.file.allow=always"};
  options.args.insert(options.args.end(), args.begin(), args.end());
  options.cwd = dir;
  options.env = {absl::StrCat("PATH=", std::getenv("PATH")),
                 "HOME=/dev/null",
                 "GIT_CONFIG_NOSYSTEM=1",
                 "GIT_AUTHOR_NAME=a",
                 "GIT_AUTHOR_EMAIL=a@b",
                 "GIT_COMMITTER_NAME=c",
                 "GIT_COMMITTER_EMAIL=c@d",
                 "GIT_AUTHOR_DATE=1500000000 +0000",
                 "GIT_COMMITTER_DATE=1600000000 +0000"};
  const auto out = RunCommandForOutput(options, {});
  EXPECT_TRUE(out.ok()) << out.status();
  return std::string(absl::StripAsciiWhitespace(out.value_or("")));
}

}  // namespace kiln::daemon
