#include "daemon/ops/copy_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/ops/unpack.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"
#include "store/parallel_files.h"

namespace kiln::daemon {

namespace {

using store::Attributes;
using store::CleanPath;
using store::DirView;
using store::Entry;
using store::JoinPath;
using store::NamedChild;
using store::SplitPath;
using store::TreeReader;
using store::TreeWriter;

constexpr uint32_t kPermissionBits = 07777;

// nullopt when there is nothing.
absl::StatusOr<std::optional<Entry>> Find(const TreeReader& tree, absl::string_view path) {
  auto entry = tree.Lstat(path);
  if (absl::IsNotFound(entry.status())) return std::optional<Entry>();
  KILN_RETURN_IF_ERROR(entry.status());
  return std::optional<Entry>(*std::move(entry));
}

std::string Child(const std::string& dir, absl::string_view name) {
  return absl::StrCat(dir == "/" ? "" : dir, "/", name);
}

absl::StatusOr<PatternMatcher> Compile(const std::vector<std::string>& patterns,
                                       absl::string_view what) {
  return Annotate(PatternMatcher::Create(patterns),
                  absl::StrCat("invalid ", what, ": [", absl::StrJoin(patterns, " "), "]"));
}

// One copy action. A source entry is described by its path relative to the root of the copy.
class Copier {
 public:
  Copier(const TreeReader& from, TreeWriter& to, const CopyRequest& request,
         const CancelToken& cancel)
      : from_(from),
        to_(to),
        request_(request),
        cancel_(cancel),
        files_(to, ThreadsFor(from, to)) {}

  absl::Status Run();

 private:
  // A directory on the way down, made in the target once something below it is copied.
  struct Level {
    std::string source, target;
    Entry entry;
    bool present;  // in the target
    bool made;     // by this copy: nothing was below it before
  };
  // What the patterns said of the directory above.
  struct Matches {
    PatternMatchInfo include, exclude;
  };
  enum class Verdict { kCopy, kPass, kPrune };  // kPass: not itself, perhaps something below

  // What is read while it is written must be written in order.
  static size_t ThreadsFor(const TreeReader& from, const TreeWriter& to) {
    const store::Layers& layers = from.layers();
    const bool same =
        std::find(layers.begin(), layers.end(), to.reader().layers().back()) != layers.end();
    return same ? 1 : 0;
  }

  absl::Status CopyMatch(const std::string& source);
  absl::StatusOr<std::string> Place(const Entry& entry);
  absl::Status CopyRoot(const std::string& source, const Entry& entry, const std::string& target);
  absl::Status CopyChildren(const std::string& source, const std::string& relative,
                            const std::string& target, const DirView& dir, const Matches& above);
  // `relative` is that of the child and counts only where there are patterns.
  absl::Status CopyChild(const std::string& source, const std::string& relative,
                         const std::string& target, const DirView& dir, const Entry& entry,
                         Verdict verdict, const Matches& here);
  absl::Status CopyNestedDir(const Level& level, const std::string& relative, const DirView& dir,
                             Verdict verdict, const Matches& here);
  // `is_new`: the target was looked for and is not there.
  absl::Status CopyLeaf(const std::string& source, const Entry& entry, const std::string& target,
                        bool is_new);
  absl::Status CopyRegular(const std::string& source, const Entry& entry, const std::string& target,
                           bool is_new);
  absl::Status CopyXattrs(const std::string& source, const Entry& entry, const std::string& target);

  Verdict Judge(const std::string& relative, bool is_dir, const Matches& above, Matches* here);
  // Makes the directories on the way down that are still missing.
  absl::Status MakeLevels();
  absl::Status MakeLevel(Level* level);
  // True: nothing was there.
  absl::StatusOr<bool> ClearFor(const Entry& source, const std::string& target);
  absl::StatusOr<std::optional<Entry>> FindTarget(const std::string& target) const;

