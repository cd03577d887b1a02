// The process that crash_test kills: random work on the store in argv[1] with the seed argv[2].
// Every record that must survive is written to standard output as "<id> <content>".
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/store/ref/random_load.h"

int main(int argc, char** argv) {
  using namespace kiln::store;  // NOLINT(google-build-using-namespace)
  if (argc != 3) return 2;
  auto root = Root::Open(argv[1]);
  if (!root.ok()) return 3;
  DatabaseOptions database_options;
  database_options.path = (*root)->index_dir();
  database_options.boot_id = (*root)->boot_id();
  auto database = Database::Open(database_options);
  if (!database.ok()) return 4;
  LocalRefStoreOptions options;
  options.root = root->get();
  options.database = database->get();
  options.max_layers = 6;
  auto store = LocalRefStore::Open(options);
  if (!store.ok()) return 5;
  RandomLoad load(store->get(), [](const std::string& id, const ModelTree& tree) {
    const std::string line = absl::StrCat(id, " ", ShowModel(tree), "\n");
    // One write: a kill takes the whole line or nothing of it.
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::exit(6);
  });
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 3; ++i) {
    threads.emplace_back([&load, seed = static_cast<unsigned>(std::atoi(argv[2])) + i] {
      std::mt19937 dice(seed);
      for (;;) {
        const std::string wrong = load.Step(dice);
        if (wrong.empty()) continue;
        std::fprintf(stderr, "seed %u: %s\n", seed, wrong.c_str());
        std::_Exit(7);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}
