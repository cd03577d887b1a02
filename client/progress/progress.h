#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace kiln::client {

// What a Status stream says, as value types (BuildKit control.proto, StatusResponse).

struct ProgressGroupInfo {
  std::string id;
  std::string name;
  bool weak = false;
};

struct VertexEvent {
  std::string digest;
  std::vector<std::string> inputs;
  std::string name;
  bool cached = false;
  std::optional<absl::Time> started;    // absent: not yet
  std::optional<absl::Time> completed;  // absent: not yet
  std::string error;
  std::optional<ProgressGroupInfo> group;
};

// Part of a vertex' work: a transfer, a layer.
struct StatusEvent {
  std::string id;  // the text to show
  std::string vertex;
  std::string name;
  int64_t current = 0;
  int64_t total = 0;
  absl::Time timestamp;
  std::optional<absl::Time> started;
  std::optional<absl::Time> completed;
};

struct LogEvent {
  std::string vertex;
  int stream = 0;  // 1 stdout, 2 stderr
  std::string data;
  absl::Time timestamp;
};

struct WarningEvent {
  std::string vertex;
  int level = 0;
  std::string short_text;
  std::vector<std::string> detail;
  std::string url;
  std::string filename;                    // of the source it is about; "" if none
  std::string source;                      // that file's text
  std::vector<std::pair<int, int>> lines;  // first and last, from 1
};

// One message of the stream. A receiver handles vertices before statuses, warnings and logs.
struct ProgressUpdate {
  std::vector<VertexEvent> vertices;
  std::vector<StatusEvent> statuses;
  std::vector<LogEvent> logs;
  std::vector<WarningEvent> warnings;
};

// Takes a build's progress. Called by one thread at a time.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void OnUpdate(const ProgressUpdate& update) = 0;
};

}  // namespace kiln::client
