#include "daemon/policy/grant_devices.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <vector>

#include "daemon/policy/definition_edit.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Calls `see` with the contents of each `field` of a message, until it returns true; whether it
// did. Takes what cannot be read for the end.
template <typename See>
bool AnyOf(absl::string_view message, int field, const See& see) {
  CodedInputStream in(reinterpret_cast<const uint8_t*>(message.data()),
                      static_cast<int>(message.size()));
  while (const uint32_t tag = in.ReadTag()) {
    if (WireFormatLite::GetTagFieldNumber(tag) != field ||
        WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&in, tag)) return false;
      continue;
    }
    uint32_t size = 0;
    if (!in.ReadVarint32(&size)) return false;
    const auto at = static_cast<size_t>(in.CurrentPosition());
    if (size > message.size() - at || !in.Skip(static_cast<int>(size))) return false;
    if (see(message.substr(at, size))) return true;
  }
  return false;
}

// Without making objects of the ops: nearly no graph has devices.
bool HasDevices(absl::string_view definition) {
  if (definition.size() > INT32_MAX) return false;
  return AnyOf(definition, pb::Definition::kDefFieldNumber, [](absl::string_view op) {
    return AnyOf(op, pb::Op::kExecFieldNumber, [](absl::string_view exec) {
      return AnyOf(exec, pb::ExecOp::kCdiDevicesFieldNumber,
                   [](absl::string_view) { return true; });
    });
  });
}

}  // namespace

absl::StatusOr<std::string> GrantDevices(std::string definition, const DeviceGrants& grants,
                                         const DeviceRegistry& registry) {
  if (!HasDevices(definition)) return definition;
  DefinitionEdit edit(definition);
  for (size_t i = 0; i < edit.ops().size(); ++i) {
    pb::Op& op = *edit.ops()[i];
    if (!op.has_exec() || op.exec().cdidevices().empty()) continue;
    std::vector<DeviceRequest> requests;
    for (const pb::CDIDevice& device : op.exec().cdidevices())
      requests.push_back({device.name(), device.optional()});
    KILN_ASSIGN_OR_RETURN(const auto devices, grants.Grant(requests, registry));
    if (devices == requests) continue;
    edit.SetChanged(i);
    op.mutable_exec()->clear_cdidevices();
    for (const DeviceRequest& device : devices) {
      pb::CDIDevice* out = op.mutable_exec()->add_cdidevices();
      out->set_name(device.name);
      out->set_optional(device.optional);
    }
  }
  return edit.Finish();
}

}  // namespace kiln::daemon
