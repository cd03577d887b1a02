#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/go_json.h"

namespace kiln::client::llb {

// The ops of a serialized pb.Definition as `buildctl debug dump-llb` prints them: a JSON object per
// line, in order, with digest and metadata. kInvalidArgument when the bytes are no definition.
absl::StatusOr<std::string> DumpDefinition(absl::string_view definition);

// A message of ops.proto as one JSON object, in one of the two forms that Go gives it. Keys of maps
// are in order; text that is no UTF-8 has replacement characters.
enum class JsonForm {
  kStruct,  // encoding/json: names as in the .proto, numbers, a oneof in an object of its own
  kProto,   // protojson: camel case, enums by name, 64 bit numbers as text
};
void WriteJson(const google::protobuf::Message& message, JsonForm form, GoJson* json);

}  // namespace kiln::client::llb
