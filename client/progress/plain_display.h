#pragma once

#include <memory>
#include <string>

#include "client/progress/display.h"
#include "client/progress/model.h"
#include "client/progress/ticker.h"
#include "store/base/mutex.h"

namespace kiln::client {

// Lines in the form of BuildKit's plain progress: "#N name", "#N 0.123 log line", "#N DONE 1.2s".
// One step at a time has the word; it is changed with "#N ..." when it falls silent while others
// have something to say.
class PlainDisplay : public Display {
 public:
  explicit PlainDisplay(DisplayOutput output);
  ~PlainDisplay() override;

  void OnUpdate(const ProgressUpdate& update) override;
  void Finish(const absl::Status& outcome) override;
  // Gives the word to another step if it is time to.
  void Tick();

 private:
  // What a step has not yet printed.
  struct Pending {
    absl::Time since = absl::InfiniteFuture();  // the oldest of it
    bool announced = false;                     // "#N name" was printed at least once
    bool closed = false;                        // DONE, CACHED, … was printed for this end
  };
  void Print(bool finishing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Step* Choose(bool finishing, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PrintStep(Step* step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasNews(const Step& step) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Pending& PendingOf(const Step* step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const DisplayOutput output_;
  Mutex mu_;
  ProgressModel model_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<const Step*, Pending> pending_ ABSL_GUARDED_BY(mu_);
  Step* current_ ABSL_GUARDED_BY(mu_) = nullptr;  // has the word; null: nobody
  absl::Time current_last_ ABSL_GUARDED_BY(mu_);  // when it last said something
  std::string out_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Ticker> ticker_;  // last: stops before the rest goes
};

}  // namespace kiln::client
