#pragma once

#include "absl/time/time.h"

namespace kiln {

// Sets the system's clock as this process sees it, by `change` from where it is now; until its end.
// Who links wall_clock.cc reads all clocks through it. What the kernel waits for goes by the true
// clock.
void SetWallClockBy(absl::Duration change);

}  // namespace kiln
