#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/llb/state.h"

namespace kiln::client::llb {

// A user or group: by name, looked up in the file system that is changed, or by number.
struct UserOpt {
  std::string name;  // "": use `id`
  uint32_t id = 0;
};

struct ChownOpt {
  std::optional<UserOpt> user;
  std::optional<UserOpt> group;
};

// "user[:group]", each a number or a name.
ChownOpt ParseChown(absl::string_view text);

struct MkdirInfo {
  bool make_parents = false;
  std::optional<ChownOpt> owner;
  std::optional<absl::Time> created;
};

struct MkfileInfo {
  std::optional<ChownOpt> owner;
  std::optional<absl::Time> created;
};

struct SymlinkInfo {
  std::optional<ChownOpt> owner;
  std::optional<absl::Time> created;
};

struct RmInfo {
  bool allow_not_found = false;
  bool allow_wildcard = false;
};

struct CopyInfo {
  std::optional<int32_t> mode;  // permission bits; unset keeps the source's
  std::string mode_str;         // symbolic, such as "u+x"; wins over `mode`
  bool follow_symlinks = false;
  bool dir_contents_only = false;
  std::vector<std::string> include_patterns;
  std::vector<std::string> exclude_patterns;
  std::vector<std::string> required_paths;
  bool attempt_unpack = false;
  bool create_dest_path = false;
  bool allow_wildcard = false;
  bool allow_empty_wildcard = false;
  bool always_replace_existing = false;
  std::optional<ChownOpt> owner;
  std::optional<absl::Time> created;
};

// A chain of changes to a file system, applied in order as one step. A value.
class FileAction {
 public:
  FileAction() = default;

  FileAction& Mkdir(absl::string_view path, int mode, MkdirInfo info = {});
  FileAction& Mkfile(absl::string_view path, int mode, absl::string_view data,
                     MkfileInfo info = {});
  FileAction& Symlink(absl::string_view old_path, absl::string_view new_path,
                      SymlinkInfo info = {});
  FileAction& Rm(absl::string_view path, RmInfo info = {});
  // Copies `src` of `from` to `dest`.
  FileAction& Copy(const State& from, absl::string_view src, absl::string_view dest,
                   CopyInfo info = {});
  // Copies from what `from` makes of `base`, inside the same step.
  FileAction& CopyFromAction(FileAction from, const State& base, absl::string_view src,
                             absl::string_view dest, CopyInfo info = {});

  bool empty() const { return actions_.empty(); }

 private:
  friend class FileVertex;

  struct MkdirAction {
    std::string path;
    int mode;
    MkdirInfo info;
  };
  struct MkfileAction {
    std::string path;
    int mode;
    std::string data;
    MkfileInfo info;
  };
  struct SymlinkAction {
    std::string old_path, new_path;
    SymlinkInfo info;
  };
  struct RmAction {
    std::string path;
    RmInfo info;
  };
  struct Bound;
  struct CopyAction {
    State from;
    std::shared_ptr<Bound> action;  // instead of `from`
    std::string src, dest;
    CopyInfo info;
  };
  using Action = std::variant<MkdirAction, MkfileAction, SymlinkAction, RmAction, CopyAction>;
  // An action chain with the state it starts from.
  struct Bound {
    State base;
    std::vector<Action> actions;
  };

  std::vector<Action> actions_;
};

// Chains of one action.
FileAction Mkdir(absl::string_view path, int mode, MkdirInfo info = {});
FileAction Mkfile(absl::string_view path, int mode, absl::string_view data, MkfileInfo info = {});
FileAction Symlink(absl::string_view old_path, absl::string_view new_path, SymlinkInfo info = {});
FileAction Rm(absl::string_view path, RmInfo info = {});
FileAction Copy(const State& from, absl::string_view src, absl::string_view dest,
                CopyInfo info = {});

}  // namespace kiln::client::llb
