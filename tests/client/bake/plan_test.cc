#include "client/bake/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

using testing::HasSubstr;

struct Input {
  std::vector<File> files;
  std::map<std::string, std::string> environment;
  std::vector<std::string> names, sets;
};

absl::StatusOr<Plan> PlanOf(const Input& input) {
  const auto lookup = [&input](const std::string& name) -> std::optional<std::string> {
    const auto found = input.environment.find(name);
    if (found == input.environment.end()) return std::nullopt;
    return found->second;
  };
  DefinitionOptions definition_options{lookup, {{"BAKE_CMD_CONTEXT", "cwd://"}}};
  KILN_ASSIGN_OR_RETURN(const Definition definition,
                        ReadDefinition(input.files, definition_options));
  return MakePlan(definition, {input.names, input.sets, lookup});
}

// What is printed can be read again: texts are templates there.
TEST(BakePrint, EscapesTemplates) {
  Input input;
  input.files.push_back({"docker-bake.hcl", R"(target "t" {
  args = { a = "$${x} %%{y} $z" }
  labels = { l = "$${x}" }
  annotations = ["k=$${x}"]
  dockerfile-inline = "RUN $${x}"
})"});
  input.names = {"t"};
  const auto plan = PlanOf(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string printed = PlanJson(*plan);
  for (const char* text : {R"("a": "$${x} %%{y} $z")", R"("l": "$${x}")", R"("k=$${x}")",
                           R"("dockerfile-inline": "RUN $${x}")"})
    EXPECT_NE(printed.find(text), std::string::npos) << text << " in " << printed;
  input.files = {{"again.json", printed}};
  const auto again = PlanOf(input);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(PlanJson(*again), printed);
}

// Recorded: each file holds "# ARGUMENTS" and the JSON that Docker's bake prints for them.
TEST(BakePrint, EqualsWhatDockerPrints) {
  const std::string folder = absl::StrCat(KILN_TESTDATA, "/bake/");
  std::ifstream cases(folder + "cases.txt");
  ASSERT_TRUE(cases.good());
  std::string line;
  Input input;
  std::string want;
  int checked = 0;
  const auto check = [&] {
    if (input.files.empty()) return;
    const auto plan = PlanOf(input);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(PlanJson(*plan) + "\n", want);
    ++checked;
  };
  while (std::getline(cases, line)) {
    if (line.substr(0, 2) != "# ") {
      absl::StrAppend(&want, line, "\n");
      continue;
    }
    check();
    SCOPED_TRACE(line);
    input = {};
    want.clear();
    const std::vector<std::string> words = absl::StrSplit(line.substr(2), ' ');
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == "-f") {
        std::ifstream file(folder + words[++i]);
        ASSERT_TRUE(file.good()) << words[i];
        std::stringstream text;
        text << file.rdbuf();
        input.files.push_back({words[i], text.str()});
      } else if (words[i] == "--set") {
        input.sets.push_back(words[++i]);
      } else if (words[i] == "--env") {
        const std::pair<std::string, std::string> pair =
            absl::StrSplit(words[++i], absl::MaxSplits('=', 1));
        input.environment.insert(pair);
      } else {
        input.names.push_back(words[i]);
      }
    }
  }
  check();
  EXPECT_GT(checked, 15);
}

struct Case {
  const char* name;
  const char* hcl;
  const char* environment;  // "NAME=VALUE", or ""
  const char* want;         // compact JSON of the targets' args.v; or "!" and a part of the error
};
class BakeTest : public testing::TestWithParam<Case> {};

TEST_P(BakeTest, V) {
  Input input;
  input.files = {{"f.hcl", GetParam().hcl}};
  if (*GetParam().environment != '\0') {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(GetParam().environment, absl::MaxSplits('=', 1));
    input.environment.insert(pair);
  }
  const auto plan = PlanOf(input);
  const std::string want = GetParam().want;
  if (want[0] == '!') {
    ASSERT_FALSE(plan.ok());
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(want.substr(1)));
    return;
  }
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::string got;
  for (const auto& [name, target] : plan->targets) {
    const auto& args = target.Map("args");
    const auto v = args.find("v");
    absl::StrAppend(&got, got.empty() ? "" : " ", name, "=", v == args.end() ? "-" : v->second);
  }
  EXPECT_EQ(got, want);
}

#define DEFAULT_V(expr) "\ntarget \"default\" { args = { v = " expr " } }\n"

