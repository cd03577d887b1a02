#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "daemon/exporter/archive_exporter.h"
#include "daemon/exporter/image_exporter.h"
#include "store/database.h"
#include "store/root.h"
#include "tests/daemon/exporter/fake_layer_store.h"
#include "tests/daemon/exporter/memory_registry.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/store/temp_dir.h"

namespace kiln::daemon {

using Json = nlohmann::json;
using Attrs = std::map<std::string, std::string>;

// The files of a tar archive by name; directories have no bytes.
inline std::map<std::string, std::string> ReadTar(const std::string& bytes,
                                                  std::vector<std::string>* order = nullptr) {
  std::map<std::string, std::string> files;
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  archive_read_open_memory(reader, bytes.data(), bytes.size());
  archive_entry* entry = nullptr;
  while (archive_read_next_header(reader, &entry) == ARCHIVE_OK) {
    std::string data(static_cast<size_t>(archive_entry_size(entry)), '\0');
    EXPECT_EQ(archive_read_data(reader, data.data(), data.size()),
              static_cast<la_ssize_t>(data.size()));
    EXPECT_EQ(archive_entry_uid(entry), 0);
    EXPECT_EQ(archive_entry_mtime(entry), 0);
    files[archive_entry_pathname(entry)] = data;
    if (order != nullptr) order->push_back(archive_entry_pathname(entry));
  }
  archive_read_free(reader);
  return files;
}

// An uncompressed layer of empty files.
inline std::string WriteTar(const std::vector<std::string>& names) {
  std::string bytes(1 << 16, '\0');
  size_t used = 0;
  archive* writer = archive_write_new();
  archive_write_set_format_ustar(writer);
  archive_write_open_memory(writer, bytes.data(), bytes.size(), &used);
  for (const std::string& name : names) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(writer, entry);
    archive_entry_free(entry);
  }
  archive_write_close(writer);
  archive_write_free(writer);
  bytes.resize(used);
  return bytes;
}

// Exporters of images over a real blob store, with layers and registries in memory.
class ImageExporterTest : public testing::Test {
 protected:
  ImageExporterTest() {
    sessions_.sessions["s1"] = std::make_shared<FakeSession>("s1", client_.Channel());
    context_.session_id = "s1";
    context_.sessions = &sessions_;
    context_.progress = &progress_;
  }
  void SetUp() override {
    root_ = *store::Root::Open(dir_.path(), "boot-1");
    store::DatabaseOptions options;
    options.path = root_->index_dir();
    options.boot_id = "boot-1";
    database_ = *store::Database::Open(options);
    blobs_ = *store::BlobStore::Open(root_.get(), database_.get(), {});
    images_ = *store::ImageTable::Open(database_.get(), blobs_.get());
    layers_ = std::make_unique<FakeLayerStore>(blobs_.get());
    writer_ = std::make_unique<ImageWriter>(layers_.get(), blobs_.get());
    pusher_ = std::make_unique<ImagePusher>(writer_.get(), &registry_);
  }

  absl::StatusOr<std::unique_ptr<Exporter>> Make(const std::string& type, const Attrs& attrs) {
    if (type != "image") return NewArchiveExporter(writer_.get(), type == "docker", attrs);
    return NewImageExporter({writer_.get(), pusher_.get(), images_.get()}, attrs);
  }

  // Exports and finalizes.
  absl::StatusOr<Attrs> Export(const std::string& type, const Attrs& attrs,
                               const ExportSource& source) {
    auto exporter = Make(type, attrs);
    if (!exporter.ok()) return exporter.status();
    auto answer = (*exporter)->Export(source, context_);
    if (!answer.ok()) return answer.status();
    holds_.push_back(answer->hold);
    if (answer->finalize != nullptr) {
      const absl::Status status = answer->finalize(context_);
      if (!status.ok()) return status;
    }
    return answer->response;
  }
  std::string Error(const std::string& type, const Attrs& attrs, const ExportSource& source) {
    return std::string(Export(type, attrs, source).status().message());
  }

  store::RefPtr Ref(const std::string& id) { return std::make_shared<NamedRef>(id); }
  ExportSource Single(const std::string& ref) {
    ExportSource source;
    source.ref = ref.empty() ? nullptr : Ref(ref);
    return source;
  }
  // A map of platforms to trees of the same names.
  ExportSource Map(const std::vector<std::string>& platforms) {
    ExportSource source;
    source.is_map = true;
    for (const std::string& id : platforms) {
      source.refs[id] = Ref(id);
      const size_t slash = id.find('/');
      source.platforms.push_back({id, "{\"os\":\"" + id.substr(0, slash) +
                                          "\",\"architecture\":\"" + id.substr(slash + 1) + "\"}"});
    }
    return source;
  }

  std::string Blob(const std::string& digest) {
    auto bytes = ReadSmallBlob(*blobs_, *Digest::Parse(digest));
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.value_or("");
  }
  Json BlobJson(const std::string& digest) { return Json::parse(Blob(digest)); }

  store::TempDir dir_;
  std::unique_ptr<store::Root> root_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<store::BlobStore> blobs_;
  std::unique_ptr<store::ImageTable> images_;
  std::unique_ptr<FakeLayerStore> layers_;
  MemoryRegistry registry_;
  std::unique_ptr<ImageWriter> writer_;
  std::unique_ptr<ImagePusher> pusher_;
  FakeClient client_;
  FakeSessions sessions_;
  FakeOpContext progress_;
  ExportContext context_;
  std::vector<std::shared_ptr<void>> holds_;  // end before the store
};

}  // namespace kiln::daemon
