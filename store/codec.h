#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln::store {

// Building blocks of row keys and of small row values. Fixed-width numbers are big-endian, so that
// bytes compare as the numbers do.
void AppendFixed32(std::string* out, uint32_t value);
void AppendFixed64(std::string* out, uint64_t value);
// The order of signed numbers, and its reverse (largest first).
void AppendOrdered64(std::string* out, int64_t value);
void AppendDescending64(std::string* out, int64_t value);
// Length, then bytes: no encoded text is a prefix of another's row.
void AppendText(std::string* out, absl::string_view text);
// Bytes compare as the texts do, and no encoded text is a prefix of another: 0 is written as 0 255,
// the end as 0 1.
void AppendOrderedText(std::string* out, absl::string_view text);
void AppendKey(std::string* out, const Digest& key);  // kSize raw bytes

// Reads what the functions above wrote. The first short or ill-formed field makes ok() false and
// every later read yields zeros; input is untrusted.
class Decoder {
 public:
  explicit Decoder(absl::string_view bytes) : rest_(bytes) {}

  uint8_t Byte();
  uint32_t Fixed32();
  uint64_t Fixed64();
  int64_t Ordered64();
  int64_t Descending64();
  absl::string_view Text();
  std::string OrderedText();
  Digest Key();

  bool ok() const { return ok_; }
  // Everything was read and nothing was wrong.
  bool Done() const { return ok_ && rest_.empty(); }
  // Takes everything that is left.
  absl::string_view Rest() { return Take(rest_.size()); }

 private:
  absl::string_view Take(size_t size);

  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace kiln::store
