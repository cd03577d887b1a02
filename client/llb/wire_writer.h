#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// Writes messages in protobuf's wire format, field by field. By hand, because a graph has tens of
// thousands of small messages: making them objects first takes longer than all else.
//
// Canonical bytes are up to the caller: fields in ascending order, map entries sorted by key.
class WireWriter {
 public:
  WireWriter() = default;
  // Goes on after fields that are written already.
  explicit WireWriter(std::string text) : text_(std::move(text)) {}

  // Nothing for 0, as proto3 has it.
  WireWriter& Number(int field, int64_t value) {
    return value == 0 ? *this : Present(field, value);
  }
  // Also for 0: a member of a oneof.
  WireWriter& Present(int field, int64_t value) {
    char bytes[2 * kMaxVarint];
    char* const number = PutVarint(static_cast<uint64_t>(field) << 3, bytes);
    Append(absl::string_view(bytes, PutVarint(static_cast<uint64_t>(value), number) - bytes));
    return *this;
  }
  // Nothing when empty.
  WireWriter& Text(int field, absl::string_view text) {
    return text.empty() ? *this : Item(field, text);
  }
  // Also when empty: an element of a repeated field, a key or value of a map.
  WireWriter& Item(int field, absl::string_view bytes) { return Item(field, {bytes}); }
  WireWriter& Item(int field, std::initializer_list<absl::string_view> pieces) {
    size_t size = 0;
    for (const absl::string_view piece : pieces) size += piece.size();
    char head[2 * kMaxVarint];
    Append(absl::string_view(head, PutVarint(size, PutVarint(Tag(field), head)) - head));
    for (const absl::string_view piece : pieces) Append(piece);
    return *this;
  }
  // A message, also when empty; `fill` writes its fields, or the numbers of a packed field.
  template <typename Fill>
  WireWriter& Message(int field, Fill fill) {
    Nest(field, 1, fill);
    return *this;
  }
  // The same for messages that mostly take 128 bytes to 16 KiB: of those the bytes are not moved.
  template <typename Fill>
  WireWriter& LargeMessage(int field, Fill fill) {
    Nest(field, 2, fill);
    return *this;
  }
  // Returns the size of the message, whose bytes are the last ones.
  template <typename Fill>
  size_t LargeMessageSize(int field, Fill fill) {
    return Nest(field, 2, fill);
  }
  void Varint(uint64_t value) {
    if (value < 0x80) {  // most
      text_.push_back(static_cast<char>(value));
      return;
    }
    char bytes[kMaxVarint];
    text_.append(bytes, PutVarint(value, bytes) - bytes);
  }
  // Fields that are written already.
  WireWriter& Append(absl::string_view fields) {
    text_.append(fields.data(), fields.size());
    return *this;
  }

  // Only the first `size` bytes stay.
  void Truncate(size_t size) { text_.resize(size); }
  void Reserve(size_t bytes) { text_.reserve(bytes); }
  size_t size() const { return text_.size(); }
  absl::string_view text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  static constexpr size_t kMaxVarint = 10;

  // Of a field with a length.
  static uint64_t Tag(int field) { return static_cast<uint64_t>(field) << 3 | 2; }
  // Leaves `place` bytes for the length and fills them in afterwards.
  template <typename Fill>
  size_t Nest(int field, size_t place, Fill& fill) {
    Varint(Tag(field));
    const size_t at = text_.size();
    text_.append(place, '\0');
    fill();
    const size_t size = text_.size() - at - place;
    char length[kMaxVarint];
    const size_t taken = PutVarint(size, length) - length;
    if (taken == place) {
      std::copy(length, length + taken, text_.begin() + at);
    } else {
      text_.replace(at, place, length, taken);
    }
    return size;
  }
  // Returns the end of what it wrote.
  static char* PutVarint(uint64_t value, char* out) {
    for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
    *out++ = static_cast<char>(value);
    return out;
  }

  std::string text_;
};

}  // namespace kiln::client::llb
