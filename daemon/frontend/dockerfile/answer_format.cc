#include "daemon/frontend/dockerfile/answer_format.h"

#include <algorithm>
#include <set>

namespace kiln::daemon::dockerfile {
namespace {

// In characters, not bytes.
size_t Width(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace

std::string Indented(absl::string_view json) {
  std::string out;
  size_t depth = 0;
  bool in_string = false;
  const auto newline = [&] {
    out += '\n';
    out.append(2 * depth, ' ');
  };
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      out += c;
      if (c == '\\') {
        out += json[++i];
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case ' ':
      case '\n':
        break;
      case '"':
        in_string = true;
        out += c;
        break;
      case '{':
      case '[':
        out += c;
        if (i + 1 < json.size() && (json[i + 1] == '}' || json[i + 1] == ']')) {
          out += json[++i];  // stays on the line
          break;
        }
        ++depth;
        newline();
        break;
      case '}':
      case ']':
        --depth;
        newline();
        out += c;
        break;
      case ',':
        out += c;
        newline();
        break;
      case ':':
        out += ": ";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Table(const std::vector<std::vector<std::string>>& rows, size_t padding) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - Width(row[i]) + padding, ' ');
    }
    out += '\n';
  }
  return out;
}

void WriteLocation(const std::vector<LineRange>& locations, GoJson& json) {
  std::set<int> lines;
  for (const LineRange& range : locations) {
    for (int line = range.first; line > 0 && line <= range.last; ++line) lines.insert(line);
  }
  json.BeginObject();
  if (!lines.empty()) {
    json.Key("ranges").BeginArray();
    for (const int line : lines) {
      json.BeginObject();
      json.Key("start").BeginObject().OptInt("line", line).EndObject();
      json.Key("end").BeginObject().OptInt("line", line).EndObject();
      json.EndObject();
    }
    json.EndArray();
  }
  json.EndObject();
}

}  // namespace kiln::daemon::dockerfile
