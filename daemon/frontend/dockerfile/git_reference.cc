#include "daemon/frontend/dockerfile/git_reference.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/llb/go_path.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

using Query = std::map<std::string, std::vector<std::string>>;

// The parts of "BASE?QUERY#FRAGMENT".
struct UrlParts {
  absl::string_view base, query, fragment;
};

UrlParts SplitUrl(absl::string_view text) {
  UrlParts parts;
  if (const size_t hash = text.find('#'); hash != absl::string_view::npos) {
    parts.fragment = text.substr(hash + 1);
    text = text.substr(0, hash);
  }
  if (const size_t mark = text.find('?'); mark != absl::string_view::npos) {
    parts.query = text.substr(mark + 1);
    text = text.substr(0, mark);
  }
  parts.base = text;
  return parts;
}

// nullopt for a broken escape.
std::optional<std::string> Unescaped(absl::string_view text, bool plus_is_blank) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_blank) {
      out.push_back(' ');
    } else if (text[i] != '%') {
      out.push_back(text[i]);
    } else {
      const absl::string_view hex = text.substr(i + 1, 2);
      if (hex.size() != 2 || !absl::ascii_isxdigit(hex[0]) || !absl::ascii_isxdigit(hex[1])) {
        return std::nullopt;
      }
      out += absl::HexStringToBytes(hex);
      i += 2;
    }
  }
  return out;
}

Query ParseQuery(absl::string_view text) {
  Query query;
  for (absl::string_view pair : absl::StrSplit(text, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(pair, absl::MaxSplits('=', 1));
    const auto key = Unescaped(parts.first, true);
    const auto value = Unescaped(parts.second, true);
    if (key && value) query[*key].push_back(*value);
  }
  return query;
}

absl::Status Assign(absl::string_view what, const std::string& value, std::string* out) {
  if (!out->empty() && *out != value) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " conflicts: ", Quote(*out), " vs ", Quote(value)));
  }
  *out = value;
  return absl::OkStatus();
}

// A switch: the bare key is true.
absl::StatusOr<bool> Switch(const std::string& key, const std::string& value) {
  if (value.empty()) return true;
  const std::optional<bool> on = ParseBool(value);
  if (on) return *on;
  return absl::InvalidArgumentError(absl::StrCat("invalid ", key, " value: ", Quote(value)));
}

std::string WithPrefix(absl::string_view prefix, absl::string_view name) {
  return absl::StartsWith(name, prefix) ? std::string(name) : absl::StrCat(prefix, name);
}

absl::Status ReadQuery(const Query& query, GitReference* out) {
  std::string tag, branch;
  for (const auto& [key, values] : query) {
    const std::string& value = values[0];
    const bool is_switch = key == "submodules" || key == "keep-git-dir" || key == "fetch-by-commit";
    if (values.size() > 1) {
      return absl::InvalidArgumentError(absl::StrCat("query ", Quote(key), " has multiple values"));
    }
    if (value.empty() && !is_switch) {
      return absl::InvalidArgumentError(absl::StrCat("query ", Quote(key), " has no value"));
    }
    if (key == "ref") {
      KILN_RETURN_IF_ERROR(Assign("ref", value, &out->ref));
    } else if (key == "tag") {
      tag = value;
    } else if (key == "branch") {
      branch = value;
    } else if (key == "subdir") {
      KILN_RETURN_IF_ERROR(Assign("subdir", value, &out->subdir));
    } else if (key == "checksum" || key == "commit") {
      out->checksum = value;
    } else if (key == "keep-git-dir") {
      KILN_ASSIGN_OR_RETURN(out->keep_git_dir, Switch(key, value));
    } else if (key == "submodules") {
      KILN_ASSIGN_OR_RETURN(out->submodules, Switch(key, value));
    } else if (key == "fetch-by-commit") {
      KILN_ASSIGN_OR_RETURN(out->fetch_by_commit, Switch(key, value));
    } else if (key == "mtime") {
      if (value != "checkout" && value != "commit") {
        return absl::InvalidArgumentError(absl::StrCat("invalid mtime value: ", Quote(value),
                                                       " (must be \"checkout\" or \"commit\")"));
      }
      out->mtime = value;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unexpected query ", Quote(key)));
    }
  }
  if (!tag.empty()) KILN_RETURN_IF_ERROR(Assign("ref", WithPrefix("refs/tags/", tag), &out->ref));
  if (branch.empty()) return absl::OkStatus();
  if (!tag.empty()) return absl::InvalidArgumentError("branch conflicts with tag");
  return Assign("ref", WithPrefix("refs/heads/", branch), &out->ref);
}

