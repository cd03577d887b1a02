#include "daemon/executor/user.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxFileBytes = 10 << 20;

std::optional<uint32_t> ParseId(absl::string_view text) {
  uint32_t id = 0;
  if (text.empty() || !absl::SimpleAtoi(text, &id)) return std::nullopt;
  // (uid_t)-1 means "leave alone" to chown and setresuid.
  if (id == UINT32_MAX) return std::nullopt;
  return id;
}

struct PasswdEntry {
  std::string name;
  uint32_t uid = 0, gid = 0;
  std::string home;
};

// Lines that do not parse are skipped, as libc does.
template <typename Visit>
void EachLine(absl::string_view content, size_t min_fields, Visit visit) {
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() >= min_fields && !fields[0].empty() && fields[0][0] != '#')
      if (!visit(fields)) return;
  }
}

std::optional<PasswdEntry> FindPasswd(absl::string_view content, absl::string_view name,
                                      std::optional<uint32_t> uid) {
  std::optional<PasswdEntry> found;
  EachLine(content, 4, [&](const std::vector<absl::string_view>& f) {
    const std::optional<uint32_t> line_uid = ParseId(f[2]), line_gid = ParseId(f[3]);
    if (!line_uid.has_value() || !line_gid.has_value()) return true;
    if (f[0] != name && line_uid != uid) return true;
    found =
        PasswdEntry{std::string(f[0]), *line_uid, *line_gid, f.size() > 5 ? std::string(f[5]) : ""};
    return false;
  });
  return found;
}

std::optional<uint32_t> FindGroup(absl::string_view content, absl::string_view name) {
  std::optional<uint32_t> found;
  EachLine(content, 3, [&](const std::vector<absl::string_view>& f) {
    if (f[0] != name) return true;
    found = ParseId(f[2]);
    return !found.has_value();
  });
  return found;
}

std::vector<uint32_t> GroupsOf(absl::string_view content, absl::string_view member) {
  std::vector<uint32_t> gids;
  EachLine(content, 4, [&](const std::vector<absl::string_view>& f) {
    const std::optional<uint32_t> gid = ParseId(f[2]);
    if (!gid.has_value()) return true;
    for (absl::string_view one : absl::StrSplit(f[3], ','))
      if (one == member) gids.push_back(*gid);
    return true;
  });
  return gids;
}

std::string FileOrEmpty(const Rootfs& rootfs, absl::string_view path) {
  absl::StatusOr<std::string> content = rootfs.ReadRegularFile(path, kMaxFileBytes);
  return content.ok() ? *std::move(content) : "";
}

ProcessUser Make(uint32_t uid, uint32_t gid, std::vector<uint32_t> more) {
  more.insert(more.begin(), gid);
  std::vector<uint32_t> groups;
  for (uint32_t one : more)
    if (std::find(groups.begin(), groups.end(), one) == groups.end()) groups.push_back(one);
  return ProcessUser{uid, gid, std::move(groups)};
}

absl::StatusOr<ProcessUser> Resolve(absl::string_view user, absl::string_view passwd,
                                    absl::string_view group) {
  if (user.empty()) return Make(0, 0, {});
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(user, absl::MaxSplits(':', 1));
  const bool with_group = user.find(':') != absl::string_view::npos;
  if (with_group && parts.first.empty())
    return absl::InvalidArgumentError(absl::StrCat("invalid user ", user, ": no user before ':'"));
  const auto root_or_id = [](absl::string_view text) -> std::optional<uint32_t> {
    return text == "root" ? std::optional<uint32_t>(0) : ParseId(text);
  };
  const std::optional<uint32_t> uid = root_or_id(parts.first), gid = root_or_id(parts.second);
  if (uid.has_value() && gid.has_value()) return Make(*uid, *gid, {});

  std::optional<PasswdEntry> entry = FindPasswd(passwd, parts.first, ParseId(parts.first));
  if (!entry.has_value()) {
    if (!uid.has_value())
      return absl::NotFoundError(absl::StrCat("unable to find user ", parts.first,
                                              ": no matching entries in passwd file"));
    entry = PasswdEntry{"", *uid, 0, ""};
  }
  if (!with_group)
    return Make(entry->uid, entry->gid,
                entry->name.empty() ? std::vector<uint32_t>() : GroupsOf(group, entry->name));
  if (parts.second.empty()) return Make(entry->uid, entry->gid, {});
  std::optional<uint32_t> named = FindGroup(group, parts.second);
  if (!named.has_value()) named = gid;
  if (!named.has_value())
    return absl::NotFoundError(
        absl::StrCat("unable to find group ", parts.second, ": no matching entries in group file"));
  return Make(entry->uid, *named, {});
}

}  // namespace

absl::StatusOr<ProcessUser> ResolveUser(const Rootfs& rootfs, absl::string_view user) {
  const std::string passwd = FileOrEmpty(rootfs, "/etc/passwd");
  KILN_ASSIGN_OR_RETURN(ProcessUser out, Resolve(user, passwd, FileOrEmpty(rootfs, "/etc/group")));
  const std::optional<PasswdEntry> entry = FindPasswd(passwd, "\n", out.uid);
  if (entry.has_value() && !entry->home.empty()) out.home = entry->home;
  return out;
}

}  // namespace kiln::daemon
