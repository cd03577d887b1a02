#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace kiln {

// Writes JSON byte for byte as Go's encoding/json marshals it: no spaces, '<', '>', '&', U+2028 and
// U+2029 escaped, invalid UTF-8 replaced by \ufffd, bytes as standard base64. Digests of ops are
// taken over such text, so every byte counts (BuildKit, cache map digests). The caller orders
// members and leaves out zero values where the Go struct says omitempty. Not thread-safe.
//
//   GoJson json;
//   json.BeginObject().Key("Type").String("buildkit.merge.v0").EndObject();
class GoJson {
 public:
  GoJson& BeginObject() { return Open('{'); }
  GoJson& EndObject() { return Close('}'); }
  GoJson& BeginArray() { return Open('['); }
  GoJson& EndArray() { return Close(']'); }
  // Member name; the next call writes its value.
  GoJson& Key(absl::string_view name);
  GoJson& String(absl::string_view value);
  GoJson& Bytes(absl::string_view value);  // base64 text
  GoJson& Int(int64_t value);
  GoJson& Uint(uint64_t value);
  GoJson& Bool(bool value);
  GoJson& Null();
  // Text that is JSON already.
  GoJson& Raw(absl::string_view json);

  // Members that Go leaves out when zero (omitempty).
  GoJson& OptString(absl::string_view name, absl::string_view value);
  GoJson& OptInt(absl::string_view name, int64_t value);
  GoJson& OptUint(absl::string_view name, uint64_t value);
  GoJson& OptBool(absl::string_view name, bool value);

  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  GoJson& Open(char c);
  GoJson& Close(char c);
  void Separate();

  std::string text_;
  bool need_comma_ = false;
};

// `value` as a JSON string, quotes included, escaped as above.
void AppendGoJsonString(absl::string_view value, std::string* out);

}  // namespace kiln
