#include "client/progress/shared_progress.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kiln::client {

std::string PrefixName(const std::string& prefix, const std::string& name) {
  if (prefix.empty()) return name;
  if (absl::StartsWith(name, "[")) return absl::StrCat("[", prefix, " ", name.substr(1));
  return absl::StrCat("[", prefix, "] ", name);
}

class SharedProgress::Build : public ProgressSink {
 public:
  Build(SharedProgress* shared, std::string prefix) : shared_(shared), prefix_(std::move(prefix)) {}

  ~Build() override {
    MutexLock lock(&shared_->mu_);
    for (const std::string& digest : open_) shared_->tellers_.erase(digest);
  }

  void OnUpdate(const ProgressUpdate& update) override {
    MutexLock lock(&shared_->mu_);
    ProgressUpdate own;
    for (const VertexEvent& vertex : update.vertices) {
      if (shared_->tellers_.emplace(vertex.digest, this).first->second != this) continue;
      own.vertices.push_back(vertex);
      own.vertices.back().name = PrefixName(prefix_, vertex.name);
      if (auto& group = own.vertices.back().group) group->name = PrefixName(prefix_, group->name);
      if (vertex.completed) {
        open_.erase(vertex.digest);
      } else {
        open_.insert(vertex.digest);
      }
    }
    for (const StatusEvent& status : update.statuses)
      if (Tells(status.vertex)) own.statuses.push_back(status);
    for (const LogEvent& log : update.logs)
      if (Tells(log.vertex)) own.logs.push_back(log);
    for (const WarningEvent& warning : update.warnings)
      if (Tells(warning.vertex)) own.warnings.push_back(warning);
    shared_->sink_->OnUpdate(own);
  }

 private:
  bool Tells(const std::string& digest) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mu_) {
    const auto teller = shared_->tellers_.find(digest);
    return teller == shared_->tellers_.end() || teller->second == this;
  }

  SharedProgress* const shared_;
  const std::string prefix_;
  std::set<std::string> open_;  // steps that this build tells about and that have not ended
};

std::unique_ptr<ProgressSink> SharedProgress::Add(const std::string& prefix) {
  return std::make_unique<Build>(this, prefix);
}

}  // namespace kiln::client
