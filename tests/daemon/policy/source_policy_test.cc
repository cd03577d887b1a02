#include "daemon/policy/source_policy.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "daemon/policy/expand_template.h"
#include "proto/buildkit/policy.pb.h"

namespace kiln::daemon {
namespace {

// Text format of sourcepolicy.Policy.
std::string Policy(const std::string& text) {
  moby::buildkit::v1::sourcepolicy::Policy policy;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &policy)) << text;
  return policy.SerializeAsString();
}

struct Case {
  const char* name;
  std::vector<const char*> policies;
  SourceRef source;
  const char* error;  // nullptr: none
  SourceRef want = {};
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

constexpr char kBusybox[] = "docker-image://docker.io/library/busybox:latest";
constexpr char kDenied[] =
    "source \"docker-image://docker.io/library/busybox:latest\" denied by policy: source denied "
    "by policy";

class SourcePolicyTest : public testing::TestWithParam<Case> {};

TEST_P(SourcePolicyTest, Applies) {
  const Case& c = GetParam();
  std::vector<std::string> policies;
  for (const char* text : c.policies) policies.push_back(Policy(text));
  const auto policy = SourcePolicy::Create(policies);
  SourceRef source = c.source;
  const absl::StatusOr<bool> changed =
      policy.ok() ? (*policy)->Apply(&source) : absl::StatusOr<bool>(policy.status());
  if (c.error != nullptr) {
    EXPECT_EQ(changed.status().message(), c.error);
    return;
  }
  ASSERT_TRUE(changed.ok()) << changed.status();
  const SourceRef& want = c.want.identifier.empty() ? c.source : c.want;
  EXPECT_EQ(source.identifier, want.identifier);
  EXPECT_EQ(source.attrs, want.attrs);
  EXPECT_EQ(*changed, !(want == c.source));
}

INSTANTIATE_TEST_SUITE_P(
    All, SourcePolicyTest,
    testing::Values(
        Case{"Nothing", {}, {kBusybox, {}}, nullptr},
        Case{"DenyAll",
             {"rules {action: DENY selector {identifier: '*'}}"},
             {kBusybox, {}},
             kDenied},
        Case{"DenyOther",
             {"rules {action: DENY selector {identifier: 'docker-image://docker.io/alpine*'}}"},
             {kBusybox, {}},
             nullptr},
        Case{"TheLastRuleWins",
             {"rules {action: DENY selector {identifier: '*'}}"
              "rules {action: ALLOW selector {identifier: '*busybox*'}}"},
             {kBusybox, {}},
             nullptr},
        Case{"TheLastRuleDenies",
             {"rules {action: ALLOW selector {identifier: '*busybox*'}}"
              "rules {action: DENY selector {identifier: '*'}}"},
             {kBusybox, {}},
             kDenied},
        Case{"NoPolicyCanAllowWhatAnotherDenies",
             {"rules {action: ALLOW selector {identifier: '*'}}",
              "rules {action: DENY selector {identifier: '*'}}",
              "rules {action: ALLOW selector {identifier: '*'}}"},
             {kBusybox, {}},
             kDenied},
        Case{"ExactIsNoPattern",
             {"rules {action: DENY selector {identifier: '*' match_type: EXACT}}"},
             {kBusybox, {}},
             nullptr},
        Case{"Exact",
             {"rules {action: DENY selector {match_type: EXACT identifier: "
              "'docker-image://docker.io/library/busybox:latest'}}"},
             {kBusybox, {}},
             kDenied},
        Case{"RegexNeedNotCoverAll",
             {"rules {action: DENY selector {identifier: 'busy.ox' match_type: REGEX}}"},
             {kBusybox, {}},
             kDenied},
        Case{"DotsOfAWildcardAreDots",
             {"rules {action: DENY selector {identifier: 'docker-image://docker-io*'}}"},
             {kBusybox, {}},
             nullptr},
        Case{"Equal",
             {"rules {action: DENY selector {identifier: '*' constraints {key: 'a' value: 'b'}}}"},
             {kBusybox, {{"a", "b"}}},
             kDenied},
        Case{"EqualOther",
             {"rules {action: DENY selector {identifier: '*' constraints {key: 'a' value: 'b'}}}"},
             {kBusybox, {{"a", "c"}}},
             nullptr},
        Case{"NotEqualAbsent",
             {"rules {action: DENY selector {identifier: '*' constraints {key: 'a' value: 'b' "
              "condition: NOTEQUAL}}}"},
             {kBusybox, {}},
             kDenied},
        Case{"AttributeMatches",
             {"rules {action: DENY selector {identifier: '*' constraints {key: 'a' value: '^b' "
              "condition: MATCHES}}}"},
             {kBusybox, {{"a", "bc"}}},
             kDenied},
        Case{"ConvertExact",
             {"rules {action: CONVERT selector {match_type: EXACT identifier: "
              "'docker-image://docker.io/library/busybox:latest'} updates {identifier: "
              "'docker-image://docker.io/library/alpine:latest'}}"},
             {kBusybox, {}},
             nullptr,
             {"docker-image://docker.io/library/alpine:latest", {}}},
        Case{"ConvertWildcard",
             {"rules {action: CONVERT selector {identifier: 'docker-image://*/library/*:latest'} "
              "updates {identifier: 'docker-image://mirror/${1}/$2:pinned'}}"},
             {kBusybox, {}},
             nullptr,
             {"docker-image://mirror/docker.io/busybox:pinned", {}}},
        Case{"ConvertRegex",
             {"rules {action: CONVERT selector {match_type: REGEX identifier: "
              "'library/(?P<what>[a-z]+)'} updates {identifier: 'other/${what}'}}"},
             {kBusybox, {}},
             nullptr,
             {"docker-image://docker.io/other/busybox:latest", {}}},
        Case{"ConvertHttpToAChecksum",
             {"rules {action: CONVERT selector {match_type: EXACT identifier: 'https://x/f'} "
              "updates {attrs {key: 'http.checksum' value: 'sha256:1'}}}"},
             {"https://x/f", {{"http.filename", "g"}}},
             nullptr,
             {"https://x/f", {{"http.checksum", "sha256:1"}, {"http.filename", "g"}}}},
        Case{"ConvertThenDeny",
             {"rules {action: CONVERT selector {identifier: '*alpine*'} updates {identifier: "
              "'docker-image://docker.io/library/busybox:latest'}}"
              "rules {action: DENY selector {identifier: '*busybox*'}}"},
             {"docker-image://docker.io/library/alpine:latest", {}},
             kDenied},
        Case{"ConvertTwice",
             {"rules {action: CONVERT selector {identifier: 'a://*'} updates {identifier: "
              "'b://$1'}}",
              "rules {action: CONVERT selector {identifier: 'b://*'} updates {identifier: "
              "'c://$1'}}"},
             {"a://x", {}},
             nullptr,
             {"c://x", {}}},
        Case{"ConvertForEver",
             {"rules {action: CONVERT selector {identifier: 'a://*'} updates {identifier: "
              "'a://x$1'}}"},
             {"a://x", {}},
             "too many mutations on a single source: too many operations"},
        Case{"NoSelector",
             {"rules {action: DENY}"},
             {kBusybox, {}},
             "invalid nil selector in policy"},
        Case{"NoUpdates",
             {"rules {action: CONVERT selector {identifier: 'x'}}"},
             {kBusybox, {}},
             "source policy: rule x: missing destination for convert rule"},
        Case{"BadRegex",
             {"rules {selector {identifier: '(' match_type: REGEX}}"},
             {kBusybox, {}},
             "source policy: invalid regex \"(\": missing ): ("},
        Case{"BadWildcard",
             {"rules {selector {identifier: 'x**'}}"},
             {kBusybox, {}},
             "source policy: invalid wildcard \"x**\": \"**\""}),
    [](const testing::TestParamInfo<Case>& each) { return std::string(each.param.name); });

TEST(SourcePolicyValuesTest, UnknownNumbersAndBrokenBytesAreRefused) {
  moby::buildkit::v1::sourcepolicy::Policy policy;
  auto& rule = *policy.add_rules();
  rule.mutable_selector()->set_identifier("x");
  rule.set_action(static_cast<moby::buildkit::v1::sourcepolicy::PolicyAction>(7));
  EXPECT_EQ(SourcePolicy::Create({policy.SerializeAsString()}).status().message(),
            "source policy: rule x: unknown action 7");
  rule.mutable_selector()->set_match_type(
      static_cast<moby::buildkit::v1::sourcepolicy::MatchType>(9));
  EXPECT_EQ(SourcePolicy::Create({policy.SerializeAsString()}).status().message(),
            "source policy: rule x: unknown match type 9");
  EXPECT_EQ(SourcePolicy::Create({"\xff"}).status().message(), "malformed source policy");
}

TEST(SourcePolicyValuesTest, IdentifiersInTheirWholeForm) {
  const std::vector<std::pair<SourceRef, std::string>> cases = {
      {{"docker-image://busybox", {}}, kBusybox},
      {{"docker-image://a b", {}}, "docker-image://a b"},
      {{"local://x", {}}, "local://x"},
      {{"https://h/x", {}}, "https://h/x"},
      {{"git://github.com/a/b.git#v1:sub", {}}, "git://github.com/a/b.git#v1:sub"},
      {{"git://x", {{"git.fullurl", "https://user:pw@host:8080//a/../b.git"}}},
       "git://host:8080/b.git"},
      {{"git://x#r", {{"git.fullurl", "git@host:a/b"}}}, "git://host/a/b#r"},
  };
  for (const auto& [source, want] : cases) EXPECT_EQ(NormalizedIdentifier(source), want);
}

TEST(ExpandTemplateTest, AsGoDoes) {
  const RE2 pattern("(a)(?P<n>b)?");
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"xaby", "$1", "xay"},      {"xaby", "${n}-$$", "xb-$y"}, {"ay", "[$2]", "[]y"},
      {"ab", "$1x", ""},          {"ab", "${1}x$9", "ax"},      {"ab", "$ ${ $-", "$ ${ $-"},
      {"abab", "<$1>", "<a><a>"}, {"none", "$1", "none"},
  };
  for (const auto& [text, replacement, want] : cases)
    EXPECT_EQ(ReplaceAllMatches(pattern, text, replacement), want) << text << " " << replacement;
  EXPECT_EQ(ReplaceAllMatches(RE2("x*"), "axb", "-"), "-a-b-");
  EXPECT_EQ(ExpandMatch(pattern, "none", "$1"), std::nullopt);
}

}  // namespace
}  // namespace kiln::daemon
