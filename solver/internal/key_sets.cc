#include "solver/internal/key_sets.h"

#include <algorithm>

namespace kiln::solver {

absl::Span<const KeySets::Key> KeySets::of(uint32_t input) const {
  const auto before = [](const Key& key, uint32_t of) { return key.input < of; };
  const auto first = std::lower_bound(keys_.begin(), keys_.end(), input, before);
  auto last = first;
  while (last != keys_.end() && last->input == input) ++last;
  return absl::MakeConstSpan(first, static_cast<size_t>(last - first));
}

bool KeySets::Contains(const Key& key) const {
  const absl::Span<const Key> keys = of(key.input);
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

std::vector<std::vector<store::InputKey>> KeySets::Expand(const KnownMap& map) const {
  std::vector<std::vector<store::InputKey>> expanded(inputs_);
  for (const Key& key : keys_)
    expanded[key.input].push_back(
        {key.id, key.selected ? map.input(key.input).selector : std::string()});
  return expanded;
}

}  // namespace kiln::solver
