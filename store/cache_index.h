#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"

namespace kiln::store {

// One node of the cache-key graph. Content-addressed; see store/DESIGN.md, Keys.
using KeyId = Digest;

// A key of one input of an op, with the selector of the dependency ("" = none; content keys always
// carry an empty selector; BuildKit solver.md, cache keys).
struct InputKey {
  KeyId key;
  std::string selector;

  friend bool operator==(const InputKey& a, const InputKey& b) {
    return a.key == b.key && a.selector == b.selector;
  }
};

// A stored result of a key. `result_id` is opaque here: "<worker>::<ref id>".
struct CacheRecord {
  std::string result_id;
  absl::Time created_at;
  // Decides between records of one key that were created at the same time: higher first (1 for what
  // came from a remote cache, 0 for our own).
  uint8_t priority = 0;

  friend bool operator==(const CacheRecord& a, const CacheRecord& b) {
    return a.result_id == b.result_id && a.created_at == b.created_at && a.priority == b.priority;
  }
  // The order of choice.
  friend bool operator<(const CacheRecord& a, const CacheRecord& b) {
    if (a.created_at != b.created_at) return a.created_at > b.created_at;
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.result_id < b.result_id;
  }
};

// The operation an edge stands for: the op's cache-map digest and the output index.
struct OpOutput {
  std::string op_digest;  // "sha256:…" or "random:…"
  int output = 0;
};

// A node with everything that leads to it, to be carried to another index.
struct PortableNode {
  struct Link {
    KeyId op;  // CacheIndex::RootKey of the operation that the link stands for
    int input = 0;
    InputKey from;

    friend bool operator==(const Link& a, const Link& b) {
      return a.op == b.op && a.input == b.input && a.from == b.from;
    }
  };

  KeyId id;
  OpOutput op;
  std::vector<Link> links;  // sorted by input
  std::vector<CacheRecord> records;
};

// A record that was saved, and when (Database sequences).
struct CommittedRecord {
  uint64_t sequence = 0;
  KeyId key;
  std::string result_id;
};

// CacheIndex maps cache keys to results. It holds no files.
//
// Ids of keys are content-addressed (RootKey, ContentKey, DerivedKey). When several combinations of
// input keys lead to one node, the ids of the others are aliases of it; every method takes aliases.
//
// Invariant: every change is one atomic batch that is in the write-ahead log when the call returns.
// Cost of each call: O(links touched), independent of how many records exist.
// Thread-safe. Every method may block on disk; what the solver loop calls: solver/DESIGN.md.
class CacheIndex {
 public:
  virtual ~CacheIndex() = default;

  // The key of an op without inputs: sha256("<op digest>@<output>").
  static KeyId RootKey(const OpOutput& op);
  // The key that a content digest gives an input: RootKey of the digest with output -1.
  static KeyId ContentKey(const std::string& content_digest);
  // The key of an op whose input i is known by inputs[i].
  static KeyId DerivedKey(const OpOutput& op, absl::Span<const InputKey> inputs);

  // True when something was saved under or behind the root key, and is still there.
  virtual absl::StatusOr<bool> HasRoot(const KeyId& key) = 0;

  // Targets that `keys`, all keys of input `input`, lead to under `op`, sorted. Every other key
  // given is then linked to every target as well (equivalence carry-over). A key with more than
  // kMaxCarryOver of them says little: the list is then cut off after one more, nothing is linked,
  // and Match tells which of all the targets the other inputs lead to as well.
  // Cost: a seek for each key and a step for each target given.
  virtual absl::StatusOr<std::vector<KeyId>> Query(absl::Span<const InputKey> keys, int input,
                                                   const OpOutput& op) = 0;
  static constexpr size_t kMaxCarryOver = 64;

  // Targets that some key of every input leads to, sorted; `inputs[i]` holds the keys of input i,
  // none may be empty. All keys given are linked to all of them (carry-over).
  // Cost: for each input, seeks in the order of the smallest number of targets of any input, so a
  // key that a hundred thousand targets hang on costs no more than its neighbours.
  virtual absl::StatusOr<std::vector<KeyId>> Match(absl::Span<const std::vector<InputKey>> inputs,
                                                   const OpOutput& op) = 0;

  // Results stored under `key`, in the order of choice: newest first.
  virtual absl::StatusOr<std::vector<CacheRecord>> Records(const KeyId& key) = 0;

  // Stores a result of `op`. `inputs[i]` holds every known key of input i; empty `inputs` means a
  // root key. Reuses a node that is already the target of some key of every input, else makes one.
  // A result saved again under its node keeps the later time. Returns the node.
  virtual absl::StatusOr<KeyId> Save(const OpOutput& op,
                                     absl::Span<const std::vector<InputKey>> inputs,
                                     const CacheRecord& record) = 0;

  // Links without a result, so that later look-ups by any of `inputs` reach `target`. OK without
  // effect when the target was removed meanwhile.
  virtual absl::Status Link(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs,
                            const KeyId& target) = 0;

  // Forgets results. A node left without results and without links out is removed, its incoming
  // links with it, upwards. Unknown ones are skipped. Each result goes whole or not at all.
  // Cost: O(links removed).
  virtual absl::Status ReleaseAll(absl::Span<const std::string> result_ids) = 0;
  absl::Status Release(absl::string_view result_id);

  // Result ids greater than `after`, sorted, at most `limit`: to walk all in pages, for checking
  // that what they name still exists.
  virtual absl::StatusOr<std::vector<std::string>> Results(absl::string_view after,
                                                           size_t limit) = 0;

  // Records saved after `sequence`, oldest first, about `limit` of them (a write is never split).
  // Some may be released again. kOutOfRange: the list no longer reaches back so far.
  virtual absl::StatusOr<std::vector<CommittedRecord>> CommittedSince(uint64_t sequence,
                                                                      size_t limit) = 0;
  // The node with its incoming links and records. kNotFound.
  virtual absl::StatusOr<PortableNode> Export(const KeyId& key) = 0;
  // Adds a node of another index. Idempotent; nodes may come in any order, except that one without
  // records is kept only if what it leads to is here already. Where the node has results already
  // they win and the ones given are left out. Returns the node's id here.
  virtual absl::StatusOr<KeyId> Merge(const PortableNode& node) = 0;

  // The mean run time of earlier executions under `op_digest`, later ones counting more; zero when
  // unknown. A hint: it may be forgotten, and is written to disk now and then.
  virtual absl::Duration MeanDuration(absl::string_view op_digest) = 0;
  virtual void RecordDuration(absl::string_view op_digest, absl::Duration took) = 0;
};

}  // namespace kiln::store
