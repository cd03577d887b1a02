#include "client/progress/raw_json_display.h"

#include "absl/strings/str_cat.h"
#include "proto/go_json.h"

namespace kiln::client {
namespace {

// RFC 3339 in UTC; the fraction without trailing zeros, as Go prints it.
std::string GoTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

void AddTime(const char* name, const std::optional<absl::Time>& time, GoJson* json) {
  if (time) json->Key(name).String(GoTime(*time));
}

void AddVertex(const VertexEvent& event, GoJson* json) {
  json->BeginObject();
  json->OptString("digest", event.digest);
  if (!event.inputs.empty()) {
    json->Key("inputs").BeginArray();
    for (const std::string& input : event.inputs) json->String(input);
    json->EndArray();
  }
  json->OptString("name", event.name);
  AddTime("started", event.started, json);
  AddTime("completed", event.completed, json);
  json->OptBool("cached", event.cached);
  json->OptString("error", event.error);
  if (event.group) {
    json->Key("progressGroup").BeginObject();
    json->OptString("id", event.group->id).OptString("name", event.group->name);
    json->OptBool("weak", event.group->weak).EndObject();
  }
  json->EndObject();
}

void AddStatus(const StatusEvent& event, GoJson* json) {
  json->BeginObject().Key("id").String(event.id);
  json->OptString("vertex", event.vertex).OptString("name", event.name);
  json->OptInt("total", event.total).Key("current").Int(event.current);
  AddTime("timestamp", event.timestamp, json);
  AddTime("started", event.started, json);
  AddTime("completed", event.completed, json);
  json->EndObject();
}

void AddLog(const LogEvent& event, GoJson* json) {
  json->BeginObject().OptString("vertex", event.vertex).OptInt("stream", event.stream);
  json->Key("data").Bytes(event.data);
  AddTime("timestamp", event.timestamp, json);
  json->EndObject();
}

void AddWarning(const WarningEvent& event, GoJson* json) {
  json->BeginObject().OptString("vertex", event.vertex).OptInt("level", event.level);
  json->Key("short").Bytes(event.short_text);
  if (!event.detail.empty()) {
    json->Key("detail").BeginArray();
    for (const std::string& line : event.detail) json->Bytes(line);
    json->EndArray();
  }
  json->OptString("url", event.url);
  if (!event.filename.empty()) {
    json->Key("sourceInfo").BeginObject().Key("filename").String(event.filename);
    json->Key("data").Bytes(event.source).EndObject();
  }
  if (!event.lines.empty()) {
    json->Key("range").BeginArray();
    for (const auto& [first, last] : event.lines) {
      json->BeginObject().Key("start").BeginObject().Key("line").Int(first).EndObject();
      json->Key("end").BeginObject().Key("line").Int(last).EndObject().EndObject();
    }
    json->EndArray();
  }
  json->EndObject();
}

template <typename Event, typename Add>
void AddList(const char* name, const std::vector<Event>& events, Add add, GoJson* json) {
  if (events.empty()) return;
  json->Key(name).BeginArray();
  for (const Event& event : events) add(event, json);
  json->EndArray();
}

}  // namespace

std::string ToRawJson(const ProgressUpdate& update) {
  GoJson json;
  json.BeginObject();
  AddList("vertexes", update.vertices, AddVertex, &json);
  AddList("statuses", update.statuses, AddStatus, &json);
  AddList("logs", update.logs, AddLog, &json);
  AddList("warnings", update.warnings, AddWarning, &json);
  return json.EndObject().Take();
}

void RawJsonDisplay::OnUpdate(const ProgressUpdate& update) {
  output_.write(absl::StrCat(ToRawJson(update), "\n"));
}

}  // namespace kiln::client
