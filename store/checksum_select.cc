// Wildcards and include/exclude patterns of a content checksum (BuildKit contenthash): which
// entries count, and the digest over them.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"
#include "store/checksum_run.h"

namespace kiln::store {

namespace {

// A path as the request spells it: "" for the root, no trailing slash.
std::string KeyPath(absl::string_view path) {
  const std::string clean = CleanPath(path);
  return clean == "/" ? std::string() : clean;
}

absl::string_view BaseName(absl::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path.size() > 1 ? path.substr(path.rfind('/') + 1) : path;
}

absl::StatusOr<PatternMatcher> Compile(const std::vector<std::string>& patterns,
                                       absl::string_view what) {
  return Annotate(PatternMatcher::Create(patterns),
                  absl::StrCat("invalid ", what, ": [", absl::StrJoin(patterns, " "), "]"));
}

class Selection {
 public:
  Selection(ChecksumRun& run, absl::string_view path, const ChecksumOptions& options)
      : run_(run),
        raw_path_(path),
        path_(KeyPath(path)),
        skip_header_(absl::EndsWith(path, "/")),
        options_(options) {}

  absl::StatusOr<Digest> Compute() {
    KILN_RETURN_IF_ERROR(Prepare());
    KILN_RETURN_IF_ERROR(Start());
    KILN_RETURN_IF_ERROR(CheckRequired());
    if (selected_.empty()) return Digest::Of("");
    if (selected_.size() == 1 && BaseName(raw_path_) == BaseName(selected_[0].path))
      return selected_[0].digest;
    Sha256 hash;
    for (const Selected& entry : selected_) {
      std::string key = entry.path.substr(prefix_.size());
      std::replace(key.begin(), key.end(), '/', '\0');
      if (key.empty()) key.push_back('\0');
      hash.Update(key).Update(entry.digest.ToString());
    }
    return hash.Finish();
  }

 private:
  struct Selected {
    std::string path;  // as the request would spell it
    Digest digest;
  };
  // A directory on the way down; its header counts once something below it does.
  struct Parent {
    std::string path, real;
    int layer;
    bool selected;
    PatternMatchInfo include, exclude;
  };
  // An entry being looked at. `root`: length of the path of the match it belongs to.
  struct Visit {
    std::string path, real;
    int layer;
    uint32_t type;
    bool in_match;
    size_t root;
  };

  absl::Status Prepare() {
    KILN_ASSIGN_OR_RETURN(include_, Compile(options_.include_patterns, "includepatterns"));
    KILN_ASSIGN_OR_RETURN(exclude_, Compile(options_.exclude_patterns, "excludepatterns"));
    if (!options_.wildcard) return absl::OkStatus();
    KILN_RETURN_IF_ERROR(MatchPath(path_, "").status());
    // Prefixes of the pattern, to tell which directories can lead to a match.
    pattern_parts_ = absl::StrSplit(path_, '/');
    return absl::OkStatus();
  }

  absl::Status Start() {
    bool follow = false;
    prefix_ = path_;
    if (options_.wildcard) {
      auto [plain, rest] = SplitWildcards(path_);
      prefix_ = plain == "/" ? std::string() : std::move(plain);
      follow = !rest.empty();
    }
    const auto real = run_.tree().Resolve(prefix_, follow);
    if (absl::IsNotFound(real.status())) return Missing();
    KILN_RETURN_IF_ERROR(real.status());
    const auto entry = run_.tree().Lstat(*real);
    if (absl::IsNotFound(entry.status())) return Missing();
    KILN_RETURN_IF_ERROR(entry.status());
    Visit start{prefix_, *real, entry->layer, entry->st.st_mode & S_IFMT, false, 0};
    if (!options_.wildcard || path_.empty()) {
      start.in_match = true;
      start.root = path_.size();
    }
    if (!S_ISDIR(start.type)) return File(start);
    KILN_ASSIGN_OR_RETURN(const DirView dir, run_.tree().OpenDir(*real));
    return Directory(start, dir);
  }

  // No wildcard match is an empty selection, as BuildKit has it: the op decides whether that is an
  // error. A plain path that is missing is an error here already, lest an earlier result of an
  // empty selection be taken for it.
  absl::Status Missing() const {
    if (options_.wildcard) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("\"", CleanPath(raw_path_), "\": not found"));
  }

  // Whether `visit` is or lies in a match of the wildcards.
  bool EnterMatch(Visit* visit) const {
    if (visit->in_match) return true;
    if (!MatchPath(path_, visit->path).value_or(false)) return false;
    visit->in_match = true;
    visit->root = visit->path.size();
    return true;
  }

  bool MayLeadToMatch(const Visit& visit) const {
    const size_t depth =
        static_cast<size_t>(std::count(visit.path.begin(), visit.path.end(), '/')) + 1;
    if (depth >= pattern_parts_.size()) return false;
    const std::string pattern = absl::StrJoin(
        pattern_parts_.begin(), pattern_parts_.begin() + static_cast<std::ptrdiff_t>(depth), "/");
    return MatchPath(pattern, visit.path).value_or(true);
  }

