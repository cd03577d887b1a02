#include "store/input_keys.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace kiln::store {

void SortUnique(std::vector<InputKey>* keys) {
  std::sort(keys->begin(), keys->end(), [](const InputKey& a, const InputKey& b) {
    return std::tie(a.key, a.selector) < std::tie(b.key, b.selector);
  });
  keys->erase(std::unique(keys->begin(), keys->end()), keys->end());
}

void SortLinks(std::vector<PortableNode::Link>* links) {
  using Link = PortableNode::Link;
  std::sort(links->begin(), links->end(), [](const Link& a, const Link& b) {
    return std::tie(a.input, a.op, a.from.selector, a.from.key) <
           std::tie(b.input, b.op, b.from.selector, b.from.key);
  });
}

absl::Status CheckInputs(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].empty())
      return absl::InvalidArgumentError(
          absl::StrCat("input ", i, " of ", op.op_digest, " has no cache key"));
  return absl::OkStatus();
}

absl::Status CheckPortable(const PortableNode& node) {
  for (const PortableNode::Link& link : node.links)
    if (link.input < 0)
      return absl::InvalidArgumentError(
          absl::StrCat("cache key ", node.id.ToString(), " has a link for input ", link.input));
  const KeyId op = CacheIndex::RootKey(node.op);
  std::vector<int> own;
  for (const PortableNode::Link& link : node.links)
    if (link.op == op) own.push_back(link.input);
  std::sort(own.begin(), own.end());
  int expected = 0;
  for (const int input : own) {
    if (input > expected)
      return absl::InvalidArgumentError(
          absl::StrCat("cache key ", node.id.ToString(), " has no link for input ", expected));
    if (input == expected) ++expected;
  }
  return absl::OkStatus();
}

KeyId NewNodeKey(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs) {
  std::vector<InputKey> smallest;
  for (const std::vector<InputKey>& keys : inputs) smallest.push_back(keys.front());
  return CacheIndex::DerivedKey(op, smallest);
}

KeyId ChooseNode(const KeyId& computed, const std::vector<KeyId>& matches) {
  if (matches.empty() || std::binary_search(matches.begin(), matches.end(), computed))
    return computed;
  return matches.front();
}

std::vector<std::vector<InputKey>> InputsOf(const PortableNode& node) {
  const KeyId op = CacheIndex::RootKey(node.op);
  std::vector<std::vector<InputKey>> inputs;
  for (const PortableNode::Link& link : node.links) {
    if (link.op != op) continue;
    if (inputs.size() <= static_cast<size_t>(link.input)) inputs.resize(link.input + 1);
    inputs[link.input].push_back(link.from);
  }
  return inputs;
}

}  // namespace kiln::store
