#pragma once

#include <string>

namespace kiln::daemon {

// A temporary folder with a root file system of one static busybox; removed with the object.
// Asserts (exits) when the machine has no busybox or the test is not run by root.
class ScratchRootfs {
 public:
  ScratchRootfs();
  ~ScratchRootfs();
  ScratchRootfs(const ScratchRootfs&) = delete;
  ScratchRootfs& operator=(const ScratchRootfs&) = delete;

  const std::string& folder() const { return folder_; }  // for whatever else the test needs
  const std::string& root() const { return root_; }
  // A file in the root; parents are made.
  void Write(const std::string& path, const std::string& content) const;
  std::string Path(const std::string& path) const { return root_ + path; }

 private:
  std::string folder_, root_;
};

}  // namespace kiln::daemon
