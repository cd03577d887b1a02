#pragma once

#include "absl/strings/string_view.h"

namespace kiln {

// Prints the failed condition and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, absl::string_view what);

}  // namespace kiln

// For our own bugs, never for outside input. Active in every build type.
#define KILN_CHECK(condition)                                              \
  do {                                                                     \
    if (!(condition)) ::kiln::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
