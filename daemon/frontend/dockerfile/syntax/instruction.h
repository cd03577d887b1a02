#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/frontend/dockerfile/syntax/heredoc.h"
#include "daemon/frontend/dockerfile/syntax/location.h"

// The instructions of a Dockerfile as values. Nothing in here is expanded: words keep their quotes,
// escapes and `$` (ExpandWord takes them away), unless a comment says otherwise.
namespace kiln::daemon::dockerfile {

// What all instructions have.
struct InstructionText {
  std::string keyword;  // as written: "RUN", "run"
  // The whole instruction with its continuation lines joined, no white space around it, bodies of
  // here-documents left out. Steps are named after it.
  std::string code;
  LineRange lines;  // to the end of the last here-document
  // The comments before it, without '#' and the white space around. An empty comment starts the
  // list anew; a blank line does not.
  std::vector<std::string> comments;
};

// NAME=value of ENV and LABEL. May keep quotes and references, in both parts.
struct KeyValue {
  std::string key;
  std::string value;
  bool legacy = false;  // written "NAME rest of the line"
};

// One of an ARG. The key is never expanded.
struct ArgDefinition {
  std::string key;
  std::optional<std::string> value;  // the default; nullopt without '='
  std::string description;           // of the comment "# KEY description"
};

// A command in exec or shell form. Never expanded: the shell does that.
struct CommandLine {
  // Exec form: the arguments. Shell form: one string, or nothing for an instruction without text.
  std::vector<std::string> args;
  bool shell_form = true;
};

struct Arg {
  std::vector<ArgDefinition> args;  // at least one
};
struct Env {
  std::vector<KeyValue> pairs;  // at least one
};
struct Label {
  std::vector<KeyValue> pairs;  // at least one
};

enum class RunNetwork { kDefault, kNone, kHost };
enum class RunSecurity { kSandbox, kInsecure };

struct RunMount {
  std::string flag;  // for ParseMount, once the stage's variables are known
  std::string from;  // the dependency; final, as variables are refused here
};

struct RunDevice {
  std::string name;  // "vendor.com/class=name"
  bool required = false;
};

struct Run {
  CommandLine command;
  std::vector<RunMount> mounts;
  RunNetwork network = RunNetwork::kDefault;
  RunSecurity security = RunSecurity::kSandbox;
  std::vector<RunDevice> devices;
  std::vector<Heredoc> heredocs;  // content unchomped; only in shell form
};

// A here-document that is copied as a file.
struct InlineFile {
  std::string name;
  std::string data;    // chomped if "<<-"
  bool expand = true;  // with ExpandOptions::ignore_quotes and the backslash
};

// What COPY and ADD share.
struct CopyPaths {
  std::vector<std::string> sources;      // paths and URLs in order
  std::vector<InlineFile> inline_files;  // these come after the sources
  std::string dest;
};

struct Copy {
  CopyPaths paths;
  std::string from;  // not expanded
  std::string chown;
  std::string chmod;
  bool link = false;
  bool parents = false;
  std::vector<std::string> exclude;  // not expanded
};

struct Add {
  CopyPaths paths;
  std::string chown;
  std::string chmod;
  bool link = false;
  std::vector<std::string> exclude;  // not expanded
  std::string checksum;
  std::optional<bool> keep_git_dir;
  std::optional<bool> unpack;
};

struct Cmd {
  CommandLine command;
};
struct Entrypoint {
  CommandLine command;
};
struct Shell {
  std::vector<std::string> args;  // at least one
};
struct Workdir {
  std::string path;
};
struct User {
  std::string user;
};
struct Expose {
  std::vector<std::string> ports;  // sorted by bytes; ExpandWords each
};
struct Volume {
  std::vector<std::string> paths;  // none of them blank
};
struct StopSignal {
  std::string signal;
};

struct Healthcheck {
  // {"NONE"}, {"CMD", args…} or {"CMD-SHELL", text}. Not expanded.
  std::vector<std::string> test;
  // Zero: not given.
  absl::Duration interval, timeout, start_period, start_interval;
  int64_t retries = 0;
};

struct Onbuild {
  // The instruction to come, with its here-documents: ParseTrigger reads it.
  std::string trigger;
};
struct Maintainer {
  std::string author;
};

using InstructionBody =
    std::variant<Arg, Env, Label, Run, Copy, Add, Cmd, Entrypoint, Shell, Workdir, User, Expose,
                 Volume, StopSignal, Healthcheck, Onbuild, Maintainer>;

struct Instruction {
  InstructionText text;
  InstructionBody body;
};

}  // namespace kiln::daemon::dockerfile
