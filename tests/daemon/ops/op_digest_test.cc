#include "daemon/ops/op_digest.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln::daemon {
namespace {

// The JSON texts below are written out by hand, as Go's encoding/json would put them.
std::string Sum(absl::string_view json) { return Digest::Of(json).ToString(); }
std::string Base64(absl::string_view text) { return absl::Base64Escape(text); }

TEST(OpDigest, LinearFileOpHasNoIndexes) {
  pb::FileOp op;
  pb::FileAction* action = op.add_actions();
  action->set_secondaryinput(-1);
  action->mutable_mkdir()->set_path("/a<b");
  action->mutable_mkdir()->set_mode(0755);
  action->mutable_mkdir()->set_timestamp(-1);
  EXPECT_EQ(
      FileOpDigest(op, {false}),
      Sum(absl::StrCat(R"({"Type":"buildkit.file.v0","Actions":[")",
                       Base64(R"({"path":"/a\u003cb","mode":493,"timestamp":-1})"), R"("]})")));
  action->set_input(-1);
  EXPECT_EQ(FileOpDigest(op, {false}),
            Sum(absl::StrCat(R"({"Type":"buildkit.file.v0","Actions":[")",
                             Base64(R"({"path":"/a\u003cb","mode":493,"timestamp":-1})"),
                             R"("],"indexes":[[-1,-1,0]]})")));
}

TEST(OpDigest, EveryMemberOfEveryAction) {
  pb::FileOp op;
  pb::FileActionCopy* copy = op.add_actions()->mutable_copy();
  op.mutable_actions(0)->set_secondaryinput(1);
  op.mutable_actions(0)->set_output(-1);
  copy->set_src("/dir/x/");
  copy->set_dest("/d");
  copy->mutable_owner()->mutable_user()->mutable_byname()->set_name("n");
  copy->mutable_owner()->mutable_group()->set_byid(0);
  copy->set_mode(-1);
  copy->set_followsymlink(true);
  copy->set_dircopycontents(true);
  copy->set_attemptunpackdockercompatibility(true);
  copy->set_createdestpath(true);
  copy->set_allowwildcard(true);
  copy->set_allowemptywildcard(true);
  copy->set_timestamp(7);
  copy->add_include_patterns("i");
  copy->add_exclude_patterns("e");
  copy->set_alwaysreplaceexistingdestpaths(true);
  copy->set_modestr("u+x");
  copy->add_required_paths("r");
  pb::FileAction* second = op.add_actions();
  second->set_input(2);
  second->set_secondaryinput(-1);
  second->set_output(-1);
  second->mutable_mkfile()->set_path("f");
  second->mutable_mkfile()->set_data(std::string("\xff\x00", 2));
  pb::FileAction* third = op.add_actions();
  third->set_input(3);
  third->set_secondaryinput(-1);
  third->set_output(-1);
  third->mutable_rm()->set_path("r");
  third->mutable_rm()->set_allownotfound(true);
  third->mutable_rm()->set_allowwildcard(true);
  pb::FileAction* fourth = op.add_actions();
  fourth->set_input(4);
  fourth->set_secondaryinput(-1);
  fourth->mutable_symlink()->set_oldpath("o");
  fourth->mutable_symlink()->set_newpath("n");
  fourth->mutable_symlink()->mutable_owner()->mutable_user();
  const std::string copy_json =
      R"({"src":"x","dest":"/d","owner":{"user":{"User":{"ByName":{"name":"n"}}},)"
      R"("group":{"User":{"ByID":0}}},"mode":-1,"followSymlink":true,"dirCopyContents":true,)"
      R"("attemptUnpackDockerCompatibility":true,"createDestPath":true,"allowWildcard":true,)"
      R"("allowEmptyWildcard":true,"timestamp":7,"include_patterns":["i"],)"
      R"("exclude_patterns":["e"],"alwaysReplaceExistingDestPaths":true,"modeStr":"u+x",)"
      R"("required_paths":["r"]})";
  const std::string want =
      absl::StrCat(R"({"Type":"buildkit.file.v0","Actions":[")", Base64(copy_json), R"(",")",
                   Base64(R"({"path":"f","data":"/wA="})"), R"(",")",
                   Base64(R"({"path":"r","allowNotFound":true,"allowWildcard":true})"), R"(",")",
                   Base64(R"({"oldpath":"o","newpath":"n","owner":{"user":{"User":null}}})"),
                   R"("],"indexes":[[0,1,-1],[2,-1,-1],[3,-1,-1],[4,-1,0]]})");
  EXPECT_EQ(FileOpDigest(op, {true, false, false, false}), Sum(want));
  EXPECT_NE(FileOpDigest(op, {false, false, false, false}), Sum(want));
}

TEST(OpDigest, TreeOps) {
  pb::MergeOp merge;
  merge.add_inputs();
  merge.add_inputs()->set_input(1);
  EXPECT_EQ(MergeOpDigest(merge),
            Sum(R"({"Type":"buildkit.merge.v0","Merge":{"inputs":[{},{"input":1}]}})"));
  pb::DiffOp diff;
  diff.mutable_lower()->set_input(-1);
  diff.mutable_upper();
  EXPECT_EQ(DiffOpDigest(diff),
            Sum(R"({"Type":"buildkit.diff.v0","Diff":{"lower":{"input":-1},"upper":{}}})"));
  pb::PassthroughOp pass;
  pass.set_id("p");
  pass.add_outputs(0);
  pass.add_outputs(2);
  EXPECT_EQ(PassthroughOpDigest(pass),
            Sum(R"({"Type":"buildkit.passthrough.v0","Passthrough":{"id":"p","outputs":[0,2]}})"));
  pb::BuildOp build;
  build.set_builder(-1);
  (*build.mutable_inputs())["buildkit.llb.definition"].set_input(0);
  (*build.mutable_attrs())["b"] = "2";
  (*build.mutable_attrs())["a"] = "1";
  EXPECT_EQ(BuildOpDigest(build),
            Sum(R"({"Type":"buildkit.build.v0","Exec":{"builder":-1,"inputs":)"
                R"({"buildkit.llb.definition":{}},"attrs":{"a":"1","b":"2"}}})"));
}

TEST(OpDigest, Sources) {
  EXPECT_EQ(SourceOpDigest("abc"), Sum("buildkit.source.v0:abc"));
  EXPECT_EQ(SourceOpDigest("session:x"),
            absl::StrCat("random:", Digest::Of("buildkit.source.v0:session:x").hex()));
}

}  // namespace
}  // namespace kiln::daemon
