#include "client/llb/file_action.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace kiln::client::llb {
namespace {

UserOpt ParseUser(absl::string_view text) {
  uint32_t id = 0;
  if (text == "root") return {};
  if (absl::SimpleAtoi(text, &id)) return {"", id};
  return {std::string(text), 0};
}

}  // namespace

ChownOpt ParseChown(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  ChownOpt owner;
  owner.user = ParseUser(parts.first);
  if (parts.first.size() < text.size()) owner.group = ParseUser(parts.second);
  return owner;
}

FileAction& FileAction::Mkdir(absl::string_view path, int mode, MkdirInfo info) {
  actions_.push_back(MkdirAction{std::string(path), mode, std::move(info)});
  return *this;
}

FileAction& FileAction::Mkfile(absl::string_view path, int mode, absl::string_view data,
                               MkfileInfo info) {
  actions_.push_back(MkfileAction{std::string(path), mode, std::string(data), std::move(info)});
  return *this;
}

FileAction& FileAction::Symlink(absl::string_view old_path, absl::string_view new_path,
                                SymlinkInfo info) {
  actions_.push_back(SymlinkAction{std::string(old_path), std::string(new_path), std::move(info)});
  return *this;
}

FileAction& FileAction::Rm(absl::string_view path, RmInfo info) {
  actions_.push_back(RmAction{std::string(path), info});
  return *this;
}

FileAction& FileAction::Copy(const State& from, absl::string_view src, absl::string_view dest,
                             CopyInfo info) {
  actions_.push_back(
      CopyAction{from, nullptr, std::string(src), std::string(dest), std::move(info)});
  return *this;
}

FileAction& FileAction::CopyFromAction(FileAction from, const State& base, absl::string_view src,
                                       absl::string_view dest, CopyInfo info) {
  auto bound = std::make_shared<Bound>(Bound{base, std::move(from.actions_)});
  actions_.push_back(
      CopyAction{State(), std::move(bound), std::string(src), std::string(dest), std::move(info)});
  return *this;
}

FileAction Mkdir(absl::string_view path, int mode, MkdirInfo info) {
  return FileAction().Mkdir(path, mode, std::move(info));
}
FileAction Mkfile(absl::string_view path, int mode, absl::string_view data, MkfileInfo info) {
  return FileAction().Mkfile(path, mode, data, std::move(info));
}
FileAction Symlink(absl::string_view old_path, absl::string_view new_path, SymlinkInfo info) {
  return FileAction().Symlink(old_path, new_path, std::move(info));
}
FileAction Rm(absl::string_view path, RmInfo info) { return FileAction().Rm(path, info); }
FileAction Copy(const State& from, absl::string_view src, absl::string_view dest, CopyInfo info) {
  return FileAction().Copy(from, src, dest, std::move(info));
}

}  // namespace kiln::client::llb
