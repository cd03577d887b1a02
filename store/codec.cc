#include "store/codec.h"

namespace kiln::store {
namespace {

// Flipping the sign bit makes two's complement order equal to byte order.
uint64_t Flip(int64_t value) { return static_cast<uint64_t>(value) ^ (uint64_t{1} << 63); }

}  // namespace

void AppendFixed32(std::string* out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

void AppendFixed64(std::string* out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

void AppendOrdered64(std::string* out, int64_t value) { AppendFixed64(out, Flip(value)); }

void AppendDescending64(std::string* out, int64_t value) { AppendFixed64(out, ~Flip(value)); }

void AppendText(std::string* out, absl::string_view text) {
  AppendFixed32(out, static_cast<uint32_t>(text.size()));
  out->append(text.data(), text.size());
}

void AppendOrderedText(std::string* out, absl::string_view text) {
  for (const char c : text) {
    out->push_back(c);
    if (c == '\0') out->push_back('\xff');
  }
  out->push_back('\0');
  out->push_back('\1');
}

void AppendKey(std::string* out, const Digest& key) {
  out->append(key.raw().data(), key.raw().size());
}

absl::string_view Decoder::Take(size_t size) {
  if (!ok_ || rest_.size() < size) {
    ok_ = false;
    rest_ = absl::string_view();
    return absl::string_view();
  }
  const absl::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

uint8_t Decoder::Byte() {
  const absl::string_view bytes = Take(1);
  return bytes.empty() ? 0 : static_cast<uint8_t>(bytes[0]);
}

uint32_t Decoder::Fixed32() {
  uint32_t value = 0;
  for (const char c : Take(4)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

uint64_t Decoder::Fixed64() {
  uint64_t value = 0;
  for (const char c : Take(8)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

int64_t Decoder::Ordered64() {
  const uint64_t value = Fixed64();
  return ok_ ? static_cast<int64_t>(value ^ (uint64_t{1} << 63)) : 0;
}

int64_t Decoder::Descending64() {
  const uint64_t value = Fixed64();
  return ok_ ? static_cast<int64_t>(~value ^ (uint64_t{1} << 63)) : 0;
}

absl::string_view Decoder::Text() { return Take(Fixed32()); }

std::string Decoder::OrderedText() {
  std::string text;
  while (ok_) {
    const char c = static_cast<char>(Byte());
    if (!ok_) break;
    if (c != '\0') {
      text.push_back(c);
      continue;
    }
    const uint8_t next = Byte();
    if (next == 1 && ok_) return text;
    if (next != 0xff) ok_ = false;
    text.push_back('\0');
  }
  return std::string();
}

Digest Decoder::Key() {
  const absl::string_view raw = Take(Digest::kSize);
  return ok_ ? Digest::FromRaw(raw).value_or(Digest()) : Digest();
}

}  // namespace kiln::store
