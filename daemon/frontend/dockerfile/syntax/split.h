#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/frontend/dockerfile/syntax/instruction.h"

namespace kiln::daemon::dockerfile {

enum class Keyword {
  kAdd,
  kArg,
  kCmd,
  kCopy,
  kEntrypoint,
  kEnv,
  kExpose,
  kFrom,
  kHealthcheck,
  kLabel,
  kMaintainer,
  kOnbuild,
  kRun,
  kShell,
  kStopSignal,
  kUser,
  kVolume,
  kWorkdir,
  kUnknown,
};

// In any case of letters.
Keyword ToKeyword(absl::string_view word);
// In upper case, in the order of the enumeration.
absl::Span<const std::string> KeywordNames();

// An instruction cut into its parts, which mean nothing yet.
struct SplitInstruction {
  Keyword keyword = Keyword::kUnknown;
  std::string word;                // the keyword as written
  std::vector<std::string> flags;  // the leading words with "--", without their quotes
  std::vector<std::string> args;   // words, elements of the JSON array, or one string
  bool json = false;               // `args` was a JSON array
  std::vector<KeyValue> pairs;     // instead of `args`, for ENV and LABEL
  std::string trigger_word;        // for ONBUILD: the keyword of the instruction within
  // The instruction, or for ONBUILD the one within, may have here-documents.
  bool takes_heredocs = false;
};

// Cuts an instruction whose continuation lines are joined. Keywords are not checked.
// kInvalidArgument for arguments that cannot be cut: a JSON array with other things than strings,
// pairs without '='. Linear, also for ONBUILD ONBUILD ONBUILD…
absl::StatusOr<SplitInstruction> Split(absl::string_view line, char escape);

}  // namespace kiln::daemon::dockerfile
