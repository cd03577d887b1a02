#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/llb/state.h"
#include "client/solve/solve.h"

namespace kiln::client {

// What benchmarks over the wire share: daemons named on the command line, one whole client run,
// and rounds A B A B of scenarios printed as a table.

[[noreturn]] void Die(const absl::Status& status, absl::string_view doing);

// One build as a client of its own, of `options` completed by `state`; returns how long it took:
// connect, session, build, end of progress. Dies when it fails.
absl::Duration TimeBuild(const std::string& address, SolveOptions options, const llb::State& state);
// The same of options that say what to build.
absl::Duration TimeBuild(const std::string& address, const SolveOptions& options);

// Removes everything that the daemon at `address` keeps and no build uses.
void PruneAll(const std::string& address);

// What is measured: a scenario may prepare (unmeasured) before the build that counts.
struct Scenario {
  std::string name;
  std::function<absl::Duration(const std::string& address)> run;
};

struct Arguments {
  int rounds = 3;
  std::string only;                                          // scenarios whose name contains it
  std::vector<std::pair<std::string, std::string>> daemons;  // name, address
  std::vector<std::pair<std::string, std::string>> flags;    // the program's own: "--name VALUE"
};
// NAME=ADDRESS..., --rounds N, --only TEXT and the program's own `flags`. Exits with a usage line
// when they are wrong.
Arguments ParseArguments(int argc, char** argv, const std::vector<std::string>& flags);

// Runs the scenarios in turn on each daemon and prints medians and the first one's ratio to the
// others.
void RunAndPrint(const Arguments& arguments, const std::vector<Scenario>& scenarios);

}  // namespace kiln::client
