#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace kiln::store {

// A directory that is removed with everything in it.
class TempDir {
 public:
  TempDir() {
    std::string pattern = std::filesystem::temp_directory_path() / "kiln-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << pattern;
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // A fresh directory in it, mode 0755.
  std::string Dir(const std::string& name) const {
    const std::string dir = path_ + "/" + name;
    std::filesystem::create_directories(dir);
    ::chmod(dir.c_str(), 0755);
    return dir;
  }

 private:
  std::string path_;
};

inline void PutDir(const std::string& path, mode_t mode = 0755) {
  std::filesystem::create_directories(path);
  EXPECT_EQ(::chmod(path.c_str(), mode), 0) << path;
}

inline void PutFile(const std::string& path, const std::string& content, mode_t mode = 0644) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  EXPECT_EQ(::chmod(path.c_str(), mode), 0) << path;
}

inline void PutLink(const std::string& path, const std::string& target) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  EXPECT_EQ(::symlink(target.c_str(), path.c_str()), 0) << path;
}

// These two need root.
inline void PutWhiteout(const std::string& path) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  EXPECT_EQ(::mknod(path.c_str(), S_IFCHR, 0), 0) << path;
}
inline void MarkOpaque(const std::string& path) {
  EXPECT_EQ(::lsetxattr(path.c_str(), "trusted.overlay.opaque", "y", 1, 0), 0) << path;
}

inline std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace kiln::store