  Attributes MetadataOf(const Entry& entry) const;
  absl::Time TimeOf(const Entry& entry) const {
    return request_.time.value_or(absl::TimeFromTimespec(entry.st.st_mtim));
  }
  Attributes TimeOnly(const Entry& entry) const {
    Attributes attributes;
    attributes.mtime = TimeOf(entry);
    return attributes;
  }
  absl::Status MakeParents(const std::string& path);

  const TreeReader& from_;
  TreeWriter& to_;
  const CopyRequest& request_;
  const CancelToken cancel_;
  PatternMatcher include_, exclude_;
  std::vector<Level> levels_;
  std::vector<std::string> made_parents_;  // of the destination
  store::ParallelFiles files_;
  // Directories whose times are set when all that is in them is there, inner ones first.
  std::vector<std::pair<std::string, Attributes>> ends_;
  // Source files with several names in one layer -> the first name they got.
  std::map<std::tuple<int, dev_t, ino_t>, std::string> links_;
};

absl::Status Copier::Run() {
  KILN_ASSIGN_OR_RETURN(include_, Compile(request_.include_patterns, "includepatterns"));
  KILN_ASSIGN_OR_RETURN(exclude_, Compile(request_.exclude_patterns, "excludepatterns"));
  if (!request_.create_dest) {
    KILN_ASSIGN_OR_RETURN(const std::string dest, to_.reader().ResolveMissing(request_.dest));
    KILN_RETURN_IF_ERROR(Annotate(to_.reader().Lstat(SplitPath(dest).first).status(),
                                  absl::StrCat("failed to stat ", request_.dest)));
  }
  std::vector<std::string> sources = {CleanPath(request_.src)};
  if (request_.wildcard) {
    KILN_ASSIGN_OR_RETURN(sources, ResolveWildcards(from_, request_.src));
    if (sources.empty()) {
      if (request_.allow_empty_wildcard) return absl::OkStatus();
      return absl::NotFoundError(absl::StrCat(CleanPath(request_.src), " not found"));
    }
  }
  for (const std::string& source : sources) KILN_RETURN_IF_ERROR(CopyMatch(source));
  if (!request_.time.has_value()) return absl::OkStatus();
  // Filling a directory changed its time.
  Attributes time;
  time.mtime = request_.time;
  for (auto dir = made_parents_.rbegin(); dir != made_parents_.rend(); ++dir)
    KILN_RETURN_IF_ERROR(to_.SetAttributes(*dir, time));
  return absl::OkStatus();
}

absl::Status Copier::MakeParents(const std::string& path) {
  Attributes attributes;
  attributes.mode = request_.mode.value_or(0755) & 0777;
  attributes.mtime = request_.time;
  if (request_.owner.has_value()) {
    attributes.uid = request_.owner->uid;
    attributes.gid = request_.owner->gid;
  }
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> made, MakeDirs(to_, path, attributes));
  made_parents_.insert(made_parents_.end(), made.begin(), made.end());
  return absl::OkStatus();
}

absl::Status Copier::CopyMatch(const std::string& source) {
  if (request_.unpack) {
    const auto resolved = from_.Resolve(source, true);
    KILN_RETURN_IF_ERROR(resolved.status());
    KILN_ASSIGN_OR_RETURN(const bool archive, IsArchive(from_, *resolved));
    if (archive) {
      KILN_ASSIGN_OR_RETURN(const std::string dest, to_.reader().ResolveMissing(request_.dest));
      Attributes attributes;
      attributes.mode = 0755;
      attributes.mtime = request_.time;
      if (request_.owner.has_value()) {
        attributes.uid = request_.owner->uid;
        attributes.gid = request_.owner->gid;
      }
      KILN_RETURN_IF_ERROR(MakeDirs(to_, dest, attributes).status());
      return Unpack(from_, *resolved, to_, dest, request_.owner, cancel_);
    }
  }
  KILN_ASSIGN_OR_RETURN(const std::string resolved, from_.Resolve(source, request_.follow_symlink));
  KILN_ASSIGN_OR_RETURN(const Entry entry, from_.Lstat(resolved));
  Entry named = entry;
  named.name = SplitPath(source).second;  // the name asked for, not that of a link's target
  KILN_ASSIGN_OR_RETURN(const std::string target, Place(named));
  return CopyRoot(resolved, entry, target);
}

absl::StatusOr<std::string> Copier::Place(const Entry& entry) {
  // Everything up to the last slash is a directory that may have to be made.
  const std::string& raw = request_.dest;
  const bool names_dir = absl::EndsWith(raw, "/") || absl::EndsWith(raw, "/.") || raw == ".";
  const std::string clean = CleanPath(raw);
  const std::string ensure = names_dir ? clean : SplitPath(clean).first;
  KILN_ASSIGN_OR_RETURN(const std::string parent, to_.reader().ResolveMissing(ensure));
  KILN_RETURN_IF_ERROR(MakeParents(parent));
  KILN_ASSIGN_OR_RETURN(std::string target, to_.reader().ResolveMissing(clean));
  KILN_ASSIGN_OR_RETURN(const auto existing, Find(to_.reader(), target));
  const bool source_is_dir = S_ISDIR(entry.st.st_mode);
  const bool target_is_dir = existing.has_value() && S_ISDIR(existing->st.st_mode);
  if (source_is_dir ? (!request_.contents_only && existing.has_value()) : target_is_dir) {
    if (!entry.name.empty()) target = JoinPath(target, entry.name);
  }
  const bool into = source_is_dir && request_.contents_only && !existing.has_value();
  KILN_RETURN_IF_ERROR(MakeParents(into ? target : SplitPath(target).first));
  return target;
}

Attributes Copier::MetadataOf(const Entry& entry) const {
  Attributes out;
  out.uid = request_.owner.has_value() ? request_.owner->uid : entry.st.st_uid;
  out.gid = request_.owner.has_value() ? request_.owner->gid : entry.st.st_gid;
  const uint32_t mode = entry.st.st_mode & kPermissionBits;
  out.mode = mode;
  if (request_.symbolic_mode.has_value()) {
    out.mode = request_.symbolic_mode->Apply(mode, S_ISDIR(entry.st.st_mode));
  } else if (request_.mode.has_value()) {
    out.mode = *request_.mode & kPermissionBits;
  }
  return out;
}

Copier::Verdict Copier::Judge(const std::string& relative, bool is_dir, const Matches& above,
                              Matches* here) {
  bool copy = true, prune = false;
  if (!request_.include_patterns.empty() &&
      !include_.MatchesUsingParentResults(relative, above.include, &here->include)) {
    copy = false;
    prune = !include_.MayMatchBelow(relative, here->include);
  }
  if (!request_.exclude_patterns.empty() &&
      exclude_.MatchesUsingParentResults(relative, above.exclude, &here->exclude)) {
    copy = false;
    prune = prune || !exclude_.ExceptionMayMatchBelow(relative);
  }
  if (copy) return Verdict::kCopy;
  return prune || !is_dir ? Verdict::kPrune : Verdict::kPass;
}

absl::StatusOr<std::optional<Entry>> Copier::FindTarget(const std::string& target) const {
  if (!levels_.empty() && (levels_.back().made || !levels_.back().present))
    return std::optional<Entry>();
  return Find(to_.reader(), target);
}

absl::StatusOr<bool> Copier::ClearFor(const Entry& source, const std::string& target) {
  KILN_ASSIGN_OR_RETURN(const auto existing, FindTarget(target));
  if (!existing.has_value()) return true;
  const bool source_is_dir = S_ISDIR(source.st.st_mode);
  const bool target_is_dir = S_ISDIR(existing->st.st_mode);
  if (source_is_dir && target_is_dir) return false;
  if (!request_.replace_existing) {
    if (source_is_dir)
      return absl::FailedPreconditionError(absl::StrCat("cannot copy to non-directory: ", target));
    if (target_is_dir)
      return absl::FailedPreconditionError(
          absl::StrCat("cannot replace to directory ", target, " with file"));
  }
  KILN_RETURN_IF_ERROR(to_.Remove(target));
  return false;
}

absl::Status Copier::CopyRoot(const std::string& source, const Entry& entry,
                              const std::string& target) {
  levels_.clear();
  KILN_ASSIGN_OR_RETURN(const bool is_new, ClearFor(entry, target));
  if (!S_ISDIR(entry.st.st_mode)) {
    KILN_RETURN_IF_ERROR(CopyLeaf(source, entry, target, is_new));
    return files_.Drain();
  }
  KILN_ASSIGN_OR_RETURN(const DirView dir, from_.OpenDir(source));
  KILN_ASSIGN_OR_RETURN(const auto existing, Find(to_.reader(), target));
  Level level{source, target, entry, existing.has_value(), false};
  // An existing destination keeps owner and mode; only its time follows the source.
  if (!level.present) KILN_RETURN_IF_ERROR(MakeLevel(&level));
  levels_.push_back(std::move(level));
  KILN_RETURN_IF_ERROR(CopyChildren(source, "", target, dir, Matches()));
  levels_.pop_back();
  KILN_RETURN_IF_ERROR(files_.Drain());
  for (const auto& [path, attributes] : ends_)
    KILN_RETURN_IF_ERROR(to_.SetAttributes(path, attributes));
  ends_.clear();
  return to_.SetAttributes(target, TimeOnly(entry));
}

absl::Status Copier::MakeLevel(Level* level) {
  KILN_RETURN_IF_ERROR(to_.MakeDir(level->target, MetadataOf(level->entry)));
  level->present = true;
  level->made = true;
  return CopyXattrs(level->source, level->entry, level->target);
}

absl::Status Copier::MakeLevels() {
  for (size_t i = 0; i < levels_.size(); ++i) {
    Level& level = levels_[i];
    if (level.present) continue;
    const bool fresh = i > 0 && levels_[i - 1].made;
    std::optional<Entry> existing;
    if (!fresh) {
      KILN_ASSIGN_OR_RETURN(existing, Find(to_.reader(), level.target));
    }
    if (existing.has_value() && S_ISDIR(existing->st.st_mode)) {
      level.present = true;
      continue;
    }
    if (existing.has_value()) {
      if (!request_.replace_existing)
        return absl::FailedPreconditionError(
            absl::StrCat("cannot copy to non-directory: ", level.target));
      KILN_RETURN_IF_ERROR(to_.Remove(level.target));
    }
    KILN_RETURN_IF_ERROR(MakeLevel(&level));
  }
  return absl::OkStatus();
}

absl::Status Copier::CopyChildren(const std::string& source, const std::string& relative,
                                  const std::string& target, const DirView& dir,
                                  const Matches& above) {
  if (request_.include_patterns.empty() && request_.exclude_patterns.empty()) {
    KILN_ASSIGN_OR_RETURN(const std::vector<Entry> entries, from_.Entries(dir));
    for (const Entry& entry : entries)
      KILN_RETURN_IF_ERROR(CopyChild(source, entry.name, target, dir, entry, Verdict::kCopy, {}));
    return absl::OkStatus();
  }
  // What the patterns leave out is not even looked at.
  KILN_ASSIGN_OR_RETURN(const std::vector<NamedChild> names, from_.Names(dir));
  for (const NamedChild& child : names) {
    if (cancel_.Cancelled()) return cancel_.status();
    const std::string below =
        relative.empty() ? child.name : absl::StrCat(relative, "/", child.name);
    Matches here;
    const Verdict verdict = Judge(below, S_ISDIR(child.type), above, &here);
    if (verdict == Verdict::kPrune) continue;
    KILN_ASSIGN_OR_RETURN(const Entry entry, from_.Child(dir, child.name));
    KILN_RETURN_IF_ERROR(CopyChild(source, below, target, dir, entry, verdict, here));
  }
  return absl::OkStatus();
}

absl::Status Copier::CopyChild(const std::string& source, const std::string& relative,
                               const std::string& target, const DirView& dir, const Entry& entry,
                               Verdict verdict, const Matches& here) {
  if (cancel_.Cancelled()) return cancel_.status();
  const std::string child_source = Child(source, entry.name);
  const std::string child_target = Child(target, entry.name);
  bool is_new = false;
  if (verdict == Verdict::kCopy) {
    KILN_RETURN_IF_ERROR(MakeLevels());
    KILN_ASSIGN_OR_RETURN(is_new, ClearFor(entry, child_target));
  }
  if (!S_ISDIR(entry.st.st_mode)) return CopyLeaf(child_source, entry, child_target, is_new);
  KILN_ASSIGN_OR_RETURN(const DirView child_dir, from_.OpenChild(dir, entry.name));
  const Level level{child_source, child_target, entry, false, false};
  return CopyNestedDir(level, relative, child_dir, verdict, here);
}

absl::Status Copier::CopyNestedDir(const Level& wanted, const std::string& relative,
                                   const DirView& dir, Verdict verdict, const Matches& here) {
  Level level = wanted;
  if (verdict == Verdict::kCopy) {
    KILN_ASSIGN_OR_RETURN(const auto existing, FindTarget(level.target));
    level.present = existing.has_value();
    if (!level.present) {
      KILN_RETURN_IF_ERROR(MakeLevel(&level));
    } else {
      KILN_RETURN_IF_ERROR(to_.SetAttributes(level.target, MetadataOf(level.entry)));
      KILN_RETURN_IF_ERROR(CopyXattrs(level.source, level.entry, level.target));
    }
  }
  levels_.push_back(level);
  KILN_RETURN_IF_ERROR(CopyChildren(level.source, relative, level.target, dir, here));
  const bool touched = verdict == Verdict::kCopy || levels_.back().made;
  levels_.pop_back();
  if (touched) ends_.emplace_back(level.target, TimeOnly(level.entry));
  return absl::OkStatus();
}

absl::Status Copier::CopyXattrs(const std::string& source, const Entry& entry,
                                const std::string& target) {
  KILN_ASSIGN_OR_RETURN(const auto xattrs, from_.Xattrs(entry, source));
  for (const auto& [name, value] : xattrs) {
    const absl::Status status = to_.SetXattr(target, name, value);
    // Best effort, as `cp -a`: not every file system stores every attribute. A full disk counts.
    if (absl::IsResourceExhausted(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status Copier::CopyRegular(const std::string& source, const Entry& entry,
                                 const std::string& target, bool is_new) {
  Attributes attributes = MetadataOf(entry);
  attributes.mtime = request_.time;
  bool link = false;
  auto first = links_.end();
  if (entry.st.st_nlink > 1) {
    const auto key = std::make_tuple(entry.layer, entry.st.st_dev, entry.st.st_ino);
    bool added = false;
    std::tie(first, added) = links_.try_emplace(key, target);
    link = !added;
  }
  if (!link) {
    const absl::string_view dir = absl::string_view(target).substr(0, target.rfind('/'));
    return files_.Post(
        dir, 0, [this, source, entry, target, attributes, is_new](TreeWriter& writer) {
          return is_new ? writer.CopyNewFile(from_, source, entry, target, attributes)
                        : writer.CopyFile(from_, source, entry, target, attributes);
        });
  }
  KILN_RETURN_IF_ERROR(files_.Drain());  // the first name may be among them
  KILN_ASSIGN_OR_RETURN(const auto existing, FindTarget(target));
  if (existing.has_value()) KILN_RETURN_IF_ERROR(to_.Remove(target));
  return to_.MakeHardlink(target, first->second);
}

absl::Status Copier::CopyLeaf(const std::string& source, const Entry& entry,
                              const std::string& target, bool is_new) {
  const mode_t mode = entry.st.st_mode;
  if (S_ISREG(mode)) return CopyRegular(source, entry, target, is_new);
  Attributes attributes = MetadataOf(entry);
  attributes.mtime = TimeOf(entry);
  if (S_ISSOCK(mode)) return to_.WriteFile(target, "", attributes);
  KILN_ASSIGN_OR_RETURN(const auto existing, FindTarget(target));
  if (existing.has_value()) KILN_RETURN_IF_ERROR(to_.Remove(target));
  if (S_ISLNK(mode)) {
    attributes.mode.reset();
    KILN_RETURN_IF_ERROR(to_.MakeSymlink(target, entry.link, attributes));
  } else {
    KILN_RETURN_IF_ERROR(to_.MakeNode(target, mode, entry.st.st_rdev, attributes));
  }
  return CopyXattrs(source, entry, target);
}

}  // namespace

absl::Status CopyTree(const TreeReader& from, TreeWriter& to, const CopyRequest& request,
                      const CancelToken& cancel) {
  return Copier(from, to, request, cancel).Run();
}

absl::StatusOr<std::vector<std::string>> ResolveWildcards(const TreeReader& tree,
                                                          absl::string_view pattern) {
  const std::string clean = CleanPath(pattern);
  const auto [prefix, rest] = SplitWildcards(clean);
  if (rest.empty()) return std::vector<std::string>{clean};
  KILN_RETURN_IF_ERROR(MatchPath(rest, "").status());
  std::vector<std::string> out;
  const auto root = tree.Resolve(prefix, true);
  if (absl::IsNotFound(root.status())) return out;
  KILN_RETURN_IF_ERROR(root.status());
  KILN_ASSIGN_OR_RETURN(const Entry entry, tree.Lstat(*root));
  if (!S_ISDIR(entry.st.st_mode)) return out;
  const std::vector<std::string> parts = absl::StrSplit(rest, '/');
  const std::string below = *root == "/" ? "/" : absl::StrCat(*root, "/");
  KILN_RETURN_IF_ERROR(
      tree.Walk(*root, [&](const std::string& path, const Entry& child) -> absl::StatusOr<bool> {
        const std::string relative = path.substr(below.size());
        const size_t depth =
            static_cast<size_t>(std::count(relative.begin(), relative.end(), '/')) + 1;
        const std::string part =
            absl::StrJoin(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(depth), "/");
        KILN_ASSIGN_OR_RETURN(const bool match, MatchPath(part, relative));
        if (match && depth == parts.size()) out.push_back(path);
        return match && depth < parts.size() && S_ISDIR(child.st.st_mode);
      }));
  return out;
}

absl::StatusOr<std::vector<std::string>> MakeDirs(TreeWriter& to, absl::string_view path,
                                                  const Attributes& attributes) {
  std::vector<std::string> made;
  const std::string clean = CleanPath(path);
  if (clean == "/") return made;
  KILN_ASSIGN_OR_RETURN(const auto whole, Find(to.reader(), clean));
  if (whole.has_value() && S_ISDIR(whole->st.st_mode)) return made;
  std::string here;
  for (const absl::string_view part : absl::StrSplit(clean.substr(1), '/')) {
    absl::StrAppend(&here, "/", part);
    if (made.empty()) {
      KILN_ASSIGN_OR_RETURN(const auto entry, Find(to.reader(), here));
      if (entry.has_value()) {
        if (S_ISDIR(entry->st.st_mode)) continue;
        return absl::FailedPreconditionError(absl::StrCat("mkdir ", here, ": not a directory"));
      }
    }
    KILN_RETURN_IF_ERROR(to.MakeDir(here, attributes));
    made.push_back(here);
  }
  return made;
}

}  // namespace kiln::daemon
