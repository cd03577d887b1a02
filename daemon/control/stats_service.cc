#include <grpcpp/server_context.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "daemon/control/control_service.h"
#include "daemon/rpc/unary.h"
#include "proto/kiln/stats.grpc.pb.h"

namespace kiln::daemon {

namespace {

using Context = grpc::CallbackServerContext;
namespace fs = std::filesystem;

// One number of /proc/self/status, 0 when it is not there.
int64_t ProcStatus(const std::string& field) {
  std::ifstream file("/proc/self/status");
  std::string name;
  while (file >> name) {
    if (name == field + ":") {
      int64_t value = 0;
      file >> value;
      return value;
    }
    file.ignore(4096, '\n');
  }
  return 0;
}

int64_t OpenFds() {
  std::error_code failed;
  int64_t count = 0;
  for (fs::directory_iterator it("/proc/self/fd", failed), end; !failed && it != end;
       it.increment(failed))
    ++count;
  return count - 1;  // the listing's own
}

class StatsService : public v1::Stats::CallbackService {
 public:
  explicit StatsService(StatsDeps deps) : deps_(deps) {}

 private:
  grpc::ServerUnaryReactor* Get(Context* context, const v1::StatsRequest*,
                                v1::StatsResponse* response) override {
    const solver::SolverStats stats = deps_.solver->stats();
    response->set_vertices_executed(static_cast<int64_t>(stats.executions));
    response->set_vertices_cached(static_cast<int64_t>(stats.cached));
    response->set_vertices_joined(static_cast<int64_t>(stats.vertices_joined + stats.followed));
    response->set_builds_active(static_cast<int64_t>(deps_.builds->Running().size()));
    response->set_builds_total(deps_.builds->total());
    response->set_sessions(static_cast<int64_t>(deps_.sessions->size()));
    response->set_rss_bytes(ProcStatus("VmRSS") * 1024);
    response->set_threads(ProcStatus("Threads"));
    response->set_open_fds(OpenFds());
    response->set_uptime_ms(absl::ToInt64Milliseconds(absl::Now() - deps_.started_at));
    return AnswerNow(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Build(Context* context, const v1::BuildStatsRequest* request,
                                  v1::BuildStatsResponse* response) override {
    const BuildPtr build = deps_.builds->Peek(request->ref());
    if (build == nullptr)
      return AnswerNow(context, absl::NotFoundError(absl::StrCat("no such job ", request->ref())));
    std::map<Digest, v1::VertexStats*> by_digest;
    bool ended = false;
    for (const auto& event : build->job->progress().Read(0, SIZE_MAX, &ended)) {
      const auto* vertex = std::get_if<solver::VertexUpdate>(event.get());
      if (vertex == nullptr) continue;
      v1::VertexStats*& stats = by_digest[vertex->digest];
      if (stats == nullptr) stats = response->add_vertices();
      stats->set_digest(vertex->digest.ToString());
      stats->set_name(vertex->name);
      stats->set_cached(vertex->cached);
      stats->set_error(vertex->error);
      if (vertex->completed != absl::InfinitePast() && vertex->started != absl::InfinitePast()) {
        stats->set_executed(!vertex->cached);
        stats->set_took_us(absl::ToInt64Microseconds(vertex->completed - vertex->started));
      }
    }
    return AnswerNow(context, absl::OkStatus());
  }

  const StatsDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeStatsService(StatsDeps deps) {
  return std::make_unique<StatsService>(deps);
}

}  // namespace kiln::daemon
