#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "client/bake/hcl/evaluator.h"
#include "client/bake/hcl/parser.h"
#include "client/bake/hcl/type.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using testing::HasSubstr;

// Attributes of the text see each other as variables.
class FileScope : public Scope {
 public:
  explicit FileScope(const Body* body) : body_(body), evaluator_(this) {}
  absl::StatusOr<Value> Variable(const std::string& name) override {
    for (const hcl::Attribute& attribute : body_->attributes)
      if (attribute.name == name) return evaluator_.Evaluate(*attribute.value);
    return absl::NotFoundError(name);
  }
  bool IsBlockType(const std::string& type) const override { return type == "target"; }
  absl::StatusOr<Value> BlockAttribute(const std::string& type, const std::string& name,
                                       const std::string& attribute) override {
    return Value(absl::StrCat(type, "/", name, "/", attribute));
  }
  absl::StatusOr<Value> WholeBlock(const std::string& type, const std::string& name) override {
    return Value(absl::StrCat(type, "/", name));
  }
  const UserFunction* Function(const std::string&) override { return nullptr; }

 private:
  const Body* const body_;
  Evaluator evaluator_;
};

// The attribute "x" of a file, as JSON.
absl::StatusOr<std::string> EvaluateX(const std::string& text, bool json = false) {
  KILN_ASSIGN_OR_RETURN(const Body body, json ? ParseJson(text, "f") : ParseHcl(text, "f"));
  FileScope scope(&body);
  KILN_ASSIGN_OR_RETURN(const Value value, scope.Variable("x"));
  return ToJson(value);
}

struct Case {
  const char* name;
  const char* text;
  const char* want;  // JSON; or "!" and a part of the error
};
class HclTest : public testing::TestWithParam<Case> {};

void Check(const absl::StatusOr<std::string>& got, absl::string_view want) {
  if (want.substr(0, 1) == "!") {
    ASSERT_FALSE(got.ok()) << *got;
    EXPECT_THAT(std::string(got.status().message()), HasSubstr(std::string(want.substr(1))));
  } else {
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, want);
  }
}

TEST_P(HclTest, X) { Check(EvaluateX(GetParam().text), GetParam().want); }

