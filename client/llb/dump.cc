#include "client/llb/dump.h"

#include <google/protobuf/descriptor.h>

#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/go_json.h"

namespace kiln::client::llb {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

// Most bytes fields of ours are strings in BuildKit, which does not check UTF-8; contents are not.
bool IsContent(const FieldDescriptor* field) {
  return field->name() == "data" || field->name() == "def";
}

void WriteText(const FieldDescriptor* field, const std::string& value, GoJson* json) {
  const bool bytes = field->type() == FieldDescriptor::TYPE_BYTES && IsContent(field);
  bytes ? json->Bytes(value) : json->String(value);
}

// One value; index -1 for a singular field.
void WriteValue(const Message& message, const FieldDescriptor* field, int index, JsonForm form,
                GoJson* json) {
  const Reflection* r = message.GetReflection();
  const bool at = index >= 0;
  const bool proto_form = form == JsonForm::kProto;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      json->Int(at ? r->GetRepeatedInt32(message, field, index) : r->GetInt32(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT64: {
      const int64_t value =
          at ? r->GetRepeatedInt64(message, field, index) : r->GetInt64(message, field);
      proto_form ? json->String(absl::StrCat(value)) : json->Int(value);
      break;
    }
    case FieldDescriptor::CPPTYPE_UINT32:
      json->Uint(at ? r->GetRepeatedUInt32(message, field, index) : r->GetUInt32(message, field));
      break;
    case FieldDescriptor::CPPTYPE_UINT64: {
      const uint64_t value =
          at ? r->GetRepeatedUInt64(message, field, index) : r->GetUInt64(message, field);
      proto_form ? json->String(absl::StrCat(value)) : json->Uint(value);
      break;
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      json->Bool(at ? r->GetRepeatedBool(message, field, index) : r->GetBool(message, field));
      break;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number =
          at ? r->GetRepeatedEnumValue(message, field, index) : r->GetEnumValue(message, field);
      const auto* value = field->enum_type()->FindValueByNumber(number);
      proto_form&& value != nullptr ? json->String(value->name()) : json->Int(number);
      break;
    }
    case FieldDescriptor::CPPTYPE_STRING:
      WriteText(field,
                at ? r->GetRepeatedString(message, field, index) : r->GetString(message, field),
                json);
      break;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      WriteJson(at ? r->GetRepeatedMessage(message, field, index) : r->GetMessage(message, field),
                form, json);
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      json->Null();  // LLB has none
      break;
  }
}

// Entries by key, all of whose keys in LLB are strings or integers.
void WriteMap(const Message& message, const FieldDescriptor* field, JsonForm form, GoJson* json) {
  const Reflection* r = message.GetReflection();
  const FieldDescriptor* key = field->message_type()->map_key();
  const FieldDescriptor* value = field->message_type()->map_value();
  std::map<std::string, const Message*> entries;
  for (int i = 0; i < r->FieldSize(message, field); ++i) {
    const Message& entry = r->GetRepeatedMessage(message, field, i);
    const Reflection* er = entry.GetReflection();
    entries[key->cpp_type() == FieldDescriptor::CPPTYPE_STRING
                ? er->GetString(entry, key)
                : absl::StrCat(er->GetInt64(entry, key))] = &entry;
  }
  json->BeginObject();
  for (const auto& [name, entry] : entries) {
    json->Key(name);
    WriteValue(*entry, value, -1, form, json);
  }
  json->EndObject();
}

void WriteField(const Message& message, const FieldDescriptor* field, JsonForm form, GoJson* json) {
  if (form == JsonForm::kProto) {
    json->Key(field->json_name());
  } else {
    // Go's hand-written form of a user writes this one name in another way.
    json->Key(field->full_name() == "pb.UserOpt.byID" ? "byId" : field->name());
  }
  if (field->is_map()) {
    WriteMap(message, field, form, json);
  } else if (field->is_repeated()) {
    json->BeginArray();
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      WriteValue(message, field, i, form, json);
    }
    json->EndArray();
  } else {
    WriteValue(message, field, -1, form, json);
  }
}

}  // namespace

void WriteJson(const Message& message, JsonForm form, GoJson* json) {
  const Reflection* r = message.GetReflection();
  const bool as_struct = form == JsonForm::kStruct;
  // Zero values are left out but for the numbers of a file action.
  const bool keep_zero = as_struct && message.GetDescriptor() == pb::FileAction::descriptor();
  json->BeginObject();
  const OneofDescriptor* written = nullptr;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (const OneofDescriptor* oneof = field->real_containing_oneof(); as_struct && oneof) {
      if (oneof == written) continue;
      written = oneof;
      std::string name = oneof->name();
      name[0] = static_cast<char>(toupper(name[0]));
      json->Key(name).BeginObject();
      if (const FieldDescriptor* set = r->GetOneofFieldDescriptor(message, oneof)) {
        WriteField(message, set, form, json);
      }
      json->EndObject();
      continue;
    }
    const bool present =
        field->is_repeated() ? r->FieldSize(message, field) > 0 : r->HasField(message, field);
    if (present || keep_zero) WriteField(message, field, form, json);
  }
  json->EndObject();
}

absl::StatusOr<std::string> DumpDefinition(absl::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError("not a serialized pb.Definition");
  }
  std::string out;
  for (int i = 0; i < definition.def_size(); ++i) {
    pb::Op op;
    if (!op.ParseFromString(definition.def(i))) {
      return absl::InvalidArgumentError(absl::StrCat("op ", i, " of the definition is malformed"));
    }
    const std::string digest = Digest::Of(definition.def(i)).ToString();
    GoJson json;
    json.BeginObject().Key("Op");
    WriteJson(op, JsonForm::kStruct, &json);
    json.Key("Digest").String(digest).Key("OpMetadata");
    const auto metadata = definition.metadata().find(digest);
    WriteJson(metadata == definition.metadata().end() ? pb::OpMetadata() : metadata->second,
              JsonForm::kStruct, &json);
    absl::StrAppend(&out, json.EndObject().Take(), "\n");
  }
  return out;
}

}  // namespace kiln::client::llb
