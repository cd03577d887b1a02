#include "proto/go_json.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/utf8.h"

namespace kiln {

namespace {

void AppendAscii(char c, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
    case '\\':
      out->push_back('\\');
      out->push_back(c);
      return;
    case '\b':
      out->append("\\b");
      return;
    case '\f':
      out->append("\\f");
      return;
    case '\n':
      out->append("\\n");
      return;
    case '\r':
      out->append("\\r");
      return;
    case '\t':
      out->append("\\t");
      return;
    default:
      break;
  }
  if (static_cast<unsigned char>(c) >= 0x20 && c != '<' && c != '>' && c != '&') {
    out->push_back(c);
    return;
  }
  out->append("\\u00");
  out->push_back(kHex[(c >> 4) & 0xF]);
  out->push_back(kHex[c & 0xF]);
}

}  // namespace

void AppendGoJsonString(absl::string_view value, std::string* out) {
  out->push_back('"');
  const auto* p = reinterpret_cast<const unsigned char*>(value.data());
  size_t left = value.size();
  while (left > 0) {
    const size_t length = Utf8SequenceLength({reinterpret_cast<const char*>(p), left});
    if (length == 0) {
      out->append("\\ufffd");
      ++p;
      --left;
      continue;
    }
    if (length == 1) {
      AppendAscii(static_cast<char>(*p), out);
    } else if (length == 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9)) {
      out->append(p[2] == 0xA8 ? "\\u2028" : "\\u2029");
    } else {
      out->append(reinterpret_cast<const char*>(p), length);
    }
    p += length;
    left -= length;
  }
  out->push_back('"');
}

void GoJson::Separate() {
  if (need_comma_) text_.push_back(',');
  need_comma_ = true;
}

GoJson& GoJson::Open(char c) {
  Separate();
  text_.push_back(c);
  need_comma_ = false;
  return *this;
}

GoJson& GoJson::Close(char c) {
  text_.push_back(c);
  need_comma_ = true;
  return *this;
}

GoJson& GoJson::Key(absl::string_view name) {
  Separate();
  AppendGoJsonString(name, &text_);
  text_.push_back(':');
  need_comma_ = false;
  return *this;
}

GoJson& GoJson::String(absl::string_view value) {
  Separate();
  AppendGoJsonString(value, &text_);
  return *this;
}

GoJson& GoJson::Bytes(absl::string_view value) {
  Separate();
  absl::StrAppend(&text_, "\"", absl::Base64Escape(value), "\"");
  return *this;
}

GoJson& GoJson::Int(int64_t value) {
  Separate();
  absl::StrAppend(&text_, value);
  return *this;
}

GoJson& GoJson::Uint(uint64_t value) {
  Separate();
  absl::StrAppend(&text_, value);
  return *this;
}

GoJson& GoJson::Bool(bool value) { return Raw(value ? "true" : "false"); }

GoJson& GoJson::Null() { return Raw("null"); }

GoJson& GoJson::Raw(absl::string_view json) {
  Separate();
  text_.append(json.data(), json.size());
  return *this;
}

GoJson& GoJson::OptString(absl::string_view name, absl::string_view value) {
  return value.empty() ? *this : Key(name).String(value);
}

GoJson& GoJson::OptInt(absl::string_view name, int64_t value) {
  return value == 0 ? *this : Key(name).Int(value);
}

GoJson& GoJson::OptUint(absl::string_view name, uint64_t value) {
  return value == 0 ? *this : Key(name).Uint(value);
}

GoJson& GoJson::OptBool(absl::string_view name, bool value) {
  return value ? Key(name).Bool(true) : *this;
}

}  // namespace kiln
