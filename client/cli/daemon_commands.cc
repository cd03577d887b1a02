// Commands that are one call to the daemon: du, prune, workers, info, stats.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <iostream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/call_context.h"
#include "client/cli/command.h"
#include "client/grpc_status.h"
#include "client/progress/text.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/kiln/stats.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

using moby::buildkit::v1::Control;
using moby::buildkit::v1::UsageRecord;

std::string ToText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S %z", absl::FromUnixSeconds(time.seconds()),
                          absl::LocalTimeZone());
}

const char* YesNo(bool value) { return value ? "true" : "false"; }

void AddFilters(CLI::App* app, absl::string_view example, std::vector<std::string>* filters) {
  app->add_option("-f,--filter", *filters, absl::StrCat(example, "; repeatable, any may match"))
      ->expected(1)
      ->take_all();
}

// Connects and makes one call, such as &Control::Stub::DiskUsage, about what passes `filters`.
template <typename Request, typename Response>
absl::StatusOr<Response> Ask(const Globals& globals,
                             grpc::Status (Control::Stub::*call)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                             const std::vector<std::string>& filters) {
  KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
  const auto stub = Control::NewStub(connection->channel());
  CallContext context(globals);
  Request request;
  for (const std::string& filter : filters) request.add_filter(filter);
  Response response;
  KILN_RETURN_IF_ERROR(FromGrpc((stub.get()->*call)(context.get(), request, &response)));
  return response;
}

void PrintRecord(const UsageRecord& record) {
  std::cout << "ID:\t\t" << record.id() << "\n";
  for (const std::string& parent : record.parents()) std::cout << "Parent:\t\t" << parent << "\n";
  std::cout << "Created at:\t" << ToText(record.createdat()) << "\n"
            << "Mutable:\t" << YesNo(record.mutable_()) << "\n"
            << "Reclaimable:\t" << YesNo(!record.inuse()) << "\n"
            << "Shared:\t\t" << YesNo(record.shared()) << "\n"
            << "Size:\t\t" << FormatBytes(record.size()) << "\n";
  if (!record.description().empty()) {
    std::cout << "Description:\t" << record.description() << "\n";
  }
  std::cout << "Usage count:\t" << record.usagecount() << "\n";
  if (record.has_lastusedat()) std::cout << "Last used:\t" << ToText(record.lastusedat()) << "\n";
  std::cout << "Type:\t\t" << record.recordtype() << "\n\n";
}

void PrintTableHeader() {
  std::cout << absl::StreamFormat("%-34s %-12s %-10s %s\n", "ID", "RECLAIMABLE", "SIZE",
                                  "LAST ACCESSED");
}

void PrintTableRow(const UsageRecord& record) {
  const std::string id = absl::StrCat(record.id(), record.mutable_() ? "*" : "");
  std::cout << absl::StreamFormat("%-34s %-12s %-10s %s\n", id, YesNo(!record.inuse()),
                                  FormatBytes(record.size()),
                                  record.has_lastusedat() ? ToText(record.lastusedat()) : "");
}

class DiskUsageCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("du", "show what the cache holds");
    sub->add_flag("-v,--verbose", verbose_, "all about each record");
    AddFilters(sub, "such as type==regular", &filters_);
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto response, Ask(globals, &Control::Stub::DiskUsage, filters_));
    int64_t total = 0, reclaimable = 0, shared = 0;
    if (!verbose_) PrintTableHeader();
    for (const UsageRecord& record : response.record()) {
      verbose_ ? PrintRecord(record) : PrintTableRow(record);
      total += record.size();
      if (!record.inuse()) reclaimable += record.size();
      if (record.shared()) shared += record.size();
    }
    if (shared > 0) {
      std::cout << "Shared:\t\t" << FormatBytes(shared) << "\n"
                << "Private:\t" << FormatBytes(total - shared) << "\n";
    }
    std::cout << "Reclaimable:\t" << FormatBytes(reclaimable) << "\n"
              << "Total:\t\t" << FormatBytes(total) << "\n";
    return absl::OkStatus();
  }

 private:
  bool verbose_ = false;
  std::vector<std::string> filters_;
};

class PruneCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("prune", "remove what no build needs from the cache");
    sub->add_flag("-a,--all", all_, "internal and frontend records too");
    sub->add_flag("-v,--verbose", verbose_, "all about each removed record");
    AddFilters(sub, "such as type==regular", &filters_);
    sub->add_option("--keep-duration", keep_duration_, "keep what was used since, such as 24h");
    sub->add_option("--reserved-space,--keep-storage", reserved_, "bytes that are always kept")
        ->transform(CLI::AsSizeValue(true));
    sub->add_option("--max-used-space", max_used_, "bytes to keep at most")
        ->transform(CLI::AsSizeValue(true));
    sub->add_option("--min-free-space", min_free_, "bytes to leave free on the disk")
        ->transform(CLI::AsSizeValue(true));
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    moby::buildkit::v1::PruneRequest request;
    for (const std::string& filter : filters_) request.add_filter(filter);
    request.set_all(all_);
    absl::Duration keep;
    if (!keep_duration_.empty() && !absl::ParseDuration(keep_duration_, &keep)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--keep-duration ", keep_duration_, " is no duration such as 24h"));
    }
    request.set_keepduration(absl::ToInt64Nanoseconds(keep));
    request.set_reservedspace(static_cast<int64_t>(reserved_));
    request.set_maxusedspace(static_cast<int64_t>(max_used_));
    request.set_minfreespace(static_cast<int64_t>(min_free_));
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    const auto stub = Control::NewStub(connection->channel());
    CallContext context(globals);
    const auto stream = stub->Prune(context.get(), request);
    UsageRecord record;
    int64_t total = 0;
    bool any = false;
    while (stream->Read(&record)) {
      if (!verbose_ && !any) PrintTableHeader();
      any = true;
      verbose_ ? PrintRecord(record) : PrintTableRow(record);
      total += record.size();
    }
    KILN_RETURN_IF_ERROR(FromGrpc(stream->Finish()));
    std::cout << "Total:\t" << FormatBytes(total) << "\n";
    return absl::OkStatus();
  }

 private:
  bool all_ = false, verbose_ = false;
  std::vector<std::string> filters_;
  std::string keep_duration_;
  uint64_t reserved_ = 0, max_used_ = 0, min_free_ = 0;
};

