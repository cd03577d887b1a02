#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/progress/progress.h"

namespace kiln::client {

// Shows a build's progress while it runs.
class Display : public ProgressSink {
 public:
  // After the last OnUpdate: completes what is shown. `outcome` decides what is added about failed
  // steps; the error itself is the caller's to print.
  virtual void Finish(const absl::Status& outcome) = 0;
};

enum class ProgressMode { kAuto, kTty, kPlain, kRawJson, kQuiet };

// kInvalidArgument for any other word.
absl::StatusOr<ProgressMode> ParseProgressMode(absl::string_view text);

struct TerminalSize {
  int columns = 80;
  int rows = 24;
};

// Where a display writes. Called by one thread at a time.
struct DisplayOutput {
  std::function<void(absl::string_view)> write;
  std::function<TerminalSize()> size;  // asked anew for every frame
  std::function<absl::Time()> now;
  bool color = false;
  // Frames are drawn when the caller says Tick; otherwise a thread of the display's own does.
  bool own_thread = true;
};

// Output to a file descriptor, a terminal or not.
DisplayOutput OutputTo(int fd);

// kAuto must have been resolved: kTty when `fd` is a terminal, else kPlain.
ProgressMode ResolveMode(ProgressMode mode, int fd);
std::unique_ptr<Display> MakeDisplay(ProgressMode mode, DisplayOutput output);

}  // namespace kiln::client
