#include "store/ref/usage_list.h"

namespace kiln::store {

void UsageList::Link() {
  by_id.clear();
  for (size_t i = 0; i < items.size(); ++i) by_id[items[i].info.id] = i;
  std::vector<size_t> in_use;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].info.in_use) in_use.push_back(i);
    for (const std::string& parent : items[i].info.parents) {
      auto found = by_id.find(parent);
      if (found != by_id.end()) ++items[found->second].children;
    }
  }
  for (const auto& [parent, count] : more_children) {
    auto found = by_id.find(parent);
    if (found != by_id.end()) items[found->second].children += count;
  }
  while (!in_use.empty()) {
    const size_t i = in_use.back();
    in_use.pop_back();
    for (const std::string& parent : items[i].info.parents) {
      auto found = by_id.find(parent);
      if (found == by_id.end() || items[found->second].info.in_use) continue;
      items[found->second].info.in_use = true;
      in_use.push_back(found->second);
    }
  }
}

}  // namespace kiln::store