INSTANTIATE_TEST_SUITE_P(
    Variables, BakeTest,
    testing::ValuesIn<Case>({
        {"Default", "variable \"X\" { default = \"a\" }" DEFAULT_V("X"), "", "default=a"},
        {"Environment", "variable \"X\" { default = \"a\" }" DEFAULT_V("X"), "X=b", "default=b"},
        {"NoDefault", "variable \"X\" {}" DEFAULT_V("\"[${X}]\""), "", "default=[]"},
        {"NullDefault", "variable \"X\" { default = null }" DEFAULT_V("X"), "", "default=-"},
        {"Number", "variable \"X\" { default = 1 }" DEFAULT_V("X + 1"), "X=4", "default=5"},
        {"Bool", "variable \"X\" { default = false }" DEFAULT_V("X ? 1 : 2"), "X=1", "default=1"},
        {"BadNumber", "variable \"X\" { default = 1 }" DEFAULT_V("X"), "X=a",
         "!failed to parse X as number"},
        {"ListFromEnvironment", "variable \"X\" { default = [] }" DEFAULT_V("1"), "X=a",
         "!unsupported type list for variable X"},
        {"Typed",
         "variable \"X\" {\n type = list(string)\n default = []\n}" DEFAULT_V("join(\"+\", X)"),
         "X=a,b", "default=a+b"},
        {"TypedJson", "variable \"X\" {\n type = object({k = number})\n}" DEFAULT_V("X.k"),
         "X_JSON={\"k\":3}", "default=3"},
        {"TypedNull", "variable \"X\" { type = string }" DEFAULT_V("X == null"), "",
         "default=true"},
        {"WrongDefault", "variable \"X\" {\n type = number\n default = \"a\"\n}" DEFAULT_V("X"), "",
         "!f.hcl:3:2: invalid type number for variable X default value"},
        {"Global", "X = \"a\"" DEFAULT_V("X"), "X=b", "default=a"},
        {"GlobalOverVariable", "X = \"a\"\nvariable \"X\" { default = \"c\" }" DEFAULT_V("X"), "",
         "default=a"},
        {"ChainInAnyOrder", DEFAULT_V("X") "X = \"${Y}x\"\nvariable \"Y\" { default = \"y\" }",
         "Y=z", "default=zx"},
        {"Cycle", "X = Y\nY = X" DEFAULT_V("X"), "", "!variable cycle not allowed for X"},
        {"BuiltIn", DEFAULT_V("BAKE_CMD_CONTEXT"), "", "default=cwd://"},
        {"Validation",
         "variable \"X\" {\n default = \"a\"\n validation {\n condition = X != \"\"\n"
         "error_message = \"X must not be empty\"\n}\n}" DEFAULT_V("X"),
         "X=", "!X must not be empty"},
        {"Unknown", DEFAULT_V("Z"), "", "!there is no variable \"Z\""},
    }),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Functions, BakeTest,
    testing::ValuesIn<Case>({
        {"Defined",
         "function \"f\" {\n params = [a, b]\n result = \"${a}-${b}\"\n}" DEFAULT_V("f(1, 2)"), "",
         "default=1-2"},
        {"Variadic",
         "function \"f\" {\n params = [a]\n variadic_params = r\n result = "
         "\"${a}${length(r)}\"\n}" DEFAULT_V("f(1, 2, 3)"),
         "", "default=12"},
        {"OfVariables",
         "X = \"x\"\nfunction \"f\" {\n params = []\n result = X\n}" DEFAULT_V("f()"), "",
         "default=x"},
        {"Recursive", "function \"f\" {\n params = [a]\n result = f(a)\n}" DEFAULT_V("f(1)"), "",
         "!function cycle not allowed for f"},
        {"TooMany", "function \"f\" {\n params = []\n result = 1\n}" DEFAULT_V("f(1)"), "",
         "!function f takes 0 arguments, not 1"},
        {"NoResult", "function \"f\" { params = [] }", "", "!a function needs a \"result\""},
    }),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Targets, BakeTest,
    testing::ValuesIn<Case>({
        {"Merged", "target \"default\" { args = { v = 1 } }\ntarget \"default\" { tags = [\"a\"] }",
         "", "default=1"},
        {"Inherits", "target \"a\" { args = { v = 1 } }\ntarget \"default\" { inherits = [\"a\"] }",
         "", "default=1"},
        {"InheritsCircle",
         "target \"a\" {\n inherits = [\"default\"]\n args = { v = 1 }\n}\n"
         "target \"default\" { inherits = [\"a\"] }",
         "", "default=1"},
        {"OfOthers", "target \"a\" { tags = [\"x\"] }" DEFAULT_V("target.a.tags[0]"), "",
         "default=x"},
        {"OfUnset", "target \"a\" {}" DEFAULT_V("target.a.dockerfile == null"), "", "default=true"},
        {"OfItself",
         "target \"default\" {\n tags = [\"x\"]\n args = { v = target.default.tags[0] }\n}", "",
         "default=x"},
        {"Circle", DEFAULT_V("target.default.args.v"), "",
         "!reference cycle not allowed for target.default.args"},
        {"Matrix",
         "target \"default\" {\n name = \"t-${os}-${n}\"\n matrix = { n = [1, 2], os = [\"a\"] }\n"
         "args = { v = \"${os}${n}\" }\n}",
         "", "t-a-1=a1 t-a-2=a2"},
        {"MatrixOfObjects",
         "target \"default\" {\n name = \"t-${i.n}\"\n matrix = { i = [{n = 1}] }\n"
         "args = { v = i.n }\n}",
         "", "t-1=1"},
        {"MatrixWithoutName", "target \"default\" { matrix = { n = [1, 2] } }", "",
         "!f.hcl:1:1: duplicate name \"default\""},
        {"NameWithoutMatrix", "target \"default\" { name = \"a\" }", "", "!name requires matrix"},
        {"MatrixOfText", "target \"default\" { matrix = { n = \"a\" } }", "",
         "!matrix values must be a list"},
        {"Nested",
         "group \"default\" { targets = [\"g\", \"b\"] }\ngroup \"g\" { targets = [\"a\", "
         "\"default\"] }\n"
         "target \"a\" {}\ntarget \"b\" {}",
         "", "a=- b=-"},
        {"Links", "target \"default\" { contexts = { x = \"target:a\" } }\ntarget \"a\" {}", "",
         "a=- default=-"},
        {"LinkToItself", "target \"default\" { contexts = { x = \"target:default\" } }", "",
         "!target default cannot link to itself"},
        {"LinkCircle",
         "target \"default\" { contexts = { x = \"target:a\" } }\n"
         "target \"a\" { contexts = { x = \"target:default\" } }",
         "", "!infinite loop from a to default"},
        {"LinkPlatforms",
         "target \"default\" {\n contexts = { x = \"target:a\" }\n platforms = [\"p\", \"q\"]\n}\n"
         "target \"a\" { platforms = [\"p\", \"r\"] }",
         "", "!because its platforms p,r lack some of p,q"},
        {"Missing", "target \"a\" {}", "", "!failed to find target default"},
        {"UnknownAttribute", "target \"default\" { contex = \".\" }", "",
         "!f.hcl:1:20: a target has no \"contex\""},
        {"NotImplemented", "target \"default\" { policy = [] }", "",
         "!\"policy\" is not implemented"},
        {"WrongKind", "target \"default\" { tags = \"a\" }", "",
         "!f.hcl:1:30: tags: a list is required, not string"},
        {"BadName", "target \"a.b\" {}", "", "!invalid name \"a.b\""},
        {"UnknownBlock", "targets \"a\" {}", "", "!unknown block \"targets\""},
        {"Stdin", "target \"default\" { context = \"-\" }", "", "!context from stdin not allowed"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(BakeSettings, MistakesAreNamed) {
  const auto refused = [](const std::string& set, const char* text) {
    const auto plan = PlanOf({{{"f.hcl", "target \"a\" {}"}}, {}, {"a"}, {set}});
    ASSERT_FALSE(plan.ok()) << set;
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(text));
  };
  refused("a=1", "invalid override key a, expected target.name");
  refused("a.tags", "invalid override a.tags, expected target.name=value");
  refused("b.tags=x", "could not find any target matching 'b'");
  refused("a.nothing=1", "unknown key: nothing");
  refused("a.args=1", "invalid key a.args, args requires name");
  refused("a.pull=maybe", "invalid value maybe for boolean key pull");
}

TEST(BakeObjects, ItemsOfListsMayBeObjects) {
  const auto plan = PlanOf({{{"f.hcl", R"(target "default" {
  cache-from = [{ type = "registry", ref = "a/b" }]
  output = [{ dest = "a,b", type = "oci" }]
  ssh = [{ id = "default", paths = ["s"] }]
})"}},
                            {},
                            {},
                            {}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Target& target = plan->targets.at("default");
  EXPECT_EQ(target.List("cache-from")[0], "type=registry,ref=a/b");
  EXPECT_EQ(target.List("output")[0], "type=oci,\"dest=a,b\"");
  EXPECT_EQ(target.List("ssh")[0], "default=s");
}

TEST(BakeJson, BlocksAreMembers) {
  const char* json = R"({
  "variable": {"X": {"default": "a", "validation": {"condition": "${X != \"\"}",
                                                    "error_message": "empty"}}},
  "function": {"f": {"params": ["p"], "result": "${p}!"}},
  "group": {"default": {"targets": ["t"]}},
  "target": {"t": [{"args": {"v": "${f(X)}"}}, {"tags": ["x"]}]}
})";
  const auto plan = PlanOf({{{"f.json", json}}, {}, {}, {}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->targets.at("t").Map("args").at("v"), "a!");
  EXPECT_EQ(plan->targets.at("t").List("tags")[0], "x");
  EXPECT_THAT(std::string(PlanOf({{{"f.json", json}}, {{"X", ""}}, {}, {}}).status().message()),
              HasSubstr("empty"));
  // A file of another name may be either.
  EXPECT_TRUE(PlanOf({{{"f", json}}, {}, {}, {}}).ok());
}

}  // namespace
}  // namespace kiln::client::bake
