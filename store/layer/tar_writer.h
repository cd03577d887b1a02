#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "store/layer/tar_entry.h"

namespace kiln::store {

// The header of `entry`: one ustar block, with a pax header before it only where a value does not
// fit (long or non-ASCII names, large numbers, fractions of seconds) and for extended attributes.
// The name of a directory ends in '/'. atime, extents and stored_size are not written. The bytes
// depend on the entry alone.
std::string EncodeTarHeader(const TarEntry& entry);

// "LENGTH key=value\n", one record of a pax header.
std::string EncodePaxRecord(absl::string_view key, absl::string_view value);

// Zeros that fill the last block of `size` bytes of content.
absl::string_view TarPadding(int64_t size);
// The two blocks that end an archive.
absl::string_view TarEnd();

}  // namespace kiln::store