// "REF:SUBDIR"
void ReadFragment(absl::string_view fragment, GitReference* out) {
  if (fragment.empty()) return;
  const size_t colon = fragment.find(':');
  out->ref = std::string(fragment.substr(0, colon));
  if (colon == absl::string_view::npos) return;
  out->subdir = client::llb::JoinPath("/", fragment.substr(colon + 1)).substr(1);
}

bool AllOf(absl::string_view text, absl::string_view extra) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains(extra, absl::string_view(&c, 1));
  });
}

// "user@host:path"
bool IsScpStyle(absl::string_view base) {
  const size_t at = base.find('@');
  if (at == absl::string_view::npos) return false;
  const size_t colon = base.find(':', at);
  return colon != absl::string_view::npos && AllOf(base.substr(0, at), "-_") &&
         AllOf(base.substr(at + 1, colon - at - 1), "-.");
}

// The scheme of "SCHEME://…", in lower case; "" when there is none.
std::string SchemeOf(absl::string_view text) {
  const size_t end = text.find("://");
  if (end == absl::string_view::npos || !AllOf(text.substr(0, end), "")) return "";
  return absl::AsciiStrToLower(text.substr(0, end));
}

}  // namespace

absl::StatusOr<std::optional<GitReference>> ParseGitReference(absl::string_view text) {
  if (absl::StartsWith(text, "./") || absl::StartsWith(text, "../")) return std::nullopt;
  GitReference git;
  UrlParts parts = SplitUrl(text);
  const std::string scheme = SchemeOf(text);
  if (absl::StartsWith(text, "github.com/")) {
    git.looks_local = true;
  } else if (!scheme.empty()) {
    const bool web = scheme == "http" || scheme == "https";
    if (!web && scheme != "git" && scheme != "ssh") return std::nullopt;
    const size_t path = parts.base.find('/', scheme.size() + 3);
    if (web && (path == absl::string_view::npos || !absl::EndsWith(parts.base, ".git"))) {
      return std::nullopt;
    }
  } else {
    // A path may hold '#' and '?'; only what comes before them decides.
    if (!IsScpStyle(parts.base)) return std::nullopt;
  }
  git.remote = std::string(parts.base);
  const auto fragment = Unescaped(parts.fragment, false);
  if (!fragment) return std::nullopt;
  ReadFragment(*fragment, &git);
  KILN_RETURN_IF_ERROR(ReadQuery(ParseQuery(parts.query), &git));
  return git;
}

client::llb::GitInfo GitSourceInfo(const GitReference& reference) {
  client::llb::GitInfo info;
  info.ref = reference.ref;
  info.subdir = reference.subdir;
  info.checksum = reference.checksum;
  info.skip_submodules = !reference.submodules.value_or(true);
  info.fetch_by_commit = reference.fetch_by_commit;
  return info;
}

bool IsHttpSource(absl::string_view text) {
  if (!absl::StartsWith(text, "http://") && !absl::StartsWith(text, "https://")) return false;
  const auto git = ParseGitReference(text);
  return git.ok() && !git->has_value();
}

std::string HttpFilename(absl::string_view url) {
  constexpr char kUnnamed[] = "__unnamed__";
  const absl::string_view base = SplitUrl(url).base;
  const size_t host = base.find("://");
  if (host == absl::string_view::npos) return kUnnamed;
  const size_t path = base.find('/', host + 3);
  if (path == absl::string_view::npos) return kUnnamed;
  const auto decoded = Unescaped(base.substr(path), false);
  if (!decoded) return kUnnamed;
  absl::string_view name = *decoded;
  while (absl::ConsumeSuffix(&name, "/")) {
  }
  name = name.substr(name.rfind('/') + 1);
  return name.empty() || name == "." ? kUnnamed : std::string(name);
}

}  // namespace kiln::daemon::dockerfile
