// A Dockerfile, and the files beside it, from anywhere: no crash, and what is said about places in
// the file is inside it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/directive.h"
#include "daemon/frontend/dockerfile/syntax/excerpt.h"
#include "daemon/frontend/dockerfile/syntax/ignore_file.h"
#include "daemon/frontend/dockerfile/syntax/mount.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "store/base/pattern_matcher.h"

namespace {

using namespace kiln::daemon::dockerfile;  // NOLINT: the target is about this namespace

void Require(bool holds) {
  if (!holds) std::abort();
}

// Instructions come one after the other and within the file.
class PlaceChecker {
 public:
  explicit PlaceChecker(absl::string_view file)
      : lines_(static_cast<int>(std::count(file.begin(), file.end(), '\n')) + 1) {}

  void Check(const InstructionText& text) {
    Require(text.lines.first > last_ && text.lines.last >= text.lines.first);
    Require(text.lines.last <= lines_);
    last_ = text.lines.last;
  }
  int lines() const { return lines_; }

 private:
  int lines_;
  int last_ = 0;
};

absl::StatusOr<std::string> Same(absl::string_view word) { return std::string(word); }

void Look(const InstructionBody& body) {
  if (const auto* run = std::get_if<Run>(&body)) {
    Require(run->heredocs.empty() || run->command.shell_form);
    for (const RunMount& mount : run->mounts) ParseMount(mount.flag, Same).IgnoreError();
  } else if (const auto* onbuild = std::get_if<Onbuild>(&body)) {
    ParseTrigger(onbuild->trigger, {1, 1}).status().IgnoreError();
  } else if (const auto* volume = std::get_if<Volume>(&body)) {
    Require(!volume->paths.empty());
  } else if (const auto* expose = std::get_if<Expose>(&body)) {
    Require(std::is_sorted(expose->ports.begin(), expose->ports.end()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view file(reinterpret_cast<const char*>(data), size);
  FindSyntax(file);
  FindCheck(file);
  if (const auto patterns = ParseIgnoreFile(file); patterns.ok() && size < 4096)
    kiln::PatternMatcher::Create(*patterns).status().IgnoreError();
  Document document;
  const absl::Status status = Parse(file, &document);
  PlaceChecker places(file);
  for (const Document::GlobalArg& arg : document.global_args) places.Check(arg.text);
  for (const Stage& stage : document.stages) {
    places.Check(stage.text);
    for (const Instruction& instruction : stage.instructions) {
      places.Check(instruction.text);
      Look(instruction.body);
    }
  }
  Require(!status.ok() || !document.stages.empty() || !document.global_args.empty());
  for (const LineRange& lines : LocationsOf(status)) {
    Require(lines.first >= 0 && lines.last <= places.lines());
    Excerpt("Dockerfile", file, lines);
  }
  return 0;
}
