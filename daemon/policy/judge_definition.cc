#include "daemon/policy/judge_definition.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "daemon/exporter/parallel.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kJudgedAtOnce = 8;  // a verifier may fetch before it decides

// Ops by their digests, given new ones from the changed sources up.
class Rewriting {
 public:
  explicit Rewriting(pb::Definition* definition) : definition_(*definition) {
    for (const std::string& bytes : definition_.def()) {
      Entry& entry = entries_.emplace_back();
      entry.digest = Digest::Of(bytes).ToString();
      entry.parsed = entry.op.ParseFromString(bytes);
      by_digest_.try_emplace(entry.digest, entries_.size() - 1);
    }
  }

  // Whether any source changed.
  absl::StatusOr<bool> Judge(const SourceJudge& judge, const CancelToken& cancel) {
    std::vector<Entry*> sources;
    for (Entry& entry : entries_) {
      if (!entry.parsed) continue;
      // What it builds is known only when it runs, too late for a judge.
      if (entry.op.has_build())
        return absl::UnimplementedError("build ops under a source policy are not supported");
      if (entry.op.has_source()) sources.push_back(&entry);
    }
    std::atomic<bool> any = false;
    KILN_RETURN_IF_ERROR(RunParallel(sources.size(), kJudgedAtOnce, [&](size_t i) -> absl::Status {
      pb::Op& op = sources[i]->op;
      SourceRef source{op.source().identifier(),
                       {op.source().attrs().begin(), op.source().attrs().end()}};
      KILN_ASSIGN_OR_RETURN(const bool changed,
                            judge.Judge(&source, op.platform().SerializeAsString(), cancel));
      if (!changed) return absl::OkStatus();
      any = true;
      sources[i]->changed = true;
      op.mutable_source()->set_identifier(source.identifier);
      op.mutable_source()->clear_attrs();
      for (const auto& [key, value] : source.attrs)
        (*op.mutable_source()->mutable_attrs())[key] = value;
      return absl::OkStatus();
    }));
    return any.load();
  }

  void Rewrite() {
    for (size_t i = 0; i < entries_.size(); ++i) Settle(i);
    for (size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].changed) *definition_.mutable_def(static_cast<int>(i)) = entries_[i].bytes;
    Move(definition_.mutable_metadata());
    if (definition_.has_source()) Move(definition_.mutable_source()->mutable_locations());
  }

 private:
  struct Entry {
    std::string digest;  // as received
    pb::Op op;
    bool parsed = false;
    bool changed = false;
    bool seen = false, settled = false;
    std::string bytes, new_digest;  // when changed
  };

  // Inputs first, without recursion.
  void Settle(size_t root) {
    std::vector<size_t> stack = {root};
    while (!stack.empty()) {
      Entry& entry = entries_[stack.back()];
      if (!entry.seen) {
        entry.seen = true;
        for (const pb::Input& input : entry.op.inputs()) {
          const auto found = by_digest_.find(input.digest());
          if (found != by_digest_.end() && !entries_[found->second].seen)
            stack.push_back(found->second);
        }
        continue;
      }
      stack.pop_back();
      if (!std::exchange(entry.settled, true)) Finish(&entry);
    }
  }

  void Finish(Entry* entry) {
    for (pb::Input& input : *entry->op.mutable_inputs()) {
      const auto found = by_digest_.find(input.digest());
      if (found == by_digest_.end() || !entries_[found->second].changed) continue;
      input.set_digest(entries_[found->second].new_digest);
      entry->changed = true;
    }
    if (!entry->changed) return;
    entry->bytes = CanonicalBytes(entry->op);
    entry->new_digest = Digest::Of(entry->bytes).ToString();
  }

  template <typename Map>
  void Move(Map* map) {
    for (const Entry& entry : entries_) {
      if (!entry.changed) continue;
      const auto found = map->find(entry.digest);
      if (found == map->end()) continue;
      auto value = std::move(found->second);
      map->erase(found);
      (*map)[entry.new_digest] = std::move(value);
    }
  }

  pb::Definition& definition_;
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string, size_t> by_digest_;
};

}  // namespace

absl::StatusOr<std::string> JudgeDefinition(absl::string_view definition, const SourceJudge& judge,
                                            const CancelToken& cancel) {
  pb::Definition proto;
  if (definition.size() > INT32_MAX ||
      !proto.ParseFromArray(definition.data(), static_cast<int>(definition.size())))
    return std::string(definition);
  Rewriting rewriting(&proto);
  KILN_ASSIGN_OR_RETURN(const bool changed, rewriting.Judge(judge, cancel));
  if (!changed) return std::string(definition);
  rewriting.Rewrite();
  return CanonicalBytes(proto);
}

}  // namespace kiln::daemon
