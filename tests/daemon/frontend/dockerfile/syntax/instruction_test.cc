// What each instruction says, and refuses (dockerfile.md 1.3, 1.4, 1.7, 2).
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/frontend/dockerfile/syntax/parsing.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct ErrorCase {
  const char* name;
  const char* text;  // after "FROM a", on line 2
  const char* want;  // without the prefix
};

class InstructionErrorTest : public testing::TestWithParam<ErrorCase> {};

TEST_P(InstructionErrorTest, Message) {
  std::string location;
  EXPECT_EQ(ErrorOf(absl::StrCat("FROM a\n", GetParam().text), &location),
            absl::StrCat("dockerfile parse error on line 2: ", GetParam().want));
  EXPECT_EQ(location, "2-2");
}

constexpr auto kName = [](const auto& test) { return std::string(test.param.name); };

INSTANTIATE_TEST_SUITE_P(
    Arguments, InstructionErrorTest,
    testing::ValuesIn<ErrorCase>({
        {"FromNothing", "FROM", "FROM requires either one or three arguments"},
        {"FromTwo", "FROM a b", "FROM requires either one or three arguments"},
        {"FromFour", "FROM a AS b c", "FROM requires either one or three arguments"},
        {"FromNotAs", "FROM a OS b", "FROM requires either one or three arguments"},
        {"StageDigit", "FROM a AS 1b",
         "invalid name for build stage: \"1b\", name can't start with a number or contain symbols"},
        {"StageSymbol", "FROM a AS B$",
         "invalid name for build stage: \"B$\", name can't start with a number or contain symbols"},
        {"StageBeforeFlags", "FROM --x a AS 1",
         "invalid name for build stage: \"1\", name can't start with a number or contain symbols"},
        {"Maintainer", "MAINTAINER", "MAINTAINER requires exactly one argument"},
        {"Workdir", "WORKDIR", "WORKDIR requires exactly one argument"},
        {"User", "user", "USER requires exactly one argument"},
        {"StopSignal", "STOPSIGNAL", "STOPSIGNAL requires exactly one argument"},
        {"Env", "ENV", "ENV requires at least one argument"},
        {"Label", "LABEL", "LABEL requires at least one argument"},
        {"Arg", "ARG", "ARG requires at least one argument"},
        {"Onbuild", "ONBUILD", "ONBUILD requires at least one argument"},
        {"Healthcheck", "HEALTHCHECK", "HEALTHCHECK requires at least one argument"},
        {"Expose", "EXPOSE", "EXPOSE requires at least one argument"},
        {"Volume", "VOLUME", "VOLUME requires at least one argument"},
        {"VolumeEmptyArray", "VOLUME []", "VOLUME requires at least one argument"},
        {"Shell", "SHELL", "SHELL requires at least one argument"},
        {"ShellEmpty", "SHELL []", "SHELL requires at least one argument"},
        {"ShellForm", "SHELL bash -c", "SHELL requires the arguments to be in JSON form"},
        {"ShellBadJson", "SHELL ['bash']", "SHELL requires the arguments to be in JSON form"},
        {"CopyOne", "COPY a",
         "COPY requires at least two arguments, but only one was provided. Destination could not "
         "be "
         "determined"},
        {"AddNone", "ADD",
         "ADD requires at least two arguments, but only one was provided. Destination could not be "
         "determined"},
        {"AddBeforeFlags", "ADD --x a",
         "ADD requires at least two arguments, but only one was provided. Destination could not be "
         "determined"},
        {"VolumeBlank", "VOLUME [\" \"]", "VOLUME specified can not be an empty string"},
        {"BlankEnv", "ENV =x", "ENV names can not be blank"},
        {"BlankLabel", "LABEL a=b =c", "LABEL names can not be blank"},
        {"BlankArg", "ARG a =x", "ARG names can not be blank"},
        {"OnbuildTwice", "ONBUILD ONBUILD RUN x",
         "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
        {"OnbuildFrom", "ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"},
        {"OnbuildMaintainer", "ONBUILD MAINTAINER x",
         "MAINTAINER isn't allowed as an ONBUILD trigger"},
        {"Unknown", "NOSUCHTHING x", "unknown instruction: NOSUCHTHING"},
    }),
    kName);

INSTANTIATE_TEST_SUITE_P(
    Healthcheck, InstructionErrorTest,
    testing::ValuesIn<ErrorCase>({
        {"NoneArguments", "HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"},
        {"Type", "HEALTHCHECK \"x\" y", "Unknown type \"\\\"X\\\"\" in HEALTHCHECK (try CMD)"},
        {"NoCommand", "HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"},
        {"NoCommandInArray", "HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"},
        {"FlagBeforeType", "HEALTHCHECK --x BAD", "unknown flag: --x"},
        {"Interval", "HEALTHCHECK --interval=1us CMD x",
         "Interval \"interval\" cannot be less than 1ms"},
        {"Negative", "HEALTHCHECK --start-period=-1s CMD x",
         "Interval \"start-period\" cannot be less than 1ms"},
        {"NoUnit", "HEALTHCHECK --timeout=5 CMD x", "time: missing unit in duration \"5\""},
        {"BadUnit", "HEALTHCHECK --start-interval=5d CMD x",
         "time: unknown unit \"d\" in duration \"5d\""},
        {"Retries", "HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"},
        {"RetriesWord", "HEALTHCHECK --retries=x CMD x",
         "strconv.ParseInt: parsing \"x\": invalid syntax"},
        {"RetriesLarge", "HEALTHCHECK --retries=2147483648 CMD x",
         "strconv.ParseInt: parsing \"2147483648\": value out of range"},
    }),
    kName);

INSTANTIATE_TEST_SUITE_P(
    Flags, InstructionErrorTest,
    testing::ValuesIn<ErrorCase>({
        {"Cmd", "CMD --foo", "unknown flag: --foo"},
        {"Env", "ENV --foo a=b", "unknown flag: --foo"},
        {"Onbuild", "ONBUILD --foo RUN x", "unknown flag: --foo"},
        {"Hint", "COPY --form=a b c", "unknown flag: --form (did you mean from?)"},
        {"HintAdd", "ADD --chmd=1 b c", "unknown flag: --chmd (did you mean chmod?)"},
        {"S82Mont", "RUN --mont=target=/x y", "unknown flag: --mont (did you mean mount?)"},
        {"NoHintForOtherCase", "RUN --MOUNT=target=/x y", "unknown flag: --MOUNT"},
        {"Duplicate", "COPY --from=a --from=b c d", "duplicate flag specified: --from"},
        {"DuplicateBool", "COPY --link --link=false c d", "duplicate flag specified: --link"},
        {"NoValue", "COPY --from c d", "missing a value on flag: --from"},
        {"NoValueInList", "RUN --mount x", "missing a value on flag: --mount"},
        {"EmptyBool", "COPY --link= c d", "missing a value on flag: --link"},
        {"BadBool", "COPY --link=yes c d", "expecting boolean value for flag --link, not: yes"},
        {"Platform", "FROM --platfrm=x a", "unknown flag: --platfrm (did you mean platform?)"},
        {"Network", "RUN --network=bridge x", "invalid network mode \"bridge\""},
        {"NetworkEmpty", "RUN --network= x", "invalid network mode \"\""},
        {"Security", "RUN --security=low x", "security \"low\" is not valid"},
        {"S87MountFrom", "RUN --mount=type=cache,from=$ttt,target=/x y",
         "'from' doesn't support variable expansion, define alias stage instead"},
        {"MountCsv", "RUN --mount=a\\\"b x",
         "failed to parse csv mounts: parse error on line 1, column 2: bare \" in non-quoted "
         "field"},
        {"MountEmpty", "RUN --mount= x", "failed to parse csv mounts: EOF"},
        {"DeviceKey", "RUN --device=a,nam=b x",
         "unexpected key 'nam' in 'nam=b' (did you mean name?)"},
        {"DeviceTwice", "RUN --device=a,name=b x", "device name already set to a"},
        {"DeviceField", "RUN --device=a,b x", "invalid field 'b' must be a key=value pair"},
        {"DeviceRequired", "RUN --device=a,required=x x", "invalid value for required: x"},
    }),
    kName);

// Errors of the first step have no prefix.
TEST(Instruction, UnreadableArguments) {
  EXPECT_EQ(ErrorOf("FROM a\nENV x\n"), "ENV must have two arguments");
  EXPECT_EQ(ErrorOf("FROM a\nLABEL x\n"), "LABEL must have two arguments");
  EXPECT_EQ(ErrorOf("FROM a\nENV x=1 y\\\t z=2\n"),
            "Syntax error - can't find = in \"y\\\\\\t\". Must be of the form: name=value");
  EXPECT_EQ(ErrorOf("FROM a\nONBUILD ONBUILD ENV x\n"), "ENV must have two arguments");
  for (const char* array : {"CMD [\"a\", 1]", "RUN [null]", "COPY [[\"a\"], \"b\"]", "VOLUME [{}]",
                            "HEALTHCHECK CMD [true]", "ONBUILD RUN [1]", "ENTRYPOINT [ 1.5e3 ]"}) {
    EXPECT_EQ(ErrorOf(absl::StrCat("FROM a\n", array)),
              "when using JSON array syntax, arrays must be comprised of strings only")
        << array;
  }
}

struct CommandCase {
  const char* name;
  const char* text;
  bool shell_form;
  std::vector<std::string> want;
};

class CommandTest : public testing::TestWithParam<CommandCase> {};

TEST_P(CommandTest, ExecOrShell) {
  const CommandLine command = Only<Cmd>(absl::StrCat("CMD ", GetParam().text)).command;
  EXPECT_EQ(command.args, GetParam().want);
  EXPECT_EQ(command.shell_form, GetParam().shell_form);
}

INSTANTIATE_TEST_SUITE_P(
    Json, CommandTest,
    testing::ValuesIn<CommandCase>({
        {"Exec", "[\"a\", \"b c\"]", false, {"a", "b c"}},
        {"Blanks", " \t[ \"a\" ,\t\"b\" ]  ", false, {"a", "b"}},
        {"Empty", "[]", false, {}},
        {"EmptyWithBlank", "[ ]", false, {}},
        {"EmptyString", "[\"\"]", false, {""}},
        {"Escapes", R"(["\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC"])", false, {"\"\\/\b\f\n\r\tAé€"}},
        {"Surrogates", R"(["\ud83d\ude00"])", false, {"😀"}},
        {"LoneSurrogate", R"(["\ud83dx\ude00"])", false, {"\uFFFDx\uFFFD"}},
        {"HighTwice", R"(["\ud83d\ud83d\ude00"])", false, {"\uFFFD😀"}},
        {"Unicode", "[\"ä😀\"]", false, {"ä😀"}},
        {"BrokenUtf8", "[\"\xff\"]", false, {"\uFFFD"}},
        {"NoVariables", "[\"$a\"]", false, {"$a"}},
        {"Shell", "echo  \"$a\"  'b'", true, {"echo  \"$a\"  'b'"}},
        {"S17TextAfter",
         "[\"echo\",\"hello\"]this is invalid",
         true,
         {"[\"echo\",\"hello\"]this is invalid"}},
        {"S18TextAfterEmpty", "[]random string", true, {"[]random string"}},
        {"SingleQuotes", "['a']", true, {"['a']"}},
        {"TrailingComma", "[\"a\",]", true, {"[\"a\",]"}},
        {"Unclosed", "[\"a\"", true, {"[\"a\""}},
        {"UnclosedString", "[\"a]", true, {"[\"a]"}},
        {"BadEscape", R"(["\x"])", true, {R"(["\x"])"}},
        {"BadHex", R"(["\u00g0"])", true, {R"(["\u00g0"])"}},
        {"Tab", "[\"a\tb\"]", true, {"[\"a\tb\"]"}},
        {"BrokenNumber", "[1x]", true, {"[1x]"}},
        {"Test", "[ -f x ]", true, {"[ -f x ]"}},
        {"Object", "{\"a\":1}", true, {"{\"a\":1}"}},
        {"Nothing", "", true, {}},
        {"DashDash", "-- --x", true, {"--x"}},
    }),
    kName);

TEST(Instruction, DeepJsonIsNoDanger) {
  const std::string deep(60000, '[');
  EXPECT_TRUE(Only<Cmd>("CMD " + deep).command.shell_form);
  EXPECT_EQ(ErrorOf("FROM a\nCMD " + deep.substr(0, 30000) + std::string(30000, ']')),
            "when using JSON array syntax, arrays must be comprised of strings only");
}

TEST(Instruction, From) {
  const Document document = MustParse(
      "FROM a\n"
      "from --platform=$P  b:$V\tas\tBuild-1._x\n"
      "FROM \"\" AS x\n");
  ASSERT_THAT(document.stages, SizeIs(3));
  EXPECT_EQ(document.stages[0].base, "a");
  EXPECT_EQ(document.stages[0].name, "");
  const Stage& named = document.stages[1];
  EXPECT_EQ(named.base, "b:$V");
  EXPECT_EQ(named.platform, "$P");
  EXPECT_EQ(named.name, "build-1._x");
  EXPECT_EQ(named.written_name, "Build-1._x");
  EXPECT_EQ(named.as_keyword, "as");
  EXPECT_EQ(named.text.code, "from --platform=$P  b:$V\tas\tBuild-1._x");
  EXPECT_EQ(document.stages[2].base, "\"\"");
}

TEST(Instruction, ArgsBeforeAndInStages) {
  const Document document = MustParse("ARG a b= c=\"x y\" d=$a=1\nFROM x\nARG e\n");
  const auto& args = document.global_args[0].arg.args;
  ASSERT_THAT(args, SizeIs(4));
  EXPECT_EQ(args[0].key, "a");
  EXPECT_EQ(args[0].value, std::nullopt);
  EXPECT_EQ(args[1].value, "");
  EXPECT_EQ(args[2].value, "\"x y\"");
  EXPECT_EQ(args[3].value, "$a=1");
  EXPECT_THAT(document.stages[0].instructions, SizeIs(1));
  // Flags are ignored.
  EXPECT_EQ(Only<Arg>("ARG --x a").args[0].key, "a");
}

std::string PairText(const std::vector<KeyValue>& pairs) {
  std::string text;
  for (const KeyValue& pair : pairs)
    absl::StrAppend(&text, "[", pair.key, "|", pair.value, pair.legacy ? "|legacy]" : "]");
  return text;
}

struct PairCase {
  const char* name;
  const char* text;
  const char* want;
};

class PairTest : public testing::TestWithParam<PairCase> {};

TEST_P(PairTest, Pairs) {
  EXPECT_EQ(PairText(Only<Env>(absl::StrCat("ENV ", GetParam().text)).pairs), GetParam().want);
  EXPECT_EQ(PairText(Only<Label>(absl::StrCat("LABEL ", GetParam().text)).pairs), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(EnvAndLabel, PairTest,
                         testing::ValuesIn<PairCase>({
                             {"One", "a=b", "[a|b]"},
                             {"S28Several", "abc=bye def=$abc", "[abc|bye][def|$abc]"},
                             {"QuotesStay", "a=\"b c\" d='e f'\"g\"", "[a|\"b c\"][d|'e f'\"g\"]"},
                             {"QuotedKey", "\"a b\"=c", "[\"a b\"|c]"},
                             {"EscapesStay", "a=b\\ c d=\\\"x", "[a|b\\ c][d|\\\"x]"},
                             {"EscapeInDouble", "a=\"b\\\" c\" d=e", "[a|\"b\\\" c\"][d|e]"},
                             {"EscapeInSingle", "a='b\\' d=e", "[a|'b\\'][d|e]"},
                             {"TrailingEscape", "a=b d=e\\ ", "[a|b][d|e]"},
                             {"SecondEquals", "a=b=c", "[a|b=c]"},
                             {"EmptyValue", "a= b=", "[a|][b|]"},
                             {"EmptyQuotes", "a=\"\"", "[a|\"\"]"},
                             {"UnicodeSpace",
                              "a=b\xC2\xA0"
                              "c=d",
                              "[a|b][c|d]"},
                             {"OpenQuote", "a='b c", "[a|'b c]"},
                             {"Tabs", "a=b\t\tc=d", "[a|b][c|d]"},
                             {"S29Legacy", "x a \"b c\"", "[x|a \"b c\"|legacy]"},
                             {"LegacyBlanks", "x \t  a   b", "[x|a   b|legacy]"},
                             {"LegacyEquals", "x a=b", "[x|a=b|legacy]"},
                         }),
                         kName);

TEST(Instruction, RunFlags) {
  const auto run = Only<dockerfile::Run>(
      "RUN --mount=type=bind,from=base,target=/x --network=none --mount='type=cache,target=/a b' "
      "--security=insecure --device=vendor.com/gpu=all,required --device=x=y -- --not -x");
  ASSERT_THAT(run.mounts, SizeIs(2));
  EXPECT_EQ(run.mounts[0].from, "base");
  EXPECT_EQ(run.mounts[1].flag, "type=cache,target=/a b");
  EXPECT_EQ(run.mounts[1].from, "");
  EXPECT_EQ(run.network, RunNetwork::kNone);
  EXPECT_EQ(run.security, RunSecurity::kInsecure);
  ASSERT_THAT(run.devices, SizeIs(2));
  EXPECT_EQ(run.devices[0].name, "vendor.com/gpu=all");
  EXPECT_TRUE(run.devices[0].required);
  EXPECT_EQ(run.devices[1].name, "x=y");
  EXPECT_FALSE(run.devices[1].required);
  EXPECT_THAT(run.command.args, ElementsAre("--not -x"));
}

TEST(Instruction, FlagWords) {
  EXPECT_EQ(Only<Copy>("COPY --from=\"a b\"c\\ d x y").from, "a bc d");
  EXPECT_EQ(Only<Copy>("COPY --from=ä\xC2\xA0ö x y").from, "ä\xC2\xA0ö");
  EXPECT_EQ(Only<Copy>("COPY --from=a\\\\b x y").from, "a\\b");
  EXPECT_EQ(Only<Copy>("COPY --from=a`\\b x y", "#escape=`\n").from, "a\\b");
  EXPECT_THAT(Only<Copy>("COPY x --from=y z").paths.sources, ElementsAre("x", "--from=y"));
  EXPECT_THAT(Only<Copy>("COPY - --from=y z").paths.sources, ElementsAre("-", "--from=y"));
  EXPECT_TRUE(Only<Copy>("COPY --link=TRUE x y").link);
  EXPECT_FALSE(Only<Copy>("COPY --link=False x y").link);
}

TEST(Instruction, Copy) {
  const Copy copy = Only<Copy>(
      "COPY --from=b --chown=u:$g --chmod=644 --link --parents --exclude=*.a --exclude=*.b "
      "\"a\"  b\tc/");
  EXPECT_THAT(copy.paths.sources, ElementsAre("\"a\"", "b"));
  EXPECT_EQ(copy.paths.dest, "c/");
  EXPECT_EQ(copy.from, "b");
  EXPECT_EQ(copy.chown, "u:$g");
  EXPECT_EQ(copy.chmod, "644");
  EXPECT_TRUE(copy.link);
  EXPECT_TRUE(copy.parents);
  EXPECT_THAT(copy.exclude, ElementsAre("*.a", "*.b"));
  const Copy json = Only<Copy>("COPY [\"a b\", \"c\"]");
  EXPECT_THAT(json.paths.sources, ElementsAre("a b"));
  // No JSON: a list.
  EXPECT_THAT(Only<Copy>("COPY [a, b]").paths.sources, ElementsAre("[a,"));
}

TEST(Instruction, Add) {
  const Add add = Only<Add>("ADD --checksum=sha256:x --keep-git-dir --unpack=false a b");
  EXPECT_EQ(add.checksum, "sha256:x");
  EXPECT_EQ(add.keep_git_dir, true);
  EXPECT_EQ(add.unpack, false);
  const Add plain = Only<Add>("ADD a b");
  EXPECT_EQ(plain.keep_git_dir, std::nullopt);
  EXPECT_EQ(plain.unpack, std::nullopt);
}

TEST(Instruction, Healthcheck) {
  const Healthcheck shell = Only<Healthcheck>(
      "HEALTHCHECK --interval=1m30s --timeout=0 --start-period=1.5s --start-interval=1ms "
      "--retries=3 cmd curl  $x");
  EXPECT_THAT(shell.test, ElementsAre("CMD-SHELL", "curl  $x"));
  EXPECT_EQ(shell.interval, absl::Seconds(90));
  EXPECT_EQ(shell.timeout, absl::ZeroDuration());
  EXPECT_EQ(shell.start_period, absl::Milliseconds(1500));
  EXPECT_EQ(shell.start_interval, absl::Milliseconds(1));
  EXPECT_EQ(shell.retries, 3);
  EXPECT_THAT(Only<Healthcheck>("HEALTHCHECK CMD [\"a\", \"b\"]").test,
              ElementsAre("CMD", "a", "b"));
  EXPECT_THAT(Only<Healthcheck>("HEALTHCHECK --whatever none").test, ElementsAre("NONE"));
}

TEST(Instruction, TheOthers) {
  EXPECT_THAT(Only<Entrypoint>("ENTRYPOINT [\"a\"]").command.args, ElementsAre("a"));
  EXPECT_THAT(Only<Entrypoint>("ENTRYPOINT []").command.args, IsEmpty());
  EXPECT_THAT(Only<Shell>("SHELL [\"/bin/awk\"]").args, ElementsAre("/bin/awk"));
  EXPECT_EQ(Only<Workdir>("WORKDIR /a  b ").path, "/a  b");
  EXPECT_EQ(Only<User>("USER $u:g").user, "$u:g");
  EXPECT_THAT(Only<Expose>("EXPOSE 80 443/tcp 5000-5010 $P").ports,
              ElementsAre("$P", "443/tcp", "5000-5010", "80"));
  EXPECT_THAT(Only<Volume>("VOLUME /a /b").paths, ElementsAre("/a", "/b"));
  EXPECT_THAT(Only<Volume>("VOLUME [\" /a \", \"/b c\"]").paths, ElementsAre("/a", "/b c"));
  EXPECT_EQ(Only<StopSignal>("STOPSIGNAL --x $SIG").signal, "$SIG");
  EXPECT_EQ(Only<Maintainer>("maintainer a b <c>").author, "a b <c>");
  EXPECT_EQ(Only<Onbuild>("onBuild   \tcopy --from=x a b  \n").trigger, "copy --from=x a b  ");
}

TEST(Trigger, Parses) {
  const auto copy = ParseTrigger("COPY --from=x a b", {7, 8});
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(std::get<Copy>(copy->body).from, "x");
  EXPECT_EQ(copy->text.lines, (LineRange{7, 8}));
  EXPECT_EQ(copy->text.keyword, "COPY");
}

TEST(Trigger, Errors) {
  const auto message = [](absl::string_view trigger) {
    const absl::Status status = ParseTrigger(trigger, {7, 8}).status();
    EXPECT_EQ(LocationsOf(status), (std::vector<LineRange>{{7, 8}})) << trigger;
    return std::string(status.message());
  };
  EXPECT_EQ(message("RUN a\nRUN b"), "onbuild trigger should be a single expression");
  EXPECT_EQ(message(""), "file with no instructions");
  EXPECT_EQ(message("FROM a"), "FROM isn't allowed as an ONBUILD trigger");
  EXPECT_EQ(message("RUNN a"), "unknown instruction: RUNN (did you mean RUN?)");
  EXPECT_EQ(message("RUN [1]"),
            "when using JSON array syntax, arrays must be comprised of strings only");
  EXPECT_EQ(message("RUN <<E\nx"), "unterminated heredoc");
}

TEST(Instruction, ManyNestedOnbuilds) {
  std::string text = "FROM a\n";
  for (int i = 0; i < 8000; ++i) text += "ONBUILD ";
  EXPECT_EQ(ErrorOf(text + "RUN x"),
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't "
            "allowed");
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