std::string NameOf(const testing::TestParamInfo<Case>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Syntax, HclTest,
    testing::ValuesIn<Case>({
        {"Number", "x = 1.50", "1.5"},
        {"Exponent", "x = 1e3", "1000"},
        {"String", R"(x = "a\tb\u00e9\"")", R"("a\tbé\"")"},
        {"Comments", "# a\n// b\n/* c\n */ x = /* d */ 1 # e", "1"},
        {"Precedence", "x = 1 + 2 * 3 - 4 / 2 % 3", "5"},
        {"Comparison", "x = 1 < 2 && 2 >= 2 || false", "true"},
        {"LeftToRight", "x = 10 - 3 - 2", "5"},
        {"Unary", "x = !true == false && -1 < 0", "true"},
        {"Conditional", "x = a > 1 ? \"y\" : \"n\"\na = 2", "\"y\""},
        {"ConditionalLines", "x = (true\n ? 1\n : 2)", "1"},
        {"TupleLines", "x = [\n 1,\n 2, # c\n]", "[1,2]"},
        {"ObjectForms", "x = { a = 1, \"b c\": 2\n (k) = 3\n}\nk = \"d\"",
         R"({"a":1,"b c":2,"d":3})"},
        {"Null", "x = null", "null"},
        {"Index", "x = [1, [2, 3]][1][0]", "2"},
        {"LegacyIndex", "x = a.1.0\na = [1, [2, 3]]", "2"},
        {"Attribute", "x = {a = {b = 1}}.a.b", "1"},
        {"FullSplat", "x = a[*].b[0]\na = [{b = [1]}, {b = [2]}]", "[1,2]"},
        {"AttributeSplat", "x = a.*.b\na = [{b = 1}, {b = 2}]", "[1,2]"},
        {"SplatOfNull", "x = a[*].b\na = null", "[]"},
        {"ForTuple", "x = [for v in [1, 2, 3] : v * 2 if v != 2]", "[2,6]"},
        {"ForTupleIndex", "x = [for i, v in [\"a\", \"b\"] : \"${i}${v}\"]", R"(["0a","1b"])"},
        {"ForObject", "x = {for k, v in {a = 1, b = 2} : upper(k) => v}", R"({"A":1,"B":2})"},
        {"ForGroup", "x = {for v in [\"a\", \"ab\", \"b\"] : substr(v, 0, 1) => v...}",
         R"({"a":["a","ab"],"b":["b"]})"},
        {"Block", "x = target.app.tags", "\"target/app/tags\""},
        {"WholeBlock", "x = target[\"app\"]", "\"target/app\""},
        {"Spread", "x = max([1, 5, 3]...)", "5"},
        {"TrailingComma", "x = max(1, 5,)", "5"},
        {"IdentifierWithDash", "cache-from = 1\nx = cache-from", "1"},
        {"ForIsNoKeyword", "x = {for = 1}", R"({"for":1})"},
    }),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Templates, HclTest,
    testing::ValuesIn<Case>({
        {"Interpolation", "x = \"a${1 + 1}b${\"c${\"d\"}\"}\"", "\"a2bcd\""},
        {"KeepsType", "x = \"${[1]}\"", "[1]"},
        {"Escapes", "x = \"$${a} %%{b} $c\"", "\"${a} %{b} $c\""},
        {"Strip", "x = \"a  ${~ 1 ~}  b\"", "\"a1b\""},
        {"If", "x = \"%{ if a }yes%{ else }no%{ endif }!\"\na = false", "\"no!\""},
        {"IfAlone", "x = \"[%{ if false }a%{ endif }]\"", "\"[]\""},
        {"For", "x = \"%{ for i, v in [\"a\", \"b\"] }${i}${v};%{ endfor }\"", "\"0a;1b;\""},
        {"Heredoc", "x = <<EOT\na\n  ${1}\nEOT\n", R"("a\n  1\n")"},
        {"HeredocFlush", "x = <<-EOT\n    a\n\n      b\n    EOT\n", R"("a\n\n  b\n")"},
        {"HeredocIsRaw", "x = <<EOT\n\\n\"\nEOT\n", R"("\\n\"\n")"},
        {"HeredocInCall", "x = upper(<<EOT\na\nEOT\n)", R"("A\n")"},
        {"HeredocStripped", "x = <<EOT\n%{ for v in [1, 2] ~}\n${v}\n%{ endfor ~}\nEOT\n",
         R"("1\n2\n")"},
        {"StripEndsWithTheLine", "x = \"a\\n\\n ${~ 1 ~} \\n\\n b\"", R"("a\n\n1\n b")"},
        {"FlushAfterStrip", "x = <<-EOT\n  %{ if true ~}\n    a\n  %{ endif ~}\n  b\n  EOT\n",
         R"("    a\n  b\n")"},
        {"BoolAndNumber", "x = \"${true}-${1.0}\"", "\"true-1\""},
    }),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Errors, HclTest,
    testing::ValuesIn<Case>({
        {"NoValue", "x =", "!f:1:4: an expression is expected here, not the end"},
        {"OpenString", "\nx = \"a", "!f:2:5: this string has no end"},
        {"StringOverLines", "x = \"a\nb\"", "!f:1:7: a string ends on its line"},
        {"OpenHeredoc", "x = <<EOT\na", "!f:1:5: this text is not ended by EOT"},
        {"OpenComment", "/* x", "!f:1:1: this comment has no end"},
        {"Twice", "x = 1\nx = 2", "!f:2:1: \"x\" is set already at f:1:1"},
        {"TwoOnALine", "x = 1 y = 2", "!f:1:7: a new line is expected here, not \"y\""},
        {"OpenList", "x = [1", "!f:1:7: \"]\" is expected here"},
        {"BadCharacter", "x = 1 ; 2", "!f:1:7: unexpected character ';'"},
        {"BadEscape", "x = \"\\q\"", "!f:1:6: unknown escape"},
        {"NoVariable", "x = y", "!f:1:5: there is no variable \"y\""},
        {"NoFunction", "x = y()", "!f:1:5: there is no function \"y\""},
        {"NotImplemented", "x = bcrypt(\"a\")",
         "!f:1:5: the function \"bcrypt\" is not implemented"},
        {"FunctionError", "x = regex(\"(\", \"a\")", "!f:1:5: regex: bad pattern"},
        {"DivisionByZero", "x = 1 / 0", "!f:1:7: division by zero"},
        {"NullInTemplate", "x = \"a${null}\"", "!f:1:9: null can't be part of a string"},
        {"ListInTemplate", "x = \"a${[]}\"", "!f:1:9: a string is required, not list"},
        {"OutOfRange", "x = [1][1]", "!f:1:8: index 1 is not in a list of 1"},
        {"NoAttribute", "x = {}.a", "!f:1:7: there is no \"a\" in this object"},
        {"BlockAsVariable", "x = target", "!f:1:5: cannot access target as a variable"},
        {"EndWithoutIf", "x = \"%{ endif }\"", "!f:1:5: %{endif} without its beginning"},
        {"IfWithoutEnd", "x = \"%{ if true }\"", "!%{if} is not ended"},
        {"DuplicateKey", "x = {for v in [1, 1] : v => v}", "!two items have the key \"1\""},
        {"Inexact", "x = 12345678901234567890",
         "!f:1:5: the number 12345678901234567890 is too large"},
        {"UnknownBlockEnd", "a {\n", "!f:2:1: \"}\" is expected here, not the end"},
    }),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Functions, HclTest,
    testing::ValuesIn<Case>({
        {"Try", "x = [try(y, 1), can(y), can(1)]", "[1,false,true]"},
        {"Convert", "x = convert([\"1\", 2], list(number))", "[1,2]"},
        {"Format", "x = format(\"%s-%03d-%.1f-%q-%v-%5s|%%\", \"a\", 7, 1.25, \"b\", [1], \"c\")",
         R"("a-007-1.2-\"b\"-[1]-    c|%")"},
        {"FormatList", "x = formatlist(\"%s/%s:%d\", \"r\", [\"a\", \"b\"], [1, 2])",
         R"(["r/a:1","r/b:2"])"},
        {"FormatListOfNone", "x = [formatlist(\"%s\", \"a\"), formatlist(\"%s\", [])]",
         R"([["a"],[]])"},
        {"FormatListUneven", "x = formatlist(\"%s%s\", [1], [1, 2])",
         "!formatlist: the lists have different lengths"},
        {"Case", "x = [upper(\"aB\"), lower(\"aB\"), title(\"hello world\")]",
         R"(["AB","ab","Hello World"])"},
        {"TrimAll",
         "x = [trim(\"?!a!?\", \"!?\"), trimspace(\" a \"), trimprefix(\"ab\", \"a\"), "
         "trimsuffix(\"ab\", \"b\"), chomp(\"a\\n\\n\")]",
         R"(["a","a","b","a","a"])"},
        {"JoinSplit", "x = join(\"-\", split(\",\", \"a,b\"), [\"c\"])", "\"a-b-c\""},
        {"Replace", "x = replace(\"1.2.3\", \".\", \"-\")", "\"1-2-3\""},
        {"Substr", "x = [substr(\"hello\", 1, 2), substr(\"hello\", -2, -1)]", R"(["el","lo"])"},
        {"Indent", "x = indent(2, \"a\\nb\")", R"("a\n  b")"},
        {"Regex",
         "x = [regex(\"[0-9]+\", \"a12b\"), regex(\"(.)(.)\", \"ab\"), "
         "regex(\"(?P<k>a)\", \"a\")]",
         R"(["12",["a","b"],{"k":"a"}])"},
        {"RegexAll", "x = regexall(\"[a-z]\", \"a1b\")", R"(["a","b"])"},
        {"RegexReplace",
         "x = regex_replace(\"v1.2\", \"v(?P<major>[0-9]+)\\\\.([0-9]+)\", "
         "\"$2-$${major}\")",
         "\"2-1\""},
        {"Numbers",
         "x = [absolute(-1), ceil(1.2), floor(1.8), int(1.8), min(2, 1), pow(2, 3), "
         "signum(-4), parseint(\"ff\", 16), modulo(7, 3)]",
         "[1,2,1,1,1,8,-1,255,1]"},
        {"Collections",
         "x = [length([1]), contains([1], 1), keys({b = 1, a = 2}), "
         "values({b = 1, a = 2}), reverselist([1, 2]), slice([1, 2, 3], 1, 2)]",
         R"([1,true,["a","b"],[2,1],[2,1],[2]])"},
        {"MoreCollections",
         "x = [merge({a = 1}, {a = 2}), flatten([1, [2, [3]]]), range(3), "
         "range(3, 1), chunklist([1, 2, 3], 2), element([1, 2], 3), "
         "lookup({}, \"a\", 4), zipmap([\"a\"], [1]), indexof([\"a\"], \"a\")]",
         R"([{"a":2},[1,2,3],[0,1,2],[3,2],[[1,2],[3]],2,4,{"a":1},0])"},
        {"Sets",
         "x = [setunion([1], [2, 1]), setintersection([1, 2], [2]), "
         "setsubtract([1, 2], [2]), setproduct([1, 2], [\"a\"]), distinct([1, 1])]",
         R"([[1,2],[2],[1],[[1,"a"],[2,"a"]],[1]])"},
        {"Choices",
         "x = [coalesce(null, 1), coalescelist([], [1]), compact([\"\", \"a\"]), "
         "sort([\"b\", \"a\"])]",
         R"([1,[1],["a"],["a","b"]])"},
        {"Encodings",
         "x = [base64encode(\"a\"), base64decode(\"YQ==\"), jsonencode({a = [1]}), "
         "jsondecode(\"[true]\"), urlencode(\"a b/c\")]",
         R"json(["YQ==","a","{\"a\":[1]}",[true],"a+b%2Fc"])json"},
        {"Digests", "x = [md5(\"\"), sha1(\"\"), substr(sha256(\"\"), 0, 8)]",
         R"(["d41d8cd98f00b204e9800998ecf8427e","da39a3ee5e6b4b0d3255bfef95601890afd80709","e3b0c442"])"},
        {"Paths", "x = [basename(\"/a/b/\"), dirname(\"/a/b\"), sanitize(\"a.b/é\")]",
         R"(["b","/a","a_b__"])"},
        {"ArgumentCount", "x = upper()", "!upper takes 1 arguments, not 0"},
        {"RangeLimit", "x = range(2000)", "!range: more than 1024 numbers"},
        {"FormatMissing", "x = format(\"%s\")", "!format: not enough arguments"},
        {"FormatWidth", "x = format(\"%9999999s\", 1)", "!format: the width is too large"},
    }),
    NameOf);

