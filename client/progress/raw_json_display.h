#pragma once

#include <string>
#include <utility>

#include "client/progress/display.h"

namespace kiln::client {

// One JSON object per message and line, with the names and forms of BuildKit's rawjson.
class RawJsonDisplay : public Display {
 public:
  explicit RawJsonDisplay(DisplayOutput output) : output_(std::move(output)) {}
  void OnUpdate(const ProgressUpdate& update) override;
  void Finish(const absl::Status&) override {}

 private:
  const DisplayOutput output_;
};

// The line without its end.
std::string ToRawJson(const ProgressUpdate& update);

}  // namespace kiln::client
