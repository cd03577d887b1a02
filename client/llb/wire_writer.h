#pragma once

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
  // Nothing for 0, as proto3 has it.
  WireWriter& Number(int field, int64_t value) {
    return value == 0 ? *this : Present(field, value);
  }
  // Also for 0: a member of a oneof.
  WireWriter& Present(int field, int64_t value) {
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(static_cast<uint64_t>(value));
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
    Tag(field);
    Varint(size);
    for (const absl::string_view piece : pieces) Append(piece);
    return *this;
  }
  // A message, also when empty; `fill` writes its fields, or the numbers of a packed field.
  template <typename Fill>
  WireWriter& Message(int field, Fill fill) {
    Tag(field);
    const size_t at = text_.size();
    text_.push_back('\0');
    fill();
    uint64_t size = text_.size() - at - 1;
    if (size < 0x80) {  // most
      text_[at] = static_cast<char>(size);
      return *this;
    }
    char length[10];
    size_t n = 0;
    for (; size >= 0x80; size >>= 7) length[n++] = static_cast<char>(size | 0x80);
    length[n++] = static_cast<char>(size);
    text_.replace(at, 1, length, n);
    return *this;
  }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_.push_back(static_cast<char>(value | 0x80));
    text_.push_back(static_cast<char>(value));
  }
  // Fields that are written already.
  WireWriter& Append(absl::string_view fields) {
    text_.append(fields.data(), fields.size());
    return *this;
  }

  void Clear() { text_.clear(); }
  void Reserve(size_t bytes) { text_.reserve(bytes); }
  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  // Of a field with a length.
  void Tag(int field) { Varint(static_cast<uint64_t>(field) << 3 | 2); }

  std::string text_;
};

}  // namespace kiln::client::llb
