#include "tests/daemon/executor/scratch_rootfs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace kiln::daemon {

namespace fs = std::filesystem;

ScratchRootfs::ScratchRootfs() {
  constexpr char kBusybox[] = "/bin/busybox";
  if (::geteuid() != 0 || ::access(kBusybox, X_OK) != 0) {
    std::fprintf(stderr, "this test needs root and the package busybox-static\n");
    std::abort();
  }
  char pattern[] = "/tmp/kiln-executor-XXXXXX";
  if (::mkdtemp(pattern) == nullptr) std::abort();
  folder_ = pattern;
  root_ = folder_ + "/rootfs";
  for (const char* dir : {"/bin", "/tmp", "/root"}) fs::create_directories(root_ + dir);
  fs::copy_file(kBusybox, root_ + "/bin/busybox");
  for (const char* applet :
       {"sh",    "true",    "false", "cat",  "echo",  "ls",     "sleep", "id",       "env",
        "pwd",   "touch",   "mkdir", "stat", "dd",    "yes",    "head",  "hostname", "ip",
        "mknod", "setsid",  "ln",    "rm",   "chmod", "chown",  "kill",  "wc",       "seq",
        "grep",  "unshare", "tail",  "nc",   "mount", "ulimit", "date"})
    fs::create_symlink("busybox", root_ + "/bin/" + applet);
  ::chmod((root_ + "/tmp").c_str(), 01777);
}

ScratchRootfs::~ScratchRootfs() {
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) std::fprintf(stderr, "left %s: %s\n", folder_.c_str(), error.message().c_str());
}

void ScratchRootfs::Write(const std::string& path, const std::string& content) const {
  fs::create_directories(fs::path(root_ + path).parent_path());
  std::ofstream(root_ + path, std::ios::binary) << content;
}

}  // namespace kiln::daemon
