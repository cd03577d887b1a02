#include "proto/solve_detail.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver_util.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/errdefs.pb.h"
#include "proto/utf8.h"

namespace kiln {

namespace {

namespace protobuf = google::protobuf;

constexpr char kUrlPrefix[] = "type.googleapis.com";
constexpr char kSolveUrl[] = "type.googleapis.com/errdefs.Solve";
constexpr size_t kMaxOpBytes = 1 << 20;

// Bytes in our schema that are a string in Go's: all but these are texts.
bool IsText(absl::string_view field) { return field != "data" && field != "def"; }

// The schema as Go has it. Bytes would be base64 in JSON.
void MakeTextsStrings(protobuf::DescriptorProto* message) {
  for (auto& field : *message->mutable_field()) {
    if (field.type() == protobuf::FieldDescriptorProto::TYPE_BYTES && IsText(field.name()))
      field.set_type(protobuf::FieldDescriptorProto::TYPE_STRING);
  }
  for (auto& nested : *message->mutable_nested_type()) MakeTextsStrings(&nested);
}

protobuf::util::TypeResolver* GoSchema() {
  static protobuf::util::TypeResolver* const resolver = [] {
    auto* const pool = new protobuf::DescriptorPool;  // lives as long as the process
    const protobuf::FileDescriptor* errdefs = errdefs::Solve::descriptor()->file();
    for (const protobuf::FileDescriptor* file : {errdefs->dependency(0), errdefs}) {
      protobuf::FileDescriptorProto proto;
      file->CopyTo(&proto);
      for (auto& message : *proto.mutable_message_type()) MakeTextsStrings(&message);
      pool->BuildFile(proto);
    }
    return protobuf::util::NewTypeResolverForDescriptorPool(kUrlPrefix, pool);
  }();
  return resolver;
}

// What protobuf would leave out of the JSON without a word.
bool TextsAreUtf8(const protobuf::Message& message) {
  std::vector<const protobuf::FieldDescriptor*> fields;
  const protobuf::Reflection& reflection = *message.GetReflection();
  reflection.ListFields(message, &fields);
  for (const protobuf::FieldDescriptor* field : fields) {
    const bool is_text =
        field->type() == protobuf::FieldDescriptor::TYPE_BYTES && IsText(field->name());
    const bool is_message = field->cpp_type() == protobuf::FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_text && !is_message) continue;
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const bool good = is_message && field->is_repeated()
                            ? TextsAreUtf8(reflection.GetRepeatedMessage(message, field, i))
                        : is_message ? TextsAreUtf8(reflection.GetMessage(message, field))
                        : field->is_repeated()
                            ? IsValidUtf8(reflection.GetRepeatedString(message, field, i))
                            : IsValidUtf8(reflection.GetString(message, field));
      if (!good) return false;
    }
  }
  return true;
}

}  // namespace

std::string ToJson(const SolveDetail& detail) {
  errdefs::Solve proto;
  proto.mutable_inputids()->Assign(detail.input_ids.begin(), detail.input_ids.end());
  proto.mutable_mountids()->Assign(detail.mount_ids.begin(), detail.mount_ids.end());
  if (detail.file_index) proto.mutable_file()->set_index(*detail.file_index);
  if (detail.cache_index) proto.mutable_cache()->set_index(*detail.cache_index);
  proto.mutable_description()->insert(detail.description.begin(), detail.description.end());
  if (detail.op.empty() || detail.op.size() > kMaxOpBytes ||
      !proto.mutable_op()->ParseFromString(detail.op) || !TextsAreUtf8(proto.op()))
    proto.clear_op();
  std::string json;
  const auto written =
      protobuf::util::BinaryToJsonString(GoSchema(), kSolveUrl, proto.SerializeAsString(), &json);
  return written.ok() ? json : "{}";
}

absl::StatusOr<SolveDetail> SolveDetailFromJson(absl::string_view json) {
  protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  std::string binary;
  errdefs::Solve proto;
  const auto read = protobuf::util::JsonToBinaryString(
      GoSchema(), kSolveUrl, {json.data(), json.size()}, &binary, options);
  if (!read.ok() || !proto.ParseFromString(binary))
    return absl::InvalidArgumentError(absl::StrCat("malformed ", kSolveDetail));
  SolveDetail detail;
  detail.input_ids.assign(proto.inputids().begin(), proto.inputids().end());
  detail.mount_ids.assign(proto.mountids().begin(), proto.mountids().end());
  if (proto.has_file()) detail.file_index = proto.file().index();
  if (proto.has_cache()) detail.cache_index = proto.cache().index();
  if (proto.has_op()) detail.op = proto.op().SerializeAsString();
  detail.description.insert(proto.description().begin(), proto.description().end());
  return detail;
}

}  // namespace kiln
