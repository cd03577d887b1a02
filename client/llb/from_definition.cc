#include "client/llb/from_definition.h"

#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/llb/graph_writer.h"
#include "client/llb/vertex.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

// An op as it came.
class GivenVertex : public Vertex {
 public:
  GivenVertex(std::string bytes, CapSet caps, OpMetadata metadata, std::vector<Output> inputs)
      : bytes_(std::move(bytes)),
        caps_(std::move(caps)),
        metadata_(std::make_shared<const OpMetadata>(std::move(metadata))),
        inputs_(std::move(inputs)) {}
  ~GivenVertex() override { Release(inputs_); }

  Inputs inputs() const override { return VerticesOf(inputs_); }
  absl::StatusOr<Digest> Write(GraphWriter& graph) const override {
    return graph.AddOp(caps_, metadata_, [this](WireWriter& op) { op.Append(bytes_); });
  }

 private:
  const std::string bytes_;
  const CapSet caps_;
  const std::shared_ptr<const OpMetadata> metadata_;
  std::vector<Output> inputs_;
};

CapSet ReadCaps(const pb::OpMetadata& from) {
  CapSet caps;
  for (const auto& [cap, needed] : from.caps()) {
    if (needed) caps.AddById(cap);
  }
  return caps;
}

OpMetadata ReadMetadata(const pb::OpMetadata& from) {
  OpMetadata metadata;
  metadata.ignore_cache = from.ignore_cache();
  for (const auto& [key, text] : from.description()) metadata.description.Set(key, text);
  if (from.has_export_cache()) metadata.export_cache = from.export_cache().value();
  if (from.has_progress_group()) {
    const pb::ProgressGroup& group = from.progress_group();
    metadata.progress_group = ProgressGroup{group.id(), group.name(), group.weak()};
  }
  if (from.has_linux_resources()) {
    const pb::LinuxResources& limits = from.linux_resources();
    metadata.linux_resources = LinuxResources{
        limits.memory(),   limits.memoryswap(), limits.cpushares(), limits.cpuperiod(),
        limits.cpuquota(), limits.cpusetcpus(), limits.cpusetmems()};
  }
  return metadata;
}

std::vector<std::shared_ptr<const SourceText>> ReadTexts(const pb::Source& source) {
  std::vector<std::shared_ptr<const SourceText>> texts;
  for (const pb::SourceInfo& info : source.infos()) {
    texts.push_back(std::make_shared<const SourceText>(
        SourceText{info.filename(), info.language(), info.data(),
                   info.has_definition() ? info.definition().SerializeAsString() : ""}));
  }
  return texts;
}

absl::Status ReadLocations(const pb::Definition& definition, const std::string& digest,
                           const std::vector<std::shared_ptr<const SourceText>>& texts,
                           OpMetadata* metadata) {
  const auto found = definition.source().locations().find(digest);
  if (found == definition.source().locations().end()) return absl::OkStatus();
  for (const pb::Location& from : found->second.locations()) {
    if (from.sourceindex() < 0 || static_cast<size_t>(from.sourceindex()) >= texts.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("failed to find source map with index ", from.sourceindex()));
    }
    SourceLocation location{texts[from.sourceindex()], {}};
    for (const pb::Range& range : from.ranges()) {
      location.ranges.push_back({range.start().line(), range.start().character(),
                                 range.end().line(), range.end().character()});
    }
    metadata->locations.push_back(std::move(location));
  }
  return absl::OkStatus();
}

std::shared_ptr<const Platform> ReadPlatform(const pb::Op& op) {
  if (!op.has_platform()) return nullptr;
  const pb::Platform& from = op.platform();
  return std::make_shared<const Platform>(
      Platform{from.os(),
               from.architecture(),
               from.variant(),
               from.osversion(),
               {from.osfeatures().begin(), from.osfeatures().end()}});
}

}  // namespace

absl::StatusOr<State> FromDefinition(absl::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError("failed to parse llb definition");
  }
  if (definition.def_size() == 0) return State();
  struct Known {
    std::shared_ptr<const Vertex> vertex;
    std::shared_ptr<const Platform> platform;
  };
  absl::flat_hash_map<std::string, Known> known;
  const std::vector<std::shared_ptr<const SourceText>> texts = ReadTexts(definition.source());
  std::vector<Output> inputs;
  for (const std::string& op_bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(op_bytes)) {
      return absl::InvalidArgumentError("failed to parse llb proto op");
    }
    const std::string digest = Digest::Of(op_bytes).ToString();
    inputs.clear();
    for (const pb::Input& input : op.inputs()) {
      const auto from = known.find(input.digest());
      if (from == known.end()) {
        return absl::InvalidArgumentError(absl::StrCat("definition: op ", digest, " reads ",
                                                       input.digest(), ", which is not before it"));
      }
      inputs.push_back(
          {from->second.vertex, static_cast<int>(input.index()), from->second.platform});
    }
    if (&op_bytes == &definition.def(definition.def_size() - 1)) break;
    CapSet caps;
    OpMetadata metadata;
    if (const auto found = definition.metadata().find(digest);
        found != definition.metadata().end()) {
      caps = ReadCaps(found->second);
      metadata = ReadMetadata(found->second);
    }
    KILN_RETURN_IF_ERROR(ReadLocations(definition, digest, texts, &metadata));
    known[digest] = {
        std::make_shared<GivenVertex>(op_bytes, std::move(caps), std::move(metadata), inputs),
        ReadPlatform(op)};
  }
  if (inputs.size() != 1) {
    return absl::InvalidArgumentError("definition: the last op must have exactly one input");
  }
  return State(std::move(inputs[0]));
}

}  // namespace kiln::client::llb
