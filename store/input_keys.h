#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/cache_index.h"

namespace kiln::store {

// Rules about input keys that every CacheIndex follows alike.

// By key, then selector; each once.
void SortUnique(std::vector<InputKey>* keys);
void SortLinks(std::vector<PortableNode::Link>* links);

// kInvalidArgument when an input has no key at all.
absl::Status CheckInputs(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs);
// kInvalidArgument when the links skip an input or name a negative one. Nodes come from outside.
absl::Status CheckPortable(const PortableNode& node);

// The id of a new node: derived from the smallest key of each input, so that equal sets of keys
// give equal ids everywhere. `inputs` are sorted and not empty.
KeyId NewNodeKey(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs);

// Which of the nodes that match every input (sorted) takes a result whose own id is `computed`.
KeyId ChooseNode(const KeyId& computed, const std::vector<KeyId>& matches);

// The keys of each input by which the node's own op reaches it.
std::vector<std::vector<InputKey>> InputsOf(const PortableNode& node);

}  // namespace kiln::store
