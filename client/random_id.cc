#include "client/random_id.h"

#include <sys/random.h>

#include <array>

#include "store/base/check.h"

namespace kiln::client {

std::string NewId() {
  constexpr size_t kLength = 25;
  constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  // 252 = 7 * 36: larger bytes are dropped, so that every digit is equally likely.
  constexpr uint8_t kLimit = 252;
  std::string id;
  while (id.size() < kLength) {
    std::array<uint8_t, 64> bytes;
    KILN_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    for (uint8_t byte : bytes) {
      if (byte < kLimit && id.size() < kLength) id.push_back(kDigits[byte % 36]);
    }
  }
  return id;
}

}  // namespace kiln::client
