#include "tests/store/ref/random_load.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::store {
namespace {

// What a step may meet without anything being wrong: the record was pruned, or somebody has it.
bool Expected(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsFailedPrecondition(status);
}
std::string Unexpected(const absl::Status& status) {
  return status.ok() || Expected(status) ? "" : status.ToString();
}

}  // namespace

std::string ShowModel(const ModelTree& tree) {
  std::string out;
  for (const auto& [path, data] : tree) absl::StrAppend(&out, path, "=", data, " ");
  return out;
}

std::string ShowTree(const RefPtr& ref) {
  absl::StatusOr<Layers> layers = ref->Materialize({});
  if (!layers.ok()) return layers.status().ToString();
  TreeReader reader(*layers);
  std::string out;
  absl::Status status =
      reader.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
        if (!S_ISREG(entry.st.st_mode)) return true;
        absl::StatusOr<Fd> fd = reader.Open(path);
        if (!fd.ok()) return fd.status();
        absl::StatusOr<std::string> data = ReadAll(fd->get());
        if (!data.ok()) return data.status();
        absl::StrAppend(&out, path, "=", *data, " ");
        return true;
      });
  return status.ok() ? out : status.ToString();
}

bool RandomLoad::Pick(std::mt19937& dice, Known* out) {
  MutexLock lock(&mu_);
  if (known_.empty()) return false;
  *out = known_[dice() % known_.size()];
  return true;
}

std::string RandomLoad::Keep(const RefPtr& ref, ModelTree tree, bool prunable) {
  const std::string shown = ShowTree(ref);
  if (shown != ShowModel(tree))
    return absl::StrCat(ref->id(), " holds ", shown, " instead of ", ShowModel(tree));
  if (absl::Status status = store_->SetRetained(ref->id()); !status.ok()) return status.ToString();
  if (!prunable && kept_) kept_(ref->id(), tree);
  MutexLock lock(&mu_);
  known_.push_back({ref->id(), std::move(tree), prunable});
  return "";
}

std::string RandomLoad::Child(std::mt19937& dice) {
  Known parent;
  RefPtr below;
  if (dice() % 4 != 0 && Pick(dice, &parent)) {
    absl::StatusOr<RefPtr> got = store_->Get(parent.id);
    if (!got.ok()) return Unexpected(got.status());
    below = *std::move(got);
    if (ShowTree(below) != ShowModel(parent.tree)) return absl::StrCat(parent.id, " changed");
  } else {
    parent.tree.clear();
  }
  RefOptions options;
  const bool prunable = dice() % 2 == 0;
  options.record_type = prunable ? "exec.cachemount" : "regular";
  auto tree = store_->New(below, options);
  if (!tree.ok()) return tree.status().ToString();
  const std::string path = absl::StrCat("/f", dice() % 8);
  const std::string data = absl::StrCat(++counter_);
  if (absl::Status s = (*tree)->writer().WriteFile(path, data, {}); !s.ok()) return s.ToString();
  parent.tree[path] = data;
  if (dice() % 8 == 0) return "";  // dropped
  absl::StatusOr<RefPtr> ref = (*tree)->Commit();
  if (!ref.ok()) return ref.status().ToString();
  if (dice() % 8 == 0) return "";  // not kept
  return Keep(*ref, std::move(parent.tree), prunable);
}

std::string RandomLoad::Combine(std::mt19937& dice) {
  Known a, b;
  if (!Pick(dice, &a) || !Pick(dice, &b)) return "";
  absl::StatusOr<RefPtr> one = store_->Get(a.id), two = store_->Get(b.id);
  if (!one.ok()) return Unexpected(one.status());
  if (!two.ok()) return Unexpected(two.status());
  RefOptions options;
  options.record_type = "exec.cachemount";
  if (dice() % 3 == 0) {
    absl::StatusOr<RefPtr> diff = store_->Diff(*one, *two, options);
    if (!diff.ok()) return diff.status().ToString();
    if (*diff != nullptr && dice() % 2 == 0) return Unexpected((*diff)->Materialize({}).status());
    return "";
  }
  absl::StatusOr<RefPtr> merged = store_->Merge(std::vector<RefPtr>{*one, *two}, options);
  if (!merged.ok()) return merged.status().ToString();
  for (auto& [path, data] : b.tree) a.tree[path] = data;
  return Keep(*merged, std::move(a.tree), true);
}

