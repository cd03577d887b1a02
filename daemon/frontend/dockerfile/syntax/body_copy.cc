#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/body.h"
#include "daemon/frontend/dockerfile/syntax/flags.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::Status CheckCount(absl::string_view instruction, const SplitInstruction& split) {
  if (split.args.size() >= 2) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(instruction,
                   " requires at least two arguments, but only one was provided. Destination could "
                   "not be determined"));
}

// The here-document that an argument stands for. What cannot be read as one is a path.
std::optional<Heredoc> AsHeredoc(absl::string_view argument) {
  if (!absl::StrContains(argument, "<<")) return std::nullopt;
  auto heredoc = ParseHeredocWord(argument);
  return heredoc.ok() ? *std::move(heredoc) : std::nullopt;
}

absl::StatusOr<CopyPaths> TakePaths(absl::string_view instruction, LogicalLine* line) {
  std::vector<std::string>& args = line->split.args;
  CopyPaths paths;
  paths.dest = std::move(args.back());
  args.pop_back();
  if (line->split.json) {
    paths.sources = std::move(args);
    return paths;
  }
  if (AsHeredoc(paths.dest).has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(instruction, " cannot accept a heredoc as a destination"));
  }
  absl::flat_hash_map<absl::string_view, const Heredoc*> bodies;
  for (const Heredoc& heredoc : line->heredocs) bodies[heredoc.name] = &heredoc;
  for (std::string& arg : args) {
    std::optional<Heredoc> heredoc = AsHeredoc(arg);
    if (!heredoc.has_value()) {
      paths.sources.push_back(std::move(arg));
      continue;
    }
    InlineFile& file = paths.inline_files.emplace_back();
    // A line whose quotes do not close announces nothing, yet its arguments may look so.
    if (const auto body = bodies.find(heredoc->name); body != bodies.end())
      file.data = heredoc->chomp ? ChompTabs(body->second->content) : body->second->content;
    file.expand = heredoc->expand;
    file.name = std::move(heredoc->name);
  }
  return paths;
}

}  // namespace

absl::StatusOr<Copy> ParseCopy(LogicalLine* line) {
  KILN_RETURN_IF_ERROR(CheckCount("COPY", line->split));
  Copy copy;
  FlagSet flags;
  flags.String("chown", &copy.chown);
  flags.String("from", &copy.from);
  flags.String("chmod", &copy.chmod);
  flags.Bool("link", &copy.link);
  flags.Strings("exclude", &copy.exclude);
  flags.Bool("parents", &copy.parents);
  KILN_RETURN_IF_ERROR(flags.Parse(line->split.flags));
  KILN_ASSIGN_OR_RETURN(copy.paths, TakePaths("COPY", line));
  return copy;
}

absl::StatusOr<Add> ParseAdd(LogicalLine* line) {
  KILN_RETURN_IF_ERROR(CheckCount("ADD", line->split));
  Add add;
  bool keep_git_dir = false;
  bool unpack = false;
  FlagSet flags;
  flags.String("chown", &add.chown);
  flags.String("chmod", &add.chmod);
  flags.Bool("link", &add.link);
  flags.Bool("keep-git-dir", &keep_git_dir);
  flags.String("checksum", &add.checksum);
  flags.Bool("unpack", &unpack);
  flags.Strings("exclude", &add.exclude);
  KILN_RETURN_IF_ERROR(flags.Parse(line->split.flags));
  if (flags.given("keep-git-dir")) add.keep_git_dir = keep_git_dir;
  if (flags.given("unpack")) add.unpack = unpack;
  KILN_ASSIGN_OR_RETURN(add.paths, TakePaths("ADD", line));
  return add;
}

}  // namespace kiln::daemon::dockerfile
