#include "daemon/policy/definition_edit.h"

#include <utility>

#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"

namespace kiln::daemon {

DefinitionEdit::DefinitionEdit(absl::string_view definition)
    : given_(definition), definition_(std::make_unique<pb::Definition>()) {
  if (given_.size() > INT32_MAX || !definition_->ParseFromString(given_)) {
    definition_->Clear();
    return;
  }
  for (const std::string& bytes : definition_->def()) {
    Entry& entry = entries_.emplace_back();
    entry.digest = Digest::Of(bytes).ToString();
    by_digest_.try_emplace(entry.digest, entries_.size() - 1);
    owned_.push_back(std::make_unique<pb::Op>());
    entry.op = owned_.back().get();
    if (!entry.op->ParseFromString(bytes)) continue;
    ops_.push_back(entry.op);
    positions_.push_back(entries_.size() - 1);
  }
}

DefinitionEdit::~DefinitionEdit() = default;

std::string DefinitionEdit::Finish() {
  bool any = false;
  for (const Entry& entry : entries_) any = any || entry.changed;
  if (!any) return given_;
  for (size_t i = 0; i < entries_.size(); ++i) Settle(i);
  for (size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].changed) *definition_->mutable_def(static_cast<int>(i)) = entries_[i].bytes;
  Move(definition_->mutable_metadata());
  // A definition without sources stays one: its bytes tell the difference.
  if (definition_->has_source()) Move(definition_->mutable_source()->mutable_locations());
  return CanonicalBytes(*definition_);
}

// Inputs first.
void DefinitionEdit::Settle(size_t root) {
  std::vector<size_t> stack = {root};
  while (!stack.empty()) {
    Entry& entry = entries_[stack.back()];
    if (!entry.seen) {
      entry.seen = true;
      for (const pb::Input& input : entry.op->inputs()) {
        const auto found = by_digest_.find(input.digest());
        if (found != by_digest_.end() && !entries_[found->second].seen)
          stack.push_back(found->second);
      }
      continue;
    }
    stack.pop_back();
    if (!std::exchange(entry.settled, true)) SettleOne(&entry);
  }
}

void DefinitionEdit::SettleOne(Entry* entry) {
  for (pb::Input& input : *entry->op->mutable_inputs()) {
    const auto found = by_digest_.find(input.digest());
    if (found == by_digest_.end() || !entries_[found->second].changed) continue;
    input.set_digest(entries_[found->second].new_digest);
    entry->changed = true;
  }
  if (!entry->changed) return;
  entry->bytes = CanonicalOpBytes(*entry->op);
  entry->new_digest = Digest::Of(entry->bytes).ToString();
}

template <typename Map>
void DefinitionEdit::Move(Map* map) {
  for (const Entry& entry : entries_) {
    if (!entry.changed) continue;
    const auto found = map->find(entry.digest);
    if (found == map->end()) continue;
    auto value = std::move(found->second);
    map->erase(found);
    (*map)[entry.new_digest] = std::move(value);
  }
}

}  // namespace kiln::daemon
