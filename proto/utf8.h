#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

// UTF-8 as Go and protobuf see it: no surrogates, no overlong forms, nothing past U+10FFFF. What is
// not of that kind may not stand in a text field of a message: Go's peers refuse all of it.
namespace kiln {

// Bytes of the character that begins `text`; 0 when there is none.
size_t Utf8SequenceLength(absl::string_view text);

bool IsValidUtf8(absl::string_view text);
// `text` with every broken byte replaced by U+FFFD.
std::string ToValidUtf8(absl::string_view text);

}  // namespace kiln
