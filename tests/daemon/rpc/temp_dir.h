#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace kiln::daemon {

// A folder that goes with the test.
class TempDir {
 public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "kiln-test-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace kiln::daemon
