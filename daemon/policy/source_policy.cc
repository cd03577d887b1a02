#include "daemon/policy/source_policy.h"

#include <re2/re2.h>

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "daemon/policy/expand_template.h"
#include "daemon/registry/reference.h"
#include "daemon/source/git_spec.h"
#include "proto/buildkit/policy.pb.h"
#include "store/base/status_macros.h"
#include "store/tree.h"

namespace kiln::daemon {
namespace {

namespace pbp = moby::buildkit::v1::sourcepolicy;

constexpr int kMostChanges = 20;

absl::StatusOr<std::unique_ptr<RE2>> Compile(const std::string& pattern) {
  RE2::Options options;
  options.set_log_errors(false);
  auto compiled = std::make_unique<RE2>(pattern, options);
  if (compiled->ok()) return compiled;
  return absl::InvalidArgumentError(
      absl::StrCat("source policy: invalid regex \"", pattern, "\": ", compiled->error()));
}

absl::StatusOr<std::unique_ptr<RE2>> CompileWildcard(const std::string& text) {
  if (absl::StrContains(text, "**"))
    return absl::InvalidArgumentError(
        absl::StrCat("source policy: invalid wildcard \"", text, "\": \"**\""));
  const std::string quoted = absl::StrReplaceAll(RE2::QuoteMeta(text), {{"\\*", "(.*)"}});
  return Compile(absl::StrCat("^", quoted, "$"));
}

// "git://host/path#ref:subdir"
std::string NormalizedGit(const SourceRef& source) {
  const auto spec = ParseGitSpec({source.identifier, source.attrs, {}});
  if (!spec.ok()) return source.identifier;
  absl::string_view remote = spec->remote;
  const size_t scheme = remote.find("://");
  if (scheme != absl::string_view::npos) remote.remove_prefix(scheme + 3);
  const size_t host_end = remote.find(scheme == absl::string_view::npos ? ':' : '/');
  absl::string_view host = remote.substr(0, host_end);
  if (const size_t at = host.rfind('@'); at != absl::string_view::npos) host.remove_prefix(at + 1);
  const std::string path =
      host_end == absl::string_view::npos ? "/" : store::CleanPath(remote.substr(host_end + 1));
  std::string out = absl::StrCat("git://", host, path);
  if (!spec->ref.empty() || !spec->subdir.empty()) absl::StrAppend(&out, "#", spec->ref);
  if (!spec->subdir.empty()) absl::StrAppend(&out, ":", spec->subdir);
  return out;
}

}  // namespace

std::string NormalizedIdentifier(const SourceRef& source) {
  for (const absl::string_view scheme : {"docker-image://", "docker-image+blob://"}) {
    absl::string_view name = source.identifier;
    if (!absl::ConsumePrefix(&name, scheme)) continue;
    const auto reference = Reference::ParseFamiliar(name);
    return reference.ok() ? absl::StrCat(scheme, reference->ToString()) : source.identifier;
  }
  return absl::StartsWith(source.identifier, "git://") ? NormalizedGit(source) : source.identifier;
}

struct SourcePolicy::Rule {
  struct Constraint {
    std::string key, value;
    bool equal = true;             // else it must differ
    std::unique_ptr<RE2> pattern;  // not null: the value must match it instead
  };
  pbp::PolicyAction action = pbp::ALLOW;
  std::string selector;
  pbp::MatchType type = pbp::WILDCARD;
  std::unique_ptr<RE2> pattern;  // null: exact
  std::vector<Constraint> constraints;
  std::string new_identifier;  // CONVERT; "": the selector
  std::map<std::string, std::string> new_attrs;

