#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/base/fd.h"
#include "store/base/mount.h"
#include "store/database.h"
#include "store/ref/local_ref_store.h"
#include "store/root.h"

namespace kiln::store {

// Fails the test and leaves the function.
#define ASSERT_OK(expr) ASSERT_TRUE((expr).ok()) << kiln::store::StatusOf(expr)
#define EXPECT_OK(expr) EXPECT_TRUE((expr).ok())

inline absl::Status StatusOf(const absl::Status& status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& value) {
  return value.status();
}

// A value that the test cannot go on without.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    std::abort();
  }
  return *std::move(value);
}
inline void Must(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

inline absl::StatusOr<std::unique_ptr<Database>> OpenDatabase(const Root& root) {
  DatabaseOptions options;
  options.path = root.index_dir();
  options.boot_id = root.boot_id();
  options.sync_files = [&root] { return root.SyncFiles(); };
  return Database::Open(options);
}

// A store in a folder of its own, that can be closed and opened again.
class RefStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "these tests mount: run them as root";
    char name[] = "/tmp/kiln-refs-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    Open();
  }
  void TearDown() override {
    Close();
    EXPECT_TRUE(MountsBelow(dir_)->empty()) << "a mount leaked";
    std::filesystem::remove_all(dir_);
  }

  void Open() {
    root_ = Must(Root::Open(dir_ + "/root"));
    database_ = Must(OpenDatabase(*root_));
    LocalRefStoreOptions options = Options();
    options.root = root_.get();
    options.database = database_.get();
    store_ = Must(LocalRefStore::Open(options));
  }
  void Close() {
    store_.reset();
    database_.reset();
    root_.reset();
  }
  void Restart() {
    Close();
    Open();
  }
  virtual LocalRefStoreOptions Options() { return {}; }

  // A committed, kept child of `parent` with one file.
  RefPtr Make(const RefPtr& parent, const std::string& path, const std::string& data,
              RefOptions options = {}) {
    auto tree = Must(store_->New(parent, options));
    for (size_t at = path.find('/', 1); at != path.npos; at = path.find('/', at + 1)) {
      const absl::Status made = tree->writer().MakeDir(path.substr(0, at), {});
      if (!absl::IsAlreadyExists(made)) Must(made);
    }
    Must(tree->writer().WriteFile(path, data, {}));
    RefPtr ref = Must(tree->Commit());
    Must(store_->SetRetained(ref->id()));
    return ref;
  }
  RefPtr Delete(const RefPtr& parent, const std::string& path) {
    auto tree = Must(store_->New(parent, {}));
    Must(tree->writer().Remove(path));
    RefPtr ref = Must(tree->Commit());
    Must(store_->SetRetained(ref->id()));
    return ref;
  }

  // What a tree holds: "path=content", "path/" for directories, in order.
  static std::string Show(const Layers& layers) {
    if (layers.empty()) return "";
    TreeReader reader(layers);
    std::string out;
    Must(reader.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
      out += path.substr(1);
      if (S_ISDIR(entry.st.st_mode)) {
        out += "/ ";
      } else if (S_ISLNK(entry.st.st_mode)) {
        out += "->" + entry.link + " ";
      } else if (S_ISFIFO(entry.st.st_mode)) {
        out += "| ";
      } else {
        Fd fd = Must(reader.Open(path));
        out += "=" + Must(ReadAll(fd.get())) + " ";
      }
      return true;
    }));
    return out;
  }
  static std::string Show(const RefPtr& ref) {
    return ref == nullptr ? "" : Show(Must(ref->Materialize({})));
  }
  // The same through the kernel.
  std::string ShowMounted(const RefPtr& ref) {
    auto mount = Must(store_->Mount(ref));
    return Show(Layers{mount->path()});
  }
  std::set<std::string> Folders() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_ + "/root/snapshots"))
      names.insert(entry.path().filename());
    return names;
  }

  std::string dir_;
  std::unique_ptr<Root> root_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<LocalRefStore> store_;
};

// Each test with each driver.
class EachDriverTest : public RefStoreTest, public testing::WithParamInterface<DriverKind> {
 protected:
  LocalRefStoreOptions Options() override { return {.driver = GetParam()}; }
  bool overlay() const { return GetParam() == DriverKind::kOverlay; }
};
inline auto DriverName = [](const auto& test) {
  return std::string(test.param == DriverKind::kOverlay ? "Overlay" : "Native");
};
#define FOR_EACH_DRIVER(suite)             \
  INSTANTIATE_TEST_SUITE_P(Drivers, suite, \
                           testing::Values(DriverKind::kOverlay, DriverKind::kNative), DriverName)

}  // namespace kiln::store