std::string RandomLoad::Mutable(std::mt19937& dice) {
  const std::string key = absl::StrCat("cache", dice() % 3);
  std::unique_ptr<MutableRef> tree;
  absl::StatusOr<std::vector<std::string>> found = store_->Search(key);
  if (!found.ok()) return found.status().ToString();
  for (const std::string& id : *found) {
    absl::StatusOr<std::unique_ptr<MutableRef>> again = absl::NotFoundError("");
    if (dice() % 2 == 0) {
      again = store_->Reopen(id);
    } else {
      absl::StatusOr<RefPtr> idle = store_->HoldIdle(id);
      if (!idle.ok() && !Expected(idle.status())) return idle.status().ToString();
      if (!idle.ok()) continue;
      const std::string before = ShowTree(*idle);
      again = store_->Rewrite(*idle);
      if (!again.ok() && ShowTree(*idle) != before)
        return absl::StrCat("after a refusal: ", ShowTree(*idle), ", before: ", before);
    }
    if (!again.ok() && !Expected(again.status())) return again.status().ToString();
    if (again.ok()) tree = *std::move(again);
    if (tree != nullptr) break;
  }
  if (tree == nullptr) {
    RefOptions options;
    options.record_type = "source.local";
    options.retain = true;
    options.index_key = key;
    auto made = store_->New(nullptr, options);
    if (!made.ok()) return made.status().ToString();
    tree = *std::move(made);
  }
  const std::string data = absl::StrCat(++counter_);
  if (absl::Status s = tree->writer().WriteFile("/m", data, {}); !s.ok()) return s.ToString();
  if (dice() % 2 == 0) return "";
  absl::StatusOr<RefPtr> ref = tree->Commit();
  if (!ref.ok()) return ref.status().ToString();
  tree.reset();
  if (dice() % 2 == 0) {
    if (absl::Status s = store_->SetRetained((*ref)->id()); !s.ok()) return s.ToString();
  }
  if (dice() % 3 == 0) {  // a child takes it over
    auto child = store_->New(*ref, {});
    if (!child.ok()) return child.status().ToString();
  }
  const std::string shown = ShowTree(*ref);
  return shown == absl::StrCat("/m=", data, " ") ? "" : absl::StrCat("while held: ", shown);
}

std::string RandomLoad::Look(std::mt19937& dice) {
  if (dice() % 4 == 0) return Unexpected(store_->DiskUsage({}).status());
  Known known;
  if (!Pick(dice, &known)) return "";
  absl::StatusOr<RefPtr> ref = store_->Get(known.id);
  if (!ref.ok()) return Unexpected(ref.status());
  const std::string shown = ShowTree(*ref);
  if (shown != ShowModel(known.tree)) return absl::StrCat(known.id, " shows ", shown);
  return Unexpected(store_->Checksum(*ref, "/", {}, {}).status());
}

std::string RandomLoad::Prune(std::mt19937& dice) {
  PruneOptions options;
  options.filters = {"type==exec.cachemount", "type==source.local"};
  if (dice() % 2 == 0) options.max_used_bytes = 1 + dice() % 200'000;
  const absl::Status status = store_->Prune(options, {}, [&](const UsageInfo& info) {
    MutexLock lock(&mu_);
    pruned_[info.id] = true;
  });
  return status.ok() ? "" : status.ToString();
}

std::string RandomLoad::Step(std::mt19937& dice) {
  const int roll = static_cast<int>(dice() % 20);
  if (roll < 9) return Child(dice);
  if (roll < 12) return Combine(dice);
  if (roll < 15) return Mutable(dice);
  if (roll < 19) return Look(dice);
  return Prune(dice);
}

std::vector<std::string> RandomLoad::Check() {
  std::vector<std::string> wrong;
  MutexLock lock(&mu_);
  for (const Known& known : known_) {
    absl::StatusOr<RefPtr> ref = store_->Get(known.id);
    if (!ref.ok()) {
      if (pruned_.count(known.id) == 0) wrong.push_back(ref.status().ToString());
    } else if (pruned_.count(known.id) != 0) {
      wrong.push_back(absl::StrCat(known.id, " was reported as pruned"));
    } else if (ShowTree(*ref) != ShowModel(known.tree)) {
      wrong.push_back(absl::StrCat(known.id, " has other content"));
    }
  }
  return wrong;
}

}  // namespace kiln::store