  static absl::StatusOr<Rule> FromProto(const pbp::Rule& proto);
  bool Matches(const SourceRef& source) const;
  bool Convert(SourceRef* source) const;
};

absl::StatusOr<SourcePolicy::Rule> SourcePolicy::Rule::FromProto(const pbp::Rule& proto) {
  if (!proto.has_selector()) return absl::InvalidArgumentError("invalid nil selector in policy");
  Rule rule;
  rule.action = proto.action();
  rule.selector = proto.selector().identifier();
  rule.type = proto.selector().match_type();
  switch (rule.type) {
    case pbp::EXACT:
      break;
    case pbp::REGEX: {
      KILN_ASSIGN_OR_RETURN(rule.pattern, Compile(rule.selector));
      break;
    }
    case pbp::WILDCARD: {
      KILN_ASSIGN_OR_RETURN(rule.pattern, CompileWildcard(rule.selector));
      break;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("source policy: rule ", rule.selector, ": unknown match type ", rule.type));
  }
  for (const pbp::AttrConstraint& wanted : proto.selector().constraints()) {
    Constraint constraint{wanted.key(), wanted.value(), wanted.condition() == pbp::EQUAL, nullptr};
    if (wanted.condition() == pbp::MATCHES) {
      KILN_ASSIGN_OR_RETURN(constraint.pattern, Compile(wanted.value()));
    } else if (wanted.condition() != pbp::EQUAL && wanted.condition() != pbp::NOTEQUAL) {
      return absl::InvalidArgumentError(absl::StrCat(
          "source policy: rule ", rule.selector, ": unknown attr condition ", wanted.condition()));
    }
    rule.constraints.push_back(std::move(constraint));
  }
  switch (rule.action) {
    case pbp::ALLOW:
    case pbp::DENY:
      return rule;
    case pbp::CONVERT:
      if (!proto.has_updates())
        return absl::InvalidArgumentError(absl::StrCat("source policy: rule ", rule.selector,
                                                       ": missing destination for convert rule"));
      rule.new_identifier = proto.updates().identifier();
      rule.new_attrs.insert(proto.updates().attrs().begin(), proto.updates().attrs().end());
      return rule;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("source policy: rule ", rule.selector, ": unknown action ", rule.action));
  }
}

bool SourcePolicy::Rule::Matches(const SourceRef& source) const {
  for (const Constraint& constraint : constraints) {
    const auto found = source.attrs.find(constraint.key);
    const std::string value = found == source.attrs.end() ? "" : found->second;
    if (constraint.pattern != nullptr) {
      if (!RE2::PartialMatch(value, *constraint.pattern)) return false;
    } else if ((value == constraint.value) != constraint.equal) {
      return false;
    }
  }
  if (source.identifier == selector) return true;
  return pattern != nullptr && RE2::PartialMatch(source.identifier, *pattern);
}

bool SourcePolicy::Rule::Convert(SourceRef* source) const {
  std::string to = new_identifier.empty() ? selector : new_identifier;
  if (type == pbp::REGEX) {
    to = ReplaceAllMatches(*pattern, source->identifier, to);
  } else if (type == pbp::WILDCARD) {
    // An identifier that equals the selector's text may still not match its pattern.
    to = ExpandMatch(*pattern, source->identifier, to).value_or(source->identifier);
  }
  bool changed = false;
  if (!to.empty() && to != source->identifier) {
    source->identifier = std::move(to);
    changed = true;
  }
  for (const auto& [key, value] : new_attrs) {
    std::string& attr = source->attrs[key];
    changed |= attr != value;
    attr = value;
  }
  return changed;
}

SourcePolicy::SourcePolicy() = default;
SourcePolicy::~SourcePolicy() = default;

absl::StatusOr<std::shared_ptr<const SourcePolicy>> SourcePolicy::Create(
    const std::vector<std::string>& policies) {
  std::shared_ptr<SourcePolicy> made(new SourcePolicy());
  for (const std::string& bytes : policies) {
    pbp::Policy policy;
    if (!policy.ParseFromString(bytes))
      return absl::InvalidArgumentError("malformed source policy");
    std::vector<Rule>& rules = made->policies_.emplace_back();
    for (const pbp::Rule& proto : policy.rules()) {
      KILN_ASSIGN_OR_RETURN(Rule rule, Rule::FromProto(proto));
      rules.push_back(std::move(rule));
    }
  }
  return std::shared_ptr<const SourcePolicy>(std::move(made));
}

absl::StatusOr<bool> SourcePolicy::ApplyOnce(const std::vector<Rule>& policy,
                                             SourceRef* source) const {
  bool denied = false;
  for (const Rule& rule : policy) {
    if (!rule.Matches(*source)) continue;
    if (rule.action != pbp::CONVERT) {
      denied = rule.action == pbp::DENY;
    } else if (rule.Convert(source)) {
      return true;
    }
  }
  if (!denied) return false;
  return absl::PermissionDeniedError(absl::StrCat("source \"", source->identifier,
                                                  "\" denied by policy: source denied by policy"));
}

absl::StatusOr<bool> SourcePolicy::Apply(SourceRef* source) const {
  bool changed = false;
  for (int i = 0; i <= kMostChanges; ++i) {
    bool again = false;
    for (const std::vector<Rule>& policy : policies_) {
      KILN_ASSIGN_OR_RETURN(again, ApplyOnce(policy, source));
      if (again) break;
    }
    if (!again) return changed;
    changed = true;
  }
  return absl::InvalidArgumentError("too many mutations on a single source: too many operations");
}

}  // namespace kiln::daemon
