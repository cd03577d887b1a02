#include "daemon/image/raw_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// The end of the string that starts with the quote at `begin`.
size_t EndOfString(absl::string_view text, size_t begin) {
  size_t i = begin + 1;
  while (i < text.size() && text[i] != '"') i += text[i] == '\\' ? 2 : 1;
  return std::min(i + 1, text.size());
}

absl::Status CheckDepth(absl::string_view text) {
  int depth = 0;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"') {
      i = EndOfString(text, i);
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMaxJsonDepth)
      return absl::InvalidArgumentError(absl::StrCat("JSON nests deeper than ", kMaxJsonDepth));
    ++i;
  }
  return absl::OkStatus();
}

absl::Status CheckJson(absl::string_view text) {
  KILN_RETURN_IF_ERROR(CheckDepth(text));
  if (!nlohmann::json::accept(text.begin(), text.end()))
    return absl::InvalidArgumentError("not valid JSON");
  return absl::OkStatus();
}

// Splits what is between the outer brackets of a compact text at its commas.
std::vector<absl::string_view> SplitTop(absl::string_view compact) {
  std::vector<absl::string_view> parts;
  size_t begin = 1;
  int depth = 0;
  for (size_t i = 1; i + 1 < compact.size();) {
    const char c = compact[i];
    if (c == '"') {
      i = EndOfString(compact, i);
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c == ',' && depth == 0) {
      parts.push_back(compact.substr(begin, i - begin));
      begin = i + 1;
    }
    ++i;
  }
  if (compact.size() > 2) parts.push_back(compact.substr(begin, compact.size() - 1 - begin));
  return parts;
}

void AppendNewline(int depth, std::string* out) {
  out->push_back('\n');
  out->append(static_cast<size_t>(depth) * 2, ' ');
}

}  // namespace

std::string CompactJson(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!in_string && IsBlank(c)) continue;
    if (in_string && c == '\\' && i + 1 < text.size()) {
      out.push_back(c);
      out.push_back(text[++i]);
      continue;
    }
    if (c == '"') in_string = !in_string;
    if (c == '<') {
      out.append("\\u003c");
    } else if (c == '>') {
      out.append("\\u003e");
    } else if (c == '&') {
      out.append("\\u0026");
    } else if (absl::StartsWith(text.substr(i), "\xe2\x80\xa8")) {
      out.append("\\u2028");
      i += 2;
    } else if (absl::StartsWith(text.substr(i), "\xe2\x80\xa9")) {
      out.append("\\u2029");
      i += 2;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

absl::StatusOr<std::vector<JsonMember>> JsonMembers(absl::string_view text) {
  KILN_RETURN_IF_ERROR(CheckJson(text));
  const std::string compact = CompactJson(text);
  if (!absl::StartsWith(compact, "{")) return absl::InvalidArgumentError("not a JSON object");
  std::vector<JsonMember> members;
  for (const absl::string_view part : SplitTop(compact)) {
    const size_t end = EndOfString(part, 0);
    const absl::string_view quoted = part.substr(0, end);
    const nlohmann::json name = nlohmann::json::parse(quoted.begin(), quoted.end(), nullptr, false);
    if (!name.is_string()) return absl::InvalidArgumentError("not valid JSON");
    JsonMember member(name.get<std::string>(), std::string(part.substr(end + 1)));
    const auto same = std::find_if(members.begin(), members.end(), [&](const JsonMember& other) {
      return other.first == member.first;
    });
    if (same != members.end()) {
      same->second = std::move(member.second);
    } else {
      members.push_back(std::move(member));
    }
  }
  return members;
}

absl::StatusOr<std::vector<std::string>> JsonItems(absl::string_view text) {
  KILN_RETURN_IF_ERROR(CheckJson(text));
  const std::string compact = CompactJson(text);
  std::vector<std::string> items;
  if (compact == "null") return items;
  if (!absl::StartsWith(compact, "[")) return absl::InvalidArgumentError("not a JSON array");
  for (const absl::string_view part : SplitTop(compact)) items.emplace_back(part);
  return items;
}

std::string IndentJson(absl::string_view compact) {
  std::string out;
  out.reserve(compact.size() * 2);
  int depth = 0;
  for (size_t i = 0; i < compact.size();) {
    const char c = compact[i];
    if (c == '"') {
      const size_t end = EndOfString(compact, i);
      out.append(compact.data() + i, end - i);
      i = end;
      continue;
    }
    const bool opens = c == '{' || c == '[';
    const bool closes = c == '}' || c == ']';
    const bool empty_before = i > 0 && (compact[i - 1] == '{' || compact[i - 1] == '[');
    if (closes && --depth >= 0 && !empty_before) AppendNewline(depth, &out);
    out.push_back(c);
    if (opens) ++depth;
    const bool empty_after =
        opens && i + 1 < compact.size() && (compact[i + 1] == '}' || compact[i + 1] == ']');
    if ((opens && !empty_after) || c == ',') AppendNewline(depth, &out);
    if (c == ':') out.push_back(' ');
    ++i;
  }
  return out;
}

}  // namespace kiln::daemon
