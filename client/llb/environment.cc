#include "client/llb/environment.h"

#include <algorithm>

#include "client/llb/wire_writer.h"

namespace kiln::client::llb {
namespace {

constexpr int kEnvField = 2;  // of pb.Meta

Environment::Variables::const_iterator Find(const Environment::Variables& variables,
                                            absl::string_view key) {
  return std::find_if(variables.begin(), variables.end(),
                      [key](const auto& variable) { return variable.first == key; });
}

}  // namespace

void Environment::Set(absl::string_view key, absl::string_view value) {
  std::pair<std::string, std::string> set(key, value);  // first: they may be of this list
  if (shared_ == nullptr || shared_.use_count() > 1) {
    shared_ = std::make_shared<Shared>(Shared{variables(), ""});
  }
  Variables& list = shared_->variables;
  shared_->wire.clear();
  if (const auto known = Find(list, set.first); known != list.end()) list.erase(known);
  list.push_back(std::move(set));
}

bool Environment::Has(absl::string_view key) const {
  return Find(variables(), key) != variables().end();
}

const Environment::Variables& Environment::variables() const {
  static const Variables& none = *new Variables();
  return shared_ == nullptr ? none : shared_->variables;
}

absl::string_view Environment::wire() const {
  if (shared_ == nullptr) return "";
  if (shared_->wire.empty()) {
    WireWriter out;
    for (const auto& [key, value] : shared_->variables) out.Item(kEnvField, {key, "=", value});
    shared_->wire = out.Take();
  }
  return shared_->wire;
}

}  // namespace kiln::client::llb
