#include "daemon/start_pages.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace kiln::daemon {
namespace {

// Segments that are not writable are exactly what the file holds. Those that relocations were
// written into are writable in the program header, also when they are protected by now.
int DropSegments(dl_phdr_info* object, size_t, void* data) {
  auto* failed = static_cast<int*>(data);
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  bool text_relocated = false;
  const ElfW(Phdr)* const end = object->dlpi_phdr + object->dlpi_phnum;
  for (const ElfW(Phdr)* segment = object->dlpi_phdr; segment != end; ++segment) {
    if (segment->p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + segment->p_vaddr);
    for (; entry->d_tag != DT_NULL; ++entry) {
      text_relocated = text_relocated || entry->d_tag == DT_TEXTREL ||
                       (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0);
    }
  }
  if (text_relocated) return 0;
  for (const ElfW(Phdr)* segment = object->dlpi_phdr; segment != end; ++segment) {
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0) continue;
    const uintptr_t address = object->dlpi_addr + segment->p_vaddr;
    const uintptr_t from = address / page * page;
    // The last page may belong to the next segment as well.
    const uintptr_t to = (address + segment->p_memsz) / page * page;
    if (to > from && madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED) != 0)
      *failed = errno;
  }
  return 0;
}

}  // namespace

absl::Status DropStartPages() {
  int failed = 0;
  dl_iterate_phdr(DropSegments, &failed);
  return failed == 0 ? absl::OkStatus() : absl::ErrnoToStatus(failed, "drop pages of the start");
}

}  // namespace kiln::daemon
