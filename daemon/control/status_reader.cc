#include "daemon/control/status_reader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "daemon/control/wire_time.h"
#include "proto/buildkit/control.pb.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

constexpr size_t kEventsPerRead = 512;
constexpr size_t kLogBytesPerMessage = 1 << 20;

void Fill(const solver::VertexUpdate& vertex, pbc::Vertex* out) {
  out->set_digest(vertex.digest.ToString());
  for (const Digest& input : vertex.inputs) out->add_inputs(input.ToString());
  out->set_name(vertex.name);
  out->set_cached(vertex.cached);
  if (vertex.started != absl::InfinitePast()) SetTimestamp(vertex.started, out->mutable_started());
  if (vertex.completed != absl::InfinitePast())
    SetTimestamp(vertex.completed, out->mutable_completed());
  out->set_error(vertex.error);
  if (!vertex.progress_group.empty())
    out->mutable_progressgroup()->ParseFromString(vertex.progress_group);
}

void Fill(const solver::VertexStatusUpdate& update, pbc::VertexStatus* out) {
  const solver::StatusUpdate& status = update.status;
  out->set_vertex(update.vertex.ToString());
  out->set_id(status.id);
  out->set_name(status.name);
  out->set_current(status.current);
  out->set_total(status.total);
  SetTimestamp(status.timestamp, out->mutable_timestamp());
  if (status.started != absl::InfinitePast()) SetTimestamp(status.started, out->mutable_started());
  if (status.completed != absl::InfinitePast())
    SetTimestamp(status.completed, out->mutable_completed());
}

void Fill(const solver::VertexLogUpdate& update, pbc::VertexLog* out) {
  out->set_vertex(update.vertex.ToString());
  SetTimestamp(update.log.timestamp, out->mutable_timestamp());
  out->set_stream(update.log.stream);
  out->set_msg(update.log.data);
}

void Fill(const solver::VertexWarningUpdate& update, pbc::VertexWarning* out) {
  const solver::Warning& warning = update.warning;
  out->set_vertex(update.vertex.ToString());
  out->set_level(warning.level);
  out->set_short_(warning.short_text);
  for (const std::string& detail : warning.detail) out->add_detail(detail);
  out->set_url(warning.url);
  if (!warning.source_info.empty()) out->mutable_info()->ParseFromString(warning.source_info);
  for (const std::string& range : warning.ranges) {
    pb::Range* added = out->add_ranges();
    added->ParseFromString(range);
    added->mutable_start();  // clients read both ends unchecked
    added->mutable_end();
  }
}

bool Earlier(const google::protobuf::Timestamp& a, const google::protobuf::Timestamp& b) {
  return std::pair(a.seconds(), a.nanos()) < std::pair(b.seconds(), b.nanos());
}

// Clients take the parts of a message in the order vertexes, statuses, warnings, logs, and expect
// each sorted by time; an absent time sorts first.
void Sort(pbc::StatusResponse* response) {
  auto& vertexes = *response->mutable_vertexes();
  std::stable_sort(
      vertexes.pointer_begin(), vertexes.pointer_end(),
      [](const auto* a, const auto* b) { return Earlier(a->started(), b->started()); });
  auto& statuses = *response->mutable_statuses();
  std::stable_sort(
      statuses.pointer_begin(), statuses.pointer_end(),
      [](const auto* a, const auto* b) { return Earlier(a->timestamp(), b->timestamp()); });
  auto& logs = *response->mutable_logs();
  std::stable_sort(logs.pointer_begin(), logs.pointer_end(), [](const auto* a, const auto* b) {
    return Earlier(a->timestamp(), b->timestamp());
  });
}

// Adds one event to a message. A vertex is told whole each time: what is told of one run of it
// takes the place of what the message says already, which a client could not show anyway.
struct Adder {
  pbc::StatusResponse* out;
  size_t* log_bytes;
  // The last in the message; whether it has begun there, and when.
  absl::flat_hash_map<Digest, std::pair<pbc::Vertex*, absl::Time>>* vertexes;

  void operator()(const solver::VertexUpdate& update) const {
    auto& [told, started] = (*vertexes)[update.digest];
    if (told == nullptr || (started != absl::InfinitePast() && started != update.started)) {
      told = out->add_vertexes();
    } else {
      told->Clear();
    }
    started = update.started;
    Fill(update, told);
  }
  void operator()(const solver::VertexStatusUpdate& update) const {
    Fill(update, out->add_statuses());
  }
  void operator()(const solver::VertexLogUpdate& update) const {
    *log_bytes += update.log.data.size();
    Fill(update, out->add_logs());
  }
  void operator()(const solver::VertexWarningUpdate& update) const {
    Fill(update, out->add_warnings());
  }
};

}  // namespace

bool StatusReader::Next(pbc::StatusResponse* out, bool* ended) {
  out->Clear();
  *ended = false;
  size_t log_bytes = 0;
  absl::flat_hash_map<Digest, std::pair<pbc::Vertex*, absl::Time>> vertexes;
  while (log_bytes < kLogBytesPerMessage) {
    const auto events = build_->job->progress().Read(offset_, kEventsPerRead, ended);
    for (const auto& event : events) {
      std::visit(Adder{out, &log_bytes, &vertexes}, *event);
      ++offset_;
      if (log_bytes >= kLogBytesPerMessage) break;
    }
    if (events.size() < kEventsPerRead) break;
    *ended = false;
  }
  // After the events: a warning for a vertex that the client has not seen is dropped there.
  for (const auto& warning : build_->warnings->Read(warning_offset_)) {
    Fill(warning, out->add_warnings());
    ++warning_offset_;
  }
  if (out->ByteSizeLong() == 0) return false;
  Sort(out);
  return true;
}

}  // namespace kiln::daemon
