#include "store/filter.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::store {
namespace {

const std::map<std::string, std::string> kObject = {
    {"id", "abc123"},          {"description", "local source for ctx, \"q\""},
    {"mutable", ""},           {"type", "source.local"},
    {"labels.org.x/y", "1/2"}, {"labels.a", "b"},
    {"parents", "p1;p2"},      {"name", "größe"},
    {"x_1", "back\\slash"},
};

bool Passes(const std::vector<std::string>& filters) {
  auto filter = Filter::Parse(filters);
  EXPECT_TRUE(filter.ok()) << filter.status();
  return filter.ok() &&
         filter->Matches([](absl::Span<const std::string> path) -> std::optional<std::string> {
           const auto it = kObject.find(absl::StrJoin(path, "."));
           if (it == kObject.end()) return std::nullopt;
           return it->second;
         });
}

TEST(Filter, NoFilterAndTheEmptyFilterLetEverythingPass) {
  EXPECT_TRUE(Passes({}));
  EXPECT_TRUE(Passes({""}));
  EXPECT_TRUE(Passes({"nothing", ""}));
}

TEST(Filter, Selectors) {
  for (const char* yes : {"id",
                          "mutable",
                          "id==abc123",
                          "id!=abc",
                          "id~=^abc",
                          "id~=c1",
                          "nothing!=x",
                          "nothing~=^$",
                          "id==abc123,mutable",
                          "id==abc123,type!=regular",
                          "type==source.local",
                          "labels.a==b",
                          R"(labels."org.x/y"==1/2)",
                          R"("id"=="abc123")",
                          R"(description=="local source for ctx, \"q\"")",
                          "id == abc123",
                          " id==abc123",
                          "id==abc123, mutable",
                          "parents~=p2",
                          "parents==p1;p2",
                          "id~=/^a.c[0-9]+$/",
                          "id~=|abc|",
                          R"(labels."org.x/y"~=/1\/2/)",
                          "id~=\"c1\"",
                          "name==größe",
                          R"(name=="gr\u00f6\u00dfe")",
                          R"(x_1=="back\\slash")",
                          R"(id=="\x61bc\061\062\063")",
                          "id!=a=b",
                          "labels.a~=[a-c]"})
    EXPECT_TRUE(Passes({yes})) << yes;
  for (const char* no :
       {"nothing", "id==abc", "id!=abc123", "id~=^c", "nothing==x", "nothing==\"\"", "nothing~=x",
        "id==abc123,nothing", "nothing,id", "labels.b", "labels", "labels.a.b", "ID"})
    EXPECT_FALSE(Passes({no})) << no;
}

TEST(Filter, AnyOfSeveral) {
  EXPECT_TRUE(Passes({"id==x", "mutable"}));
  EXPECT_TRUE(Passes({"mutable", "id==x"}));
  EXPECT_FALSE(Passes({"id==x", "type==y"}));
}

TEST(Filter, FaultsAreShown) {
  const std::map<std::string, std::string> faults = {
      {"id=abc", "unsupported operator \"=\""},
      {"id=!abc", "unsupported operator \"=!\""},
      {"id==", "expected value or quoted"},
      {"id==,x", "expected value or quoted"},
      {"id==.x", "expected value or quoted"},
      {",id", "expected field or quoted"},
      {"id,", "expected field or quoted"},
      {"id.", "expected field or quoted"},
      {"==x", "expected field or quoted"},
      {"id x", "expected an operator"},
      {"id==x y", "unexpected input"},
      {"id==x ", "unexpected input"},
      {"id , x", "expected an operator"},
      {"id==\"x", "quoted literal not terminated"},
      {"id==\"x\\", "quoted literal not terminated"},
      {"id==\"x\\\"", "quoted literal not terminated"},
      {"id==\"x\ny\"", "quoted literal not terminated"},
      {"id==\"\\q\"", "illegal escape sequence"},
      {"id==\"\\x6\"", "illegal escape sequence"},
      {"id==\"\\400\"", "illegal escape sequence"},
      {"id==\"\\ud800\"", "illegal escape sequence"},
      {"id==\"\\U00110000\"", "illegal escape sequence"},
      {"id==/x/", "invalid quote encountered"},
      {"/id/==x", "invalid quote encountered"},
      {"id~=(", "invalid regular expression"},
      {"id~=/a{2000}/", "invalid regular expression"},
      {std::string("id==\0", 5), "expected value or quoted"},
      {"größe==x", "expected an operator"},
  };
  for (const auto& [text, why] : faults) {
    const std::string one[] = {text};
    const auto filter = Filter::Parse(one);
    EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(filter.status().message()), testing::HasSubstr(why)) << text;
  }
  const std::string one[] = {"id=abc"};
  EXPECT_EQ(Filter::Parse(one).status().message(),
            "filter [id >|=|< abc]: unsupported operator \"=\"");
}

}  // namespace
}  // namespace kiln::store
