#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "client/llb/caps.h"
#include "client/llb/constraints.h"
#include "client/llb/definition.h"
#include "client/llb/wire_writer.h"
#include "proto/digest.h"

namespace kiln::client::llb {

class Vertex;

// A definition under construction: ops are written one after the other, inputs first, straight into
// its bytes. Equal ops are one, with the metadata of all vertices that stand for them.
class GraphWriter {
 public:
  // The vertices of a definition, each with a number below their count.
  using Numbers = absl::flat_hash_map<const Vertex*, size_t>;

  // `defaults` hold for every op that says nothing else.
  GraphWriter(Constraints defaults, Numbers vertices);

  const Constraints& defaults() const { return defaults_; }
  // Null when the vertex is not written yet.
  const Digest* Find(const Vertex* vertex) const;
  void Note(size_t number, const Digest& digest) { done_[number] = digest; }

  // An op whose fields `fill` writes, and what travels beside it.
  Digest AddOp(const CapSet& caps, const std::shared_ptr<const OpMetadata>& metadata,
               absl::FunctionRef<void(WireWriter&)> fill);
  // The ops so far.
  const std::vector<Definition::Op>& ops() const { return definition_.ops_; }
  // All of it. Call last.
  Definition Take();

 private:
  const Constraints defaults_;
  WireWriter text_;
  Definition definition_;
  const Numbers numbers_;
  std::vector<Digest> done_;  // by number
  // A digest is a hash already.
  struct Head {
    size_t operator()(const Digest& digest) const {
      size_t head;
      std::memcpy(&head, digest.raw().data(), sizeof head);
      return head;
    }
  };
  absl::flat_hash_map<Digest, size_t, Head> by_digest_;  // indexes of ops
};

}  // namespace kiln::client::llb
