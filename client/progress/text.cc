#include "client/progress/text.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kiln::client {
namespace {

// Length of the valid UTF-8 sequence at the start of `text`, with its code point; 0 if there is
// none.
size_t DecodeUtf8(absl::string_view text, uint32_t* code) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  size_t length = 1;
  if (lead < 0x80) {
    *code = lead;
    return 1;
  }
  if (lead >= 0xc2 && lead < 0xe0) {
    length = 2, *code = lead & 0x1f;
  } else if (lead >= 0xe0 && lead < 0xf0) {
    length = 3, *code = lead & 0x0f;
  } else if (lead >= 0xf0 && lead < 0xf5) {
    length = 4, *code = lead & 0x07;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    const uint8_t next = static_cast<uint8_t>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    *code = (*code << 6) | (next & 0x3f);
  }
  return length;
}

// East Asian wide and emoji blocks take two columns, combining marks none. Without the locale's
// tables: the same everywhere.
int CodeWidth(uint32_t code) {
  if ((code >= 0x300 && code <= 0x36f) || (code >= 0x200b && code <= 0x200f) ||
      (code >= 0xfe00 && code <= 0xfe0f) || (code >= 0x20d0 && code <= 0x20ff)) {
    return 0;
  }
  const bool wide = (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
                    (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
                    (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
                    (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
  return wide ? 2 : 1;
}

// Length of the escape sequence at the start of `text`; 1 for a lone ESC.
size_t EscapeLength(absl::string_view text) {
  if (text.size() < 2) return 1;
  if (text[1] == '[') {  // CSI: parameters, then a final byte
    size_t i = 2;
    while (i < text.size() && (text[i] < 0x40 || text[i] > 0x7e)) ++i;
    return std::min(i + 1, text.size());
  }
  if (text[1] == ']') {  // OSC: up to BEL or ST
    size_t i = 2;
    while (i < text.size() && text[i] != '\a' && text[i] != '\x1b') ++i;
    if (i + 1 < text.size() && text[i] == '\x1b') ++i;
    return std::min(i + 1, text.size());
  }
  return 2;
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return absl::StrCat(bytes, "B");
  return absl::StrFormat("%.2f%s", value, kUnits[unit]);
}

std::string FormatSeconds(absl::Duration duration) {
  return absl::StrFormat("%.1fs", absl::ToDoubleSeconds(duration));
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t length = DecodeUtf8(text, &code);
    width += length == 0 ? 1 : CodeWidth(code);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return width;
}

std::string ToDisplay(absl::string_view text, int columns) {
  std::string out;
  int width = 0;
  while (!text.empty()) {
    if (text[0] == '\x1b') {
      text.remove_prefix(EscapeLength(text));
      continue;
    }
    uint32_t code = 0;
    const size_t length = DecodeUtf8(text, &code);
    absl::string_view piece = length == 0 ? "?" : text.substr(0, length);
    if (length != 0 && code == '\t') piece = " ";
    text.remove_prefix(length == 0 ? 1 : length);
    // C0, DEL and C1: never let a build move the cursor.
    if (length != 0 && code != '\t' && (code < 0x20 || (code >= 0x7f && code < 0xa0))) continue;
    const int piece_width = length == 0 || code == '\t' ? 1 : CodeWidth(code);
    if (width + piece_width > columns) break;
    width += piece_width;
    out.append(piece.data(), piece.size());
  }
  return out;
}

std::string SummaryLine(const StepCounts& counts, absl::Duration took) {
  std::string line = absl::StrFormat("%d step%s: %d cached, %d run", counts.total,
                                     counts.total == 1 ? "" : "s", counts.cached, counts.run);
  if (counts.failed > 0) absl::StrAppend(&line, ", ", counts.failed, " failed");
  if (counts.canceled > 0) absl::StrAppend(&line, ", ", counts.canceled, " canceled");
  return absl::StrFormat("%s, %.1f s", line, absl::ToDoubleSeconds(took));
}

std::string PartText(const StatusEvent& event) {
  std::string text = event.id;
  if (event.total != 0) {
    absl::StrAppend(&text, " ", FormatBytes(event.current), " / ", FormatBytes(event.total));
  } else if (event.current != 0) {
    absl::StrAppend(&text, " ", FormatBytes(event.current));
  }
  if (event.started) {
    const absl::Duration took = event.completed.value_or(event.timestamp) - *event.started;
    if (took > absl::Milliseconds(10)) absl::StrAppend(&text, " ", FormatSeconds(took));
  }
  if (event.completed) absl::StrAppend(&text, " done");
  return text;
}

}  // namespace kiln::client
