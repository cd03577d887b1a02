#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/progress/display.h"
#include "client/progress/model.h"
#include "client/progress/ticker.h"
#include "store/base/mutex.h"

namespace kiln::client {

// A frame at the bottom of a terminal, redrawn in place: totals, the running steps with their time
// and last output, the latest finished ones.
//
// Between frames the cursor rests on the first line of the frame. Terminals keep the cursor with
// its text when their size changes, whether they wrap lines anew or not, so the next frame always
// begins where the last one did, and erases all of it. No line is as wide as the terminal, no frame
// as high.
class TtyDisplay : public Display {
 public:
  explicit TtyDisplay(DisplayOutput output);
  ~TtyDisplay() override;

  void OnUpdate(const ProgressUpdate& update) override;
  void Finish(const absl::Status& outcome) override;
  // Draws a frame if anything changed or a running step's time did.
  void Tick();

 private:
  void Draw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<std::string> Frame(const TerminalSize& size, bool all)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string StepLine(const Step& step, int columns, absl::Time now) const;
  std::string Header(int columns, absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const DisplayOutput output_;
  const absl::Time begin_;
  Mutex mu_;
  ProgressModel model_ ABSL_GUARDED_BY(mu_);
  std::string last_frame_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<Ticker> ticker_;  // last: stops before the rest goes
};

}  // namespace kiln::client
