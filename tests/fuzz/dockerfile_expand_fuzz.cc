// Text with references from anywhere: no crash, no endless match, valid UTF-8 out, and cutting the
// result into words adds nothing and changes no order.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"
#include "daemon/frontend/dockerfile/syntax/heredoc.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "proto/utf8.h"

namespace {

using namespace kiln::daemon::dockerfile;  // NOLINT: the target is about this namespace

void Require(bool holds) {
  if (!holds) std::abort();
}

std::string WithoutSpace(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    if (!IsSpace(rune.value)) AppendRune(rune.value, &out);
    text.remove_prefix(rune.width);
  }
  return out;
}

// Whether `part` is left when some bytes of `whole` are taken away.
bool IsLeftOf(absl::string_view part, absl::string_view whole) {
  for (const char c : part) {
    const size_t at = whole.find(c);
    if (at == absl::string_view::npos) return false;
    whole.remove_prefix(at + 1);
  }
  return true;
}

// A third of all names is not set, and one is empty.
std::optional<absl::string_view> LookUp(absl::string_view name) {
  static const auto& values = *new std::vector<std::string>{
      "", "value", " two  words ", "/usr/local/lib", "a*b?c\\", "äöü \n 'x' \"y\"", "${a}$b"};
  size_t sum = 0;
  for (const char c : name) sum += static_cast<unsigned char>(c);
  if (sum % 3 == 0) return std::nullopt;
  return values[sum % values.size()];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 8192) return 0;
  const uint8_t bits = data[0];
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  ExpandOptions options;
  options.escape = bits & 1 ? '`' : '\\';
  options.keep_quotes = bits & 2;
  options.keep_escapes = bits & 4;
  options.ignore_quotes = bits & 8;
  options.keep_unset = bits & 16;
  const auto word = ExpandWord(text, options, LookUp);
  const auto words = ExpandWords(text, options, LookUp);
  Require(word.status() == words.status());
  if (word.ok()) {
    Require(kiln::IsValidUtf8(*word));
    Require(IsLeftOf(WithoutSpace(absl::StrJoin(*words, "")), WithoutSpace(*word)));
  }
  FindHeredocs(text).status().IgnoreError();
  return 0;
}
