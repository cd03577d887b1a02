#include "proto/solve_detail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "proto/buildkit/ops.pb.h"

namespace kiln {
namespace {

using nlohmann::json;

// wire.md 6.1: protojson of Go's schema, in which arguments and paths are strings.
TEST(SolveDetail, IsWhatGoReads) {
  pb::Op op;
  pb::ExecOp& exec = *op.mutable_exec();
  exec.mutable_meta()->add_args("/bin/sh");
  exec.mutable_meta()->set_cwd("/w");
  exec.set_network(pb::HOST);
  pb::Mount& mount = *exec.add_mounts();
  mount.set_dest("/");
  mount.set_output(-1);
  mount.mutable_cacheopt()->set_id("c");
  SolveDetail detail;
  detail.input_ids = {"a", ""};
  detail.mount_ids = {"b", ""};
  detail.description = {{"k", "v"}};
  detail.op = op.SerializeAsString();
  EXPECT_EQ(json::parse(ToJson(detail)), json::parse(R"({
    "inputIDs": ["a", ""], "mountIDs": ["b", ""], "description": {"k": "v"},
    "op": {"exec": {"meta": {"args": ["/bin/sh"], "cwd": "/w"}, "network": "HOST",
                    "mounts": [{"dest": "/", "output": "-1", "cacheOpt": {"ID": "c"}}]}}})"));

  SolveDetail file;
  file.file_index = 0;
  EXPECT_EQ(json::parse(ToJson(file)), json::parse(R"({"file": {}})"));
  file.file_index = 1;
  pb::Op write;
  write.mutable_file()->add_actions()->mutable_mkfile()->set_data("\xff");
  write.mutable_file()->mutable_actions(0)->mutable_mkfile()->set_path("/ä");
  file.op = write.SerializeAsString();
  EXPECT_EQ(json::parse(ToJson(file)), json::parse(R"({
    "file": {"index": "1"},
    "op": {"file": {"actions": [{"mkfile": {"path": "/ä", "data": "/w=="}}]}}})"));
}

TEST(SolveDetail, RoundTrip) {
  pb::Op op;
  op.mutable_exec()->mutable_meta()->add_args("a\"b");
  SolveDetail detail;
  detail.input_ids = {"x"};
  detail.cache_index = 2;
  detail.op = op.SerializeAsString();
  const auto again = SolveDetailFromJson(ToJson(detail));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->input_ids, detail.input_ids);
  EXPECT_EQ(again->cache_index, 2);
  EXPECT_FALSE(again->file_index.has_value());
  EXPECT_EQ(again->op, detail.op);
}

TEST(SolveDetail, IdsAreToldAlsoWithoutTheOp) {
  SolveDetail detail;
  detail.mount_ids = {"m"};
  pb::Op op;
  for (const std::string& arg : {std::string("\xff\xfe"), std::string(2 << 20, 'x')}) {
    op.mutable_exec()->mutable_meta()->clear_args();
    op.mutable_exec()->mutable_meta()->add_args(arg);
    detail.op = op.SerializeAsString();
    EXPECT_EQ(ToJson(detail), R"({"mountIDs":["m"]})");
  }
  detail.op = "no op";
  EXPECT_EQ(ToJson(detail), R"({"mountIDs":["m"]})");
}

TEST(SolveDetail, FromStrangers) {
  for (const char* bad : {"", "[]", "{", R"({"inputIDs":3})", R"({"file":{"index":"x"}})"})
    EXPECT_EQ(SolveDetailFromJson(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  EXPECT_TRUE(SolveDetailFromJson(R"({"new":1,"op":{"newer":{}}})").ok());
}

}  // namespace
}  // namespace kiln
