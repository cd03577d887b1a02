#pragma once

#include <string>

namespace kiln::client {

// 25 characters of [0-9a-z], as BuildKit names builds and sessions; 128 random bits.
std::string NewId();

}  // namespace kiln::client
