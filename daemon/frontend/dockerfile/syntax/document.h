#pragma once

#include <string>
#include <vector>

#include "daemon/frontend/dockerfile/syntax/instruction.h"

namespace kiln::daemon::dockerfile {

// A FROM and what follows up to the next one.
struct Stage {
  InstructionText text;      // of the FROM
  std::string base;          // not expanded
  std::string platform;      // --platform, not expanded; "": not given
  std::string name;          // in lower case; "": unnamed
  std::string written_name;  // as written
  std::string as_keyword;    // "AS" as written; "" when unnamed
  std::string description;   // of the comment "# name description"
  std::vector<Instruction> instructions;
};

// What a Dockerfile says, unevaluated. Linting needs no more than this: everything that only the
// text can tell (spelling of keywords, comments, empty continuation lines) is kept.
struct Document {
  char escape = '\\';  // of the escape directive: ExpandOptions::escape
  struct GlobalArg {
    InstructionText text;
    Arg arg;
  };
  std::vector<GlobalArg> global_args;  // ARG before the first FROM
  std::vector<Stage> stages;
  // Last lines of the instructions that have blank lines in a continuation.
  std::vector<int> empty_continuations;
};

}  // namespace kiln::daemon::dockerfile