std::string PlatformText(const pb::Platform& platform) {
  return absl::StrCat(platform.os(), "/", platform.architecture(),
                      platform.variant().empty() ? "" : "/", platform.variant());
}

class WorkersCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("workers", "list what the daemon builds with");
    sub->add_flag("-v,--verbose", verbose_, "with labels and cache policies");
    AddFilters(sub, "such as labels.…==…", &filters_);
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto response, Ask(globals, &Control::Stub::ListWorkers, filters_));
    if (!verbose_) std::cout << absl::StreamFormat("%-28s %s\n", "ID", "PLATFORMS");
    for (const auto& worker : response.record()) {
      const std::string platforms = absl::StrJoin(
          worker.platforms(), ",", [](std::string* out, const pb::Platform& platform) {
            absl::StrAppend(out, PlatformText(platform));
          });
      if (!verbose_) {
        std::cout << absl::StreamFormat("%-28s %s\n", worker.id(), platforms);
        continue;
      }
      std::cout << "ID:\t\t" << worker.id() << "\nPlatforms:\t" << platforms << "\n";
      if (worker.has_buildkitversion()) {
        std::cout << "BuildKit:\t" << worker.buildkitversion().package() << " "
                  << worker.buildkitversion().version() << "\n";
      }
      const std::map<std::string, std::string> labels(worker.labels().begin(),
                                                      worker.labels().end());
      for (const auto& [key, value] : labels)
        std::cout << "Label:\t\t" << key << "=" << value << "\n";
      for (const auto& policy : worker.gcpolicy()) {
        std::cout << "GC policy:\tall=" << YesNo(policy.all())
                  << " filters=" << absl::StrJoin(policy.filters(), ",")
                  << " keep=" << absl::FormatDuration(absl::Nanoseconds(policy.keepduration()))
                  << " reserved=" << FormatBytes(policy.reservedspace())
                  << " max=" << FormatBytes(policy.maxusedspace()) << "\n";
      }
      std::cout << "\n";
    }
    return absl::OkStatus();
  }

 private:
  bool verbose_ = false;
  std::vector<std::string> filters_;
};

class InfoCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    return app->add_subcommand("info", "show the daemon's version");
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    const auto stub = Control::NewStub(connection->channel());
    CallContext context(globals);
    moby::buildkit::v1::InfoResponse response;
    KILN_RETURN_IF_ERROR(FromGrpc(stub->Info(context.get(), {}, &response)));
    const auto& version = response.buildkitversion();
    std::cout << "Address:\t" << connection->address() << "\n"
              << "Package:\t" << version.package() << "\n"
              << "Version:\t" << version.version() << "\n"
              << "Revision:\t" << version.revision() << "\n";
    return absl::OkStatus();
  }
};

class StatsCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("stats", "show kilnd's counters");
    sub->add_flag("--json", json_, "as one JSON object");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    const auto stub = kiln::v1::Stats::NewStub(connection->channel());
    CallContext context(globals);
    kiln::v1::StatsResponse stats;
    const grpc::Status status = stub->Get(context.get(), {}, &stats);
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return absl::UnimplementedError(
          absl::StrCat("the daemon at ", connection->address(), " is no kilnd: it has no stats"));
    }
    KILN_RETURN_IF_ERROR(FromGrpc(status));
    const std::vector<std::pair<std::string, int64_t>> rows = {
        {"vertices_executed", stats.vertices_executed()},
        {"vertices_joined", stats.vertices_joined()},
        {"vertices_cached", stats.vertices_cached()},
        {"builds_active", stats.builds_active()},
        {"builds_total", stats.builds_total()},
        {"sessions", stats.sessions()},
        {"rss_bytes", stats.rss_bytes()},
        {"threads", stats.threads()},
        {"open_fds", stats.open_fds()},
        {"uptime_ms", stats.uptime_ms()}};
    if (json_) {
      std::cout << "{" << absl::StrJoin(rows, ",", [](std::string* out, const auto& row) {
        absl::StrAppend(out, "\"", row.first, "\":", row.second);
      }) << "}\n";
      return absl::OkStatus();
    }
    for (const auto& [name, value] : rows) {
      std::cout << absl::StreamFormat("%-20s %d\n", name, value);
    }
    return absl::OkStatus();
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeDiskUsageCommand() { return std::make_unique<DiskUsageCommand>(); }
std::unique_ptr<Command> MakePruneCommand() { return std::make_unique<PruneCommand>(); }
std::unique_ptr<Command> MakeWorkersCommand() { return std::make_unique<WorkersCommand>(); }
std::unique_ptr<Command> MakeInfoCommand() { return std::make_unique<InfoCommand>(); }
std::unique_ptr<Command> MakeStatsCommand() { return std::make_unique<StatsCommand>(); }

}  // namespace kiln::client