  static absl::string_view Candidate(const Visit& visit) {
    return visit.path.size() > visit.root ? absl::string_view(visit.path).substr(visit.root + 1)
                                          : absl::string_view();
  }

  // Patterns on the path below the root of the match. `*prune`: nothing below can be selected.
  bool Include(const Visit& visit, PatternMatchInfo* include, PatternMatchInfo* exclude,
               bool* prune) const {
    static const PatternMatchInfo nothing;
    const absl::string_view candidate = Candidate(visit);
    const Parent* parent = parents_.empty() ? nullptr : &parents_.back();
    if (!options_.include_patterns.empty() &&
        !include_.MatchesUsingParentResults(candidate, parent ? parent->include : nothing,
                                            include)) {
      *prune = !candidate.empty() && !include_.MayMatchBelow(candidate, *include);
      return false;
    }
    if (!options_.exclude_patterns.empty() &&
        exclude_.MatchesUsingParentResults(candidate, parent ? parent->exclude : nothing,
                                           exclude)) {
      *prune = !candidate.empty() && !exclude_.ExceptionMayMatchBelow(candidate);
      return false;
    }
    return true;
  }

  absl::Status SelectParents() {
    for (Parent& parent : parents_) {
      if (parent.selected) continue;
      KILN_ASSIGN_OR_RETURN(const Digest header, run_.Single(parent.layer, parent.real));
      selected_.push_back({parent.path, header});
      parent.selected = true;
    }
    return absl::OkStatus();
  }

  absl::Status File(Visit visit) {
    if (!EnterMatch(&visit)) return absl::OkStatus();
    PatternMatchInfo include, exclude;
    bool prune = false;
    if (!Include(visit, &include, &exclude, &prune)) return absl::OkStatus();
    KILN_RETURN_IF_ERROR(SelectParents());
    // A link that is matched itself counts as what it leads to; links inside count as links.
    const bool follow = options_.follow && S_ISLNK(visit.type) && visit.path.size() == visit.root;
    KILN_ASSIGN_OR_RETURN(const Digest digest, follow ? run_.Path(visit.path, true)
                                                      : run_.Single(visit.layer, visit.real));
    selected_.push_back({visit.path, digest});
    return absl::OkStatus();
  }

  absl::Status Directory(Visit visit, const DirView& dir) {
    if (!EnterMatch(&visit)) {
      return MayLeadToMatch(visit) ? Children(visit, dir) : absl::OkStatus();
    }
    Parent parent{visit.path, visit.real, visit.layer, false, {}, {}};
    bool prune = false;
    const bool include = Include(visit, &parent.include, &parent.exclude, &prune);
    if (skip_header_ && visit.path == path_) return Children(visit, dir);
    parents_.push_back(std::move(parent));
    absl::Status status = include ? SelectParents() : absl::OkStatus();
    if (status.ok() && !prune) status = Children(visit, dir);
    parents_.pop_back();
    return status;
  }

  absl::Status Children(const Visit& visit, const DirView& dir) {
    KILN_ASSIGN_OR_RETURN(const std::vector<NamedChild> names, run_.tree().Names(dir));
    for (const NamedChild& child : names) {
      Visit next = visit;
      absl::StrAppend(&next.path, "/", child.name);
      next.real = absl::StrCat(visit.real == "/" ? "" : visit.real, "/", child.name);
      next.layer = child.layer;
      next.type = child.type;
      if (!S_ISDIR(child.type)) {
        KILN_RETURN_IF_ERROR(File(std::move(next)));
        continue;
      }
      KILN_ASSIGN_OR_RETURN(const DirView below, run_.tree().OpenChild(dir, child.name));
      KILN_RETURN_IF_ERROR(Directory(std::move(next), below));
    }
    return absl::OkStatus();
  }

  absl::Status CheckRequired() const {
    for (const std::string& required : options_.required_paths) {
      // A plain prefix, not by components: that is what clients were built against.
      const bool found = std::any_of(
          selected_.begin(), selected_.end(),
          [&](const Selected& entry) { return absl::StartsWith(entry.path, required); });
      if (!found) return absl::NotFoundError(absl::StrCat("\"", required, "\": not found"));
    }
    return absl::OkStatus();
  }

  ChecksumRun& run_;
  const std::string raw_path_, path_;
  const bool skip_header_;  // "dir/": the header of dir itself does not count
  const ChecksumOptions& options_;
  PatternMatcher include_, exclude_;
  std::vector<std::string> pattern_parts_;
  std::string prefix_;  // of the request, before the first wildcard
  std::vector<Parent> parents_;
  std::vector<Selected> selected_;
};

}  // namespace

absl::StatusOr<Digest> ChecksumOfSelection(ChecksumRun& run, absl::string_view path,
                                           const ChecksumOptions& options) {
  return Selection(run, path, options).Compute();
}

}  // namespace kiln::store
