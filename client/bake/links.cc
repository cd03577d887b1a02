#include "client/bake/links.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

constexpr char kImageConfig[] = "containerimage.config";

// What a frontend is told about an input: {"containerimage.config": base64}.
std::string InputMetadata(const std::string& config) {
  GoJson json;
  json.BeginObject().Key(kImageConfig).Bytes(config).EndObject();
  return json.Take();
}

// One result as the input `name`, for the named context `context`.
void AddInput(const std::string& context, const std::string& name, const std::string& definition,
              const std::map<std::string, std::string>& metadata, const std::string& config_key,
              FrontendCall* call) {
  call->attrs[context] = absl::StrCat("input:", name);
  call->inputs[name] = definition;
  const auto config = metadata.find(config_key);
  if (config != metadata.end())
    call->attrs[absl::StrCat("input-metadata:", name)] = InputMetadata(config->second);
}

}  // namespace

template <typename Condition>
absl::Status Links::Wait(const CancelToken& cancel, Condition condition) {
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  MutexLock lock(&mu_);
  while (!condition()) {
    KILN_RETURN_IF_ERROR(cancel.status());
    changed_.Wait(&mu_);
  }
  return absl::OkStatus();
}

absl::Status Links::Resolve(const std::string& target, const CancelToken& cancel,
                            FrontendCall* call) {
  const auto links = contexts_.find(target);
  if (links == contexts_.end()) return absl::OkStatus();
  for (const auto& [context, other] : links->second) {
    FrontendResult result;
    KILN_RETURN_IF_ERROR(Wait(cancel, [&, &other = other]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      const auto found = results_.find(other);
      if (found != results_.end()) result = found->second;
      return found != results_.end() || ended_.count(other) != 0;
    }));
    if (result.definitions.empty())
      return absl::FailedPreconditionError(
          absl::StrCat("target ", other, ", which ", target, " builds on, has no result"));
    const std::string attr = absl::StrCat("context:", context);
    for (const auto& [platform, definition] : result.definitions) {
      const std::string suffix = platform.empty() ? "" : absl::StrCat("::", platform);
      const std::string config =
          platform.empty() ? kImageConfig : absl::StrCat(kImageConfig, "/", platform);
      AddInput(absl::StrCat(attr, suffix), absl::StrCat(other, suffix), definition, result.metadata,
               config, call);
    }
  }
  return absl::OkStatus();
}

absl::Status Links::Publish(const std::string& target, const FrontendResult& result,
                            const CancelToken& cancel) {
  std::set<std::string> users;
  for (const auto& [user, contexts] : contexts_)
    for (const auto& [context, other] : contexts)
      if (other == target) users.insert(user);
  {
    MutexLock lock(&mu_);
    results_[target] = result;
    changed_.SignalAll();
  }
  return Wait(cancel, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (const std::string& user : users)
      if (results_.count(user) == 0 && ended_.count(user) == 0) return false;
    return true;
  });
}

void Links::End(const std::string& target) {
  MutexLock lock(&mu_);
  ended_.insert(target);
  changed_.SignalAll();
}

}  // namespace kiln::client::bake
