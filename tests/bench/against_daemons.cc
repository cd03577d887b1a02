#include "tests/bench/against_daemons.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/connection.h"
#include "client/grpc_status.h"
#include "proto/buildkit/control.grpc.pb.h"

namespace kiln::client {
namespace {

std::unique_ptr<Connection> Connect(const std::string& address) {
  ConnectOptions options;
  options.address = address;
  auto connection = Connection::Open(options);
  if (!connection.ok()) Die(connection.status(), address);
  return *std::move(connection);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

void Die(const absl::Status& status, absl::string_view doing) {
  std::fprintf(stderr, "%s: %s\n", std::string(doing).c_str(),
               std::string(status.message()).c_str());
  std::exit(1);
}

absl::Duration TimeBuild(const std::string& address, SolveOptions options,
                         const llb::State& state) {
  const auto definition = state.Marshal();
  if (!definition.ok()) Die(definition.status(), "graph");
  options.definition = definition->Serialize();
  return TimeBuild(address, options);
}

absl::Duration TimeBuild(const std::string& address, const SolveOptions& options) {
  const absl::Time begin = absl::Now();
  const auto connection = Connect(address);
  const auto result = Solve(*connection, options, nullptr);
  if (!result.ok()) Die(result.status(), address);
  return absl::Now() - begin;
}

void PruneAll(const std::string& address) {
  const auto connection = Connect(address);
  const auto stub = moby::buildkit::v1::Control::NewStub(connection->channel());
  moby::buildkit::v1::PruneRequest request;
  request.set_all(true);
  grpc::ClientContext context;
  const auto stream = stub->Prune(&context, request);
  moby::buildkit::v1::UsageRecord record;
  while (stream->Read(&record)) {
  }
  const absl::Status status = FromGrpc(stream->Finish());
  if (!status.ok()) Die(status, address);
}

Arguments ParseArguments(int argc, char** argv, const std::vector<std::string>& flags) {
  Arguments arguments;
  bool wrong = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (argument == "--rounds" && i + 1 < argc &&
        absl::SimpleAtoi(argv[i + 1], &arguments.rounds)) {
      ++i;
    } else if (argument == "--only" && i + 1 < argc) {
      arguments.only = argv[++i];
    } else if (i + 1 < argc && std::find(flags.begin(), flags.end(), argument) != flags.end()) {
      arguments.flags.emplace_back(argument, argv[i + 1]);
      ++i;
    } else if (!absl::StartsWith(argument, "-") && equals != std::string::npos && equals > 0) {
      arguments.daemons.emplace_back(argument.substr(0, equals), argument.substr(equals + 1));
    } else {
      wrong = true;
    }
  }
  if (wrong || arguments.daemons.empty() || arguments.rounds < 1) {
    std::fprintf(stderr, "usage: %s [--rounds N] [--only TEXT]", argv[0]);
    for (const std::string& flag : flags) std::fprintf(stderr, " [%s VALUE]", flag.c_str());
    std::fputs(" NAME=ADDRESS...\n", stderr);
    std::exit(2);
  }
  return arguments;
}

void RunAndPrint(const Arguments& arguments, const std::vector<Scenario>& scenarios) {
  const auto& daemons = arguments.daemons;
  std::printf("%-40s", "seconds, median");
  for (const auto& [name, address] : daemons) std::printf(" %12s", name.c_str());
  for (size_t i = 1; i < daemons.size(); ++i)
    std::printf("   %s/%s", daemons[0].first.c_str(), daemons[i].first.c_str());
  std::printf("\n");
  for (const Scenario& scenario : scenarios) {
    if (!absl::StrContains(scenario.name, arguments.only)) continue;
    std::vector<std::vector<double>> times(daemons.size());
    for (int round = 0; round < arguments.rounds; ++round) {
      for (size_t i = 0; i < daemons.size(); ++i)
        times[i].push_back(absl::ToDoubleSeconds(scenario.run(daemons[i].second)));
    }
    std::printf("%-40s", scenario.name.c_str());
    for (const auto& each : times) std::printf(" %12.3f", Median(each));
    for (size_t i = 1; i < daemons.size(); ++i)
      std::printf("   %12.2f", Median(times[0]) / Median(times[i]));
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace kiln::client
