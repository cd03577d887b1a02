// Works on a cache index until it is killed, and says on standard output what is done:
//   "s <result> <key>"  saved      "r <result>"  about to be released      "d <result>"  released
// Usage: index_writer <folder of the index> <name of this run>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/database.h"
#include "store/rocks_cache_index.h"

namespace kiln::store {
namespace {

void Say(const std::string& line) {
  if (!WriteAll(STDOUT_FILENO, line + "\n").ok()) ::_exit(3);
}

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "index_writer: %s\n", status.ToString().c_str());
  ::_exit(2);
}

[[noreturn]] void Work(const std::string& path, const std::string& name) {
  DatabaseOptions options;
  options.path = path;
  options.boot_id = "boot";
  options.barrier_interval = absl::Milliseconds(7);
  auto database = Database::Open(options);
  if (!database.ok()) Die(database.status());
  RocksCacheIndex index(database->get());
  std::mt19937 random(std::hash<std::string>()(name));
  std::vector<KeyId> keys = {CacheIndex::RootKey({"root", 0}), CacheIndex::ContentKey("content")};
  std::vector<std::string> results;
  auto any_key = [&] { return InputKey{keys[random() % keys.size()], random() % 2 ? "s" : ""}; };
  for (int i = 0;; ++i) {
    if (results.size() > 20 && random() % 3 == 0) {
      const size_t victim = random() % results.size();
      Say(absl::StrCat("r ", results[victim]));
      if (absl::Status s = index.Release(results[victim]); !s.ok()) Die(s);
      Say(absl::StrCat("d ", results[victim]));
      results.erase(results.begin() + static_cast<long>(victim));
      continue;
    }
    std::vector<std::vector<InputKey>> inputs;
    for (unsigned n = random() % 3; n > 0; --n) inputs.push_back({any_key(), any_key()});
    const std::string result = absl::StrCat("w::", name, "-", i);
    auto key = index.Save({absl::StrCat("op ", random() % 50), 0}, inputs,
                          {result, absl::FromUnixSeconds(i), 0});
    if (!key.ok()) Die(key.status());
    Say(absl::StrCat("s ", result, " ", key->ToString()));
    results.push_back(result);
    if (keys.size() < 200) keys.push_back(*key);
  }
}

}  // namespace
}  // namespace kiln::store

int main(int argc, char** argv) {
  if (argc != 3) return 1;
  kiln::store::Work(argv[1], argv[2]);
}