// What hostile files must not do: use the stack up, run for long, or take all memory.
TEST(HclLimits, NestingIsRefused) {
  for (const char* open : {"(", "[", "{a=", "-", "!", "\"${", "f(", "a?a:", "a[", "[for a in "}) {
    std::string text = "x = ";
    for (int i = 0; i < 100000; ++i) text += open;
    const auto got = EvaluateX(text);
    ASSERT_FALSE(got.ok()) << open;
    EXPECT_THAT(std::string(got.status().message()), HasSubstr("nested too deeply")) << open;
  }
  std::string blocks;
  for (int i = 0; i < 100000; ++i) blocks += "a {\n";
  EXPECT_THAT(std::string(ParseHcl(blocks, "f").status().message()),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(std::string(ParseJson(std::string(100000, '['), "f").status().message()),
              HasSubstr("nested too deeply"));
}

TEST(HclLimits, ChainsAreRefused) {
  std::string sum = "x = 1";
  std::string access = "x = a";
  for (int i = 0; i < 100000; ++i) {
    sum += "+1";
    access += ".a";
  }
  EXPECT_THAT(std::string(EvaluateX(sum).status().message()), HasSubstr("too many operators"));
  EXPECT_THAT(std::string(EvaluateX(access).status().message()), HasSubstr("too many accesses"));
}

TEST(HclLimits, WorkIsBounded) {
  const char* loops =
      "x = [for a in range(1000) : [for b in range(1000) : [for c in range(1000) : c]]]";
  EXPECT_EQ(EvaluateX(loops).status().code(), absl::StatusCode::kResourceExhausted);
  std::string doubling = "a0 = \"0123456789\"\n";
  for (int i = 1; i < 60; ++i)
    doubling += absl::StrCat("a", i, " = \"${a", i - 1, "}${a", i - 1, "}\"\n");
  EXPECT_EQ(EvaluateX(doubling + "x = a59").status().code(), absl::StatusCode::kResourceExhausted);
  // Not even try hides it.
  EXPECT_EQ(EvaluateX(doubling + "x = try(a59, 1)").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(EvaluateX("x = x").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(HclJson, StringsAreTemplates) {
  Check(EvaluateX(R"j({"a": "b", "x": ["${a}c", "${upper(\"d\")}", 1.5, -2, true, null]})j", true),
        R"(["bc","D",1.5,-2,true,null])");
  Check(EvaluateX(R"({"x": {"\ud83d\ude00\/": "\u0041"}})", true), R"({"😀/":"A"})");
  Check(EvaluateX(R"({"x": [1,]})", true), "!f:1:10: a value is expected here");
  Check(EvaluateX(R"({"x": 1)", true), "!f:1:8: \",\" or \"}\" is expected here");
  Check(EvaluateX("{\n \"x\": \"${\"}", true), "!f:2:");
  Check(EvaluateX("[]", true), "!f:1:1: an object is expected");
}

TEST(HclBlocks, LabelsAndBodies) {
  const auto body = ParseHcl("a \"b\" c {\n d = 1\n e {}\n}\nf { g = 2 }\n", "f");
  ASSERT_TRUE(body.ok()) << body.status();
  ASSERT_EQ(body->blocks.size(), 2u);
  EXPECT_EQ(body->blocks[0].labels, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(body->blocks[0].body.attributes[0].name, "d");
  EXPECT_EQ(body->blocks[0].body.blocks[0].type, "e");
  EXPECT_EQ(body->blocks[1].position.line, 5);
}

TEST(HclBlocks, OneLineHasOneArgument) {
  for (const char* good : {"f {}\n", "f {\n}\n", "f { a = 1 }\n", "f { a = [\n 1\n] }\n",
                           "f {\n a = 1\n g { b = 1 }\n}\n"})
    EXPECT_TRUE(ParseHcl(good, "f").ok()) << good << ParseHcl(good, "f").status();
  for (const char* bad : {"f { a = 1 b = 2 }\n", "f { a = 1\n}\n", "f { a = 1\n b = 2\n}\n",
                          "f {\n a = 1 }\n", "f\n{\n}\n", "f { g {} }\n"})
    EXPECT_EQ(ParseHcl(bad, "f").status().code(), absl::StatusCode::kInvalidArgument) << bad;
}

struct TypeCase {
  const char* name;
  const char* type;
  const char* text;  // of the environment
  const char* want;
};
class HclTypeTest : public testing::TestWithParam<TypeCase> {};

TEST_P(HclTypeTest, FromEnvironment) {
  const auto body = ParseHcl(absl::StrCat("x = ", GetParam().type), "f");
  ASSERT_TRUE(body.ok()) << body.status();
  const auto type = ParseType(*body->attributes[0].value);
  if (!type.ok()) return Check(type.status(), GetParam().want);
  const auto value = FromEnvironment("V", GetParam().text, *type);
  if (!value.ok()) return Check(value.status(), GetParam().want);
  Check(ToJson(*value), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    All, HclTypeTest,
    testing::ValuesIn<TypeCase>({
        {"String", "string", "a,b", "\"a,b\""},
        {"Bool", "bool", "T", "true"},
        {"BadBool", "bool", "maybe", "!failed to parse V as bool: \"maybe\" is no bool"},
        {"Number", "number", "1.5", "1.5"},
        {"BadNumber", "number", "one", "!failed to parse V as number"},
        {"List", "list(number)", "1,2", "[1,2]"},
        {"Quoted", "list(string)", "\"a,b\",c", R"(["a,b","c"])"},
        {"Set", "set(string)", "a,b,a", R"(["a","b"])"},
        {"Map", "map(bool)", "a:true,b:false", R"({"a":true,"b":false})"},
        {"BadMap", "map(bool)", "a", "!V: \"a\" must be KEY:VALUE"},
        {"Tuple", "tuple([string, number])", "a,1", R"(["a",1])"},
        {"BadTuple", "tuple([string])", "a,1", "!V: tuple expects 1 items, not 2"},
        {"Object", "object({a = string})", "a", "!unsupported type object for variable V"},
        {"Nested", "list(list(string))", "a", "!unsupported type list of string for variable V"},
        {"NoType", "text", "", "!f:1:5: \"text\" is no type"},
        {"NoParameter", "list", "", "!the type list needs a parameter"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln::client::hcl
