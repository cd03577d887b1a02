#pragma once

namespace kiln::daemon {

// Puts a MessageLimit on what this process receives with recvmsg(2) from the connected socket `fd`,
// until the descriptor is closed. There is no way to tell gRPC to look at a length before it has
// the message, so the program is linked with recvmsg and close wrapped (ld's --wrap): a load of an
// atomic for each of these calls, and no copy. Nobody may receive from `fd` yet. Thread-safe.
void LimitMessages(int fd);

}  // namespace kiln::daemon
