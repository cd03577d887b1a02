#include "daemon/frontend/dockerfile/syntax/lines.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/directive.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

constexpr size_t kMaxLine = 65535;  // without the newline

absl::string_view TrimNewline(absl::string_view line) {
  const size_t last = line.find_last_not_of("\r\n");
  return line.substr(0, last == absl::string_view::npos ? 0 : last + 1);
}

absl::string_view TrimTabs(absl::string_view line) {
  return line.substr(std::min(line.find_first_not_of('\t'), line.size()));
}

// Physical lines, ends included. A line that is too long ends the file, as far as lines go.
class PhysicalLines {
 public:
  explicit PhysicalLines(absl::string_view data) : rest_(data) {}

  bool Next(absl::string_view* line) {
    if (rest_.empty() || too_long_) return false;
    const size_t newline = rest_.find('\n');
    too_long_ = std::min(newline, rest_.size()) > kMaxLine;
    if (too_long_) return false;
    *line = rest_.substr(0, newline == absl::string_view::npos ? newline : newline + 1);
    rest_.remove_prefix(line->size());
    ++count_;
    if (count_ == 1) *line = StripBom(*line);
    return true;
  }

  int count() const { return count_; }
  bool too_long() const { return too_long_; }

 private:
  absl::string_view rest_;
  int count_ = 0;  // lines taken
  bool too_long_ = false;
};

class LineReader {
 public:
  LineReader(absl::string_view data, LogicalLines* out) : source_(data), out_(*out) {}

  absl::Status Run();

 private:
  // A comment, a directive, or both. `raw` is the whole line, `text` without white space around.
  absl::Status Comment(absl::string_view raw, absl::string_view text);
  absl::Status Instruction(absl::string_view text);
  absl::Status ReadHeredocs(LogicalLine* line);
  // Takes a continuation character off the end of `*text`. False: the instruction ends here.
  bool TakeContinuation(absl::string_view* text) const;

  PhysicalLines source_;
  LogicalLines& out_;
  DirectiveScanner directives_;
  std::vector<std::string> comments_;
};

absl::Status LineReader::Run() {
  absl::string_view raw;
  while (source_.Next(&raw)) {
    const absl::string_view text = TrimLeadingSpace(TrimNewline(raw));
    if (absl::StartsWith(text, "#")) {
      KILN_RETURN_IF_ERROR(Comment(raw, text));
      continue;
    }
    if (!directives_.done()) KILN_RETURN_IF_ERROR(directives_.Next(text).status());
    if (!text.empty()) KILN_RETURN_IF_ERROR(Instruction(text));
  }
  if (source_.too_long()) {
    return WithLocation(absl::InvalidArgumentError(absl::StrCat(
                            "dockerfile line greater than max allowed size of ", kMaxLine)),
                        {source_.count() + 1, source_.count() + 1});
  }
  if (out_.lines.empty()) {
    return WithLocation(absl::InvalidArgumentError("file with no instructions"),
                        {source_.count(), source_.count()});
  }
  return absl::OkStatus();
}

absl::Status LineReader::Comment(absl::string_view raw, absl::string_view text) {
  const auto directive = directives_.Next(text);
  absl::Status status = directive.status();
  if (status.ok() && directive->has_value() && (*directive)->key == "escape") {
    const std::string& value = (*directive)->value;
    if (value == "`" || value == "\\") {
      out_.escape = value[0];
    } else {
      status = absl::InvalidArgumentError(
          absl::StrCat("invalid escape token '", value, "' does not match ` or \\"));
    }
  }
  // BuildKit counts this line from 0.
  if (!status.ok()) return WithLocation(status, {source_.count() - 1, source_.count() - 1});
  if (directive->has_value()) return absl::OkStatus();
  // One byte is cut off the raw line: an indented comment keeps its '#', as in BuildKit.
  const absl::string_view comment = TrimSpace(raw.substr(1));
  if (comment.empty()) {
    comments_.clear();
  } else {
    comments_.emplace_back(comment);
  }
  return absl::OkStatus();
}

absl::Status LineReader::Instruction(absl::string_view text) {
  LogicalLine& line = out_.lines.emplace_back();
  line.lines.first = source_.count();
  bool more = TakeContinuation(&text);
  line.code = std::string(text);
  bool has_empty = false;
  absl::string_view raw;
  while (more && source_.Next(&raw)) {
    absl::string_view next = TrimNewline(raw);
    const absl::string_view trimmed = TrimLeadingSpace(next);
    if (absl::StartsWith(trimmed, "#")) continue;
    if (trimmed.empty()) {
      has_empty = true;
      continue;
    }
    more = TakeContinuation(&next);
    absl::StrAppend(&line.code, next);
  }
  line.lines.last = source_.count();
  if (has_empty) out_.empty_continuations.push_back(line.lines.last);
  auto split = Split(line.code, out_.escape);
  if (!split.ok()) return WithLocation(split.status(), line.lines);
  line.split = *std::move(split);
  if (line.split.takes_heredocs && absl::StrContains(line.code, "<<"))
    KILN_RETURN_IF_ERROR(ReadHeredocs(&line));
  line.comments = std::exchange(comments_, {});
  return absl::OkStatus();
}

absl::Status LineReader::ReadHeredocs(LogicalLine* line) {
  auto heredocs = FindHeredocs(line->code);
  if (!heredocs.ok()) return WithLocation(heredocs.status(), line->lines);
  line->heredocs = *std::move(heredocs);
  for (Heredoc& heredoc : line->heredocs) {
    bool terminated = false;
    absl::string_view raw;
    while (!terminated && source_.Next(&raw)) {
      absl::string_view text = TrimNewline(raw);
      if (heredoc.chomp) text = TrimTabs(text);
      terminated = text == heredoc.name;
      if (!terminated) absl::StrAppend(&heredoc.content, raw);
    }
    line->lines.last = source_.count();
    if (!terminated)
      return WithLocation(absl::InvalidArgumentError("unterminated heredoc"), line->lines);
  }
  return absl::OkStatus();
}

bool LineReader::TakeContinuation(absl::string_view* text) const {
  const size_t last = text->find_last_not_of(" \t");
  if (last == absl::string_view::npos || (*text)[last] != out_.escape) return false;
  // Two of them stand for the character itself; so do three, as in BuildKit.
  if (last > 0 && (*text)[last - 1] == out_.escape) return false;
  text->remove_suffix(text->size() - last);
  return true;
}

}  // namespace

absl::Status ReadLines(absl::string_view data, LogicalLines* out) {
  return LineReader(data, out).Run();
}

}  // namespace kiln::daemon::dockerfile
