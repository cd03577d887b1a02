#pragma once

#include <string>
#include <utility>

#include "store/layer/tar_entry.h"
#include "store/layer/tar_writer.h"

namespace kiln::store {

// Puts a tar archive together, entry by entry.
class TarBuilder {
 public:
  TarBuilder& Add(TarEntry entry, const std::string& data = "") {
    if (entry.type == TarType::kFile) entry.size = static_cast<int64_t>(data.size());
    bytes_ += EncodeTarHeader(entry);
    bytes_ += data;
    bytes_ += std::string(TarPadding(static_cast<int64_t>(data.size())));
    return *this;
  }
  TarBuilder& File(const std::string& name, const std::string& data, uint32_t mode = 0644) {
    return Add(Entry(TarType::kFile, name, mode), data);
  }
  TarBuilder& Dir(const std::string& name, uint32_t mode = 0755) {
    return Add(Entry(TarType::kDirectory, name + "/", mode));
  }
  TarBuilder& Symlink(const std::string& name, const std::string& target) {
    TarEntry entry = Entry(TarType::kSymlink, name, 0777);
    entry.link = target;
    return Add(entry);
  }
  TarBuilder& Hardlink(const std::string& name, const std::string& target) {
    TarEntry entry = Entry(TarType::kHardlink, name, 0644);
    entry.link = target;
    return Add(entry);
  }
  TarBuilder& Raw(const std::string& bytes) {
    bytes_ += bytes;
    return *this;
  }

  std::string Build() const { return bytes_ + std::string(TarEnd()); }
  // Without the end.
  const std::string& bytes() const { return bytes_; }

  static TarEntry Entry(TarType type, const std::string& name, uint32_t mode) {
    TarEntry entry;
    entry.type = type;
    entry.name = name;
    entry.mode = mode;
    entry.mtime = {1600000000, 0};
    return entry;
  }

 private:
  std::string bytes_;
};

}  // namespace kiln::store
