#include "daemon/exporter/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::StatusOr<Fd> MemoryFile(absl::string_view bytes) {
  Fd file(::memfd_create("kiln-export", MFD_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, "make a memory file");
  KILN_RETURN_IF_ERROR(WriteAll(file.get(), bytes));
  if (::lseek(file.get(), 0, SEEK_SET) < 0) return ErrnoStatus(errno, "rewind a memory file");
  return file;
}

}  // namespace kiln::daemon
