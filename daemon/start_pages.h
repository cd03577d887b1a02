#pragma once

#include "absl/status/status.h"

namespace kiln::daemon {

// Gives up this process's hold on the code and constants that only its start needed: start-up runs
// through most of the program once, and what it touched counts as resident from then on. The pages
// stay in the page cache; what is used again is mapped again, 64 KiB at a time, without I/O.
// Thread-safe. A debugger's breakpoints set before are lost.
absl::Status DropStartPages();

}  // namespace kiln::daemon
