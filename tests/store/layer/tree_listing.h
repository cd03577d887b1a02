#pragma once

#include <map>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {

// What a tree holds: "path=content", "path->target", "path/", in order.
inline std::string ShowListing(const Layers& layers) {
  TreeReader reader(layers);
  std::string out;
  Must(reader.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
    absl::StrAppend(&out, path.substr(1));
    if (S_ISDIR(entry.st.st_mode)) {
      out += "/ ";
    } else if (S_ISLNK(entry.st.st_mode)) {
      absl::StrAppend(&out, "->", entry.link, " ");
    } else if (S_ISREG(entry.st.st_mode)) {
      Fd fd = Must(reader.Open(path));
      absl::StrAppend(&out, "=", Must(ReadAll(fd.get())), " ");
    } else {
      out += "? ";
    }
    return true;
  }));
  return out;
}

// Everything that a layer says of a tree, except for times of directories, which are no change by
// themselves: a line for each entry with type, mode, owner, device,
// size, time in seconds, capability, content, and the first name of the same file.
inline std::string ShowWhole(const Layers& layers) {
  TreeReader reader(layers);
  std::string out;
  std::map<std::tuple<int, dev_t, ino_t>, std::string> first;
  Must(reader.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
    const struct stat& st = entry.st;
    absl::StrAppend(&out, path, " ", absl::Hex(st.st_mode), " ", st.st_uid, ":", st.st_gid, " ",
                    S_ISDIR(st.st_mode) ? 0 : st.st_size, " ",
                    S_ISDIR(st.st_mode) ? 0 : st.st_mtim.tv_sec);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) absl::StrAppend(&out, " dev ", st.st_rdev);
    const auto xattrs = Must(reader.Xattrs(entry, path));
    if (auto caps = xattrs.find("security.capability"); caps != xattrs.end())
      absl::StrAppend(&out, " caps ", absl::BytesToHexString(caps->second));
    if (S_ISLNK(st.st_mode)) absl::StrAppend(&out, " -> ", entry.link);
    if (S_ISREG(st.st_mode)) {
      Fd fd = Must(reader.Open(path));
      absl::StrAppend(&out, " ", Digest::Of(Must(ReadAll(fd.get()))).hex().substr(0, 12));
    }
    if (!S_ISDIR(st.st_mode)) {
      const auto [it, added] =
          first.try_emplace(std::make_tuple(entry.layer, st.st_dev, st.st_ino), path);
      if (!added) absl::StrAppend(&out, " same as ", it->second);
    }
    out += "\n";
    return true;
  }));
  return out;
}

}  // namespace kiln::store
