#include "client/session/exports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/csv.h"

namespace kiln::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(SplitCsvTest, QuotedFieldsKeepCommas) {
  EXPECT_THAT(*SplitCsv(R"(type=local,"dest=a,b",x="q")"),
              ElementsAre("type=local", "dest=a,b", "x=\"q\""));
  EXPECT_FALSE(SplitCsv("\"open").ok());
}

TEST(ParseOutputTest, LocalDirectory) {
  const auto out = ParseOutput("type=local,dest=out,platform-split=false", false);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->type, "local");
  EXPECT_EQ(out->target.kind, ExportTarget::Kind::kDirectory);
  EXPECT_EQ(out->target.path, "out");
  EXPECT_THAT(out->attrs, ElementsAre(Pair("platform-split", "false")));
  EXPECT_FALSE(out->target.delete_others);
  EXPECT_TRUE(ParseOutput("type=local,dest=out,mode=delete", false)->target.delete_others);
}

TEST(ParseOutputTest, ShortForms) {
  EXPECT_EQ(ParseOutput("dir", false)->target.kind, ExportTarget::Kind::kDirectory);
  EXPECT_EQ(ParseOutput("-", false)->type, "tar");
  EXPECT_EQ(ParseOutput("type=none", false)->type, "");
}

TEST(ParseOutputTest, ImageStaysWithTheDaemon) {
  const auto out = ParseOutput("type=image,name=x,push=true", false);
  EXPECT_EQ(out->target.kind, ExportTarget::Kind::kNone);
  EXPECT_THAT(out->attrs, ElementsAre(Pair("name", "x"), Pair("push", "true")));
}

TEST(ParseOutputTest, E5_RefusalsSayWhatToDo) {
  EXPECT_THAT(ParseOutput("type=local", false).status().message(), HasSubstr("dest=DIRECTORY"));
  EXPECT_THAT(ParseOutput("dest=x", false).status().message(), HasSubstr("type="));
  for (const char* type : {"tar", "oci", "docker"}) {
    const std::string output = std::string("type=") + type;
    EXPECT_THAT(ParseOutput(output, true).status().message(), HasSubstr("terminal"));
    EXPECT_THAT(ParseOutput(output + ",dest=/", false).status().message(), HasSubstr("directory"));
  }
  EXPECT_THAT(ParseOutput("type=local,dest=-", false).status().message(), HasSubstr("standard"));
  EXPECT_THAT(ParseOutput("type=local,oops", false).status().message(), HasSubstr("oops"));
  EXPECT_EQ(ParseOutput("type=oci,tar=false", false).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseOutput("type=oci,tar=false,dest=x", false)->target.kind,
            ExportTarget::Kind::kLayout);
}

}  // namespace
}  // namespace kiln::client
