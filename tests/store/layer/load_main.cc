// The process that crash_test kills: pulls, unpacks, packs and prunes in the root argv[1] for ever,
// with the seed argv[2]. Says something whenever a layer is there.
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "store/database.h"
#include "tests/store/layer/image_load.h"

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
  auto blobs = BlobStore::Open(root->get(), database->get(), {});
  LocalRefStoreOptions ref_options;
  ref_options.root = root->get();
  ref_options.database = database->get();
  auto refs = LocalRefStore::Open(ref_options);
  if (!blobs.ok() || !refs.ok()) return 5;
  FixedImages images;
  LocalLayerStoreOptions options;
  options.root = root->get();
  options.database = database->get();
  options.refs = refs->get();
  options.blobs = blobs->get();
  options.fetcher = &images;
  LocalLayerStore layers(options);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 3; ++i) {
    threads.emplace_back([&, seed = static_cast<unsigned>(std::atoi(argv[2])) + i] {
      std::mt19937 dice(seed);
      for (;;) {
        const int image = static_cast<int>(dice() % FixedImages::kImages);
        const int count = 1 + static_cast<int>(dice() % FixedImages::kLayers);
        RefPtr ref;
        for (int layer = 0; layer < count; ++layer) {
          RefOptions ref_option;
          ref_option.retain = true;
          ref_option.description = absl::StrCat(FixedImages::Files(layer + 1));
          auto added = layers.AddLayer(ref, images.blob(image, layer), ref_option);
          if (!added.ok()) std::_Exit(6);
          ref = *added;
          if (::write(STDOUT_FILENO, "+", 1) != 1) std::_Exit(10);
        }
        if (dice() % 3 != 0 && !ref->Materialize({}).ok()) std::_Exit(7);
        if (dice() % 3 == 0) {
          LayerFormat format;
          format.compression = dice() % 2 == 0 ? Compression::kGzip : Compression::kZstd;
          format.force = true;
          if (!layers.Layers(ref, format, {}).ok()) std::_Exit(8);
        }
        ref.reset();
        if (dice() % 4 == 0 && !(*refs)->Prune({.all = true}, {}, nullptr).ok()) std::_Exit(9);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}
