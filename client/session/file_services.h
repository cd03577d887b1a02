#pragma once

#include <memory>

#include "client/session/services.h"

namespace kiln::client {

// FileSync: sends local directories. FileSend: takes exports.
SessionService MakeFileSync(const SessionOptions& options);
SessionService MakeFileSend(const SessionOptions& options);

// Decodes application/x-www-form-urlencoded text: "+" is a space, "%41" a byte.
std::string QueryUnescape(absl::string_view text);

}  // namespace kiln::client
