#include "client/llb/definition.h"

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "client/llb/wire_writer.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::client::llb {
namespace {

// What few ops have.
std::string RareMetadata(const OpMetadata& from) {
  pb::OpMetadata to;
  if (from.export_cache) to.mutable_export_cache()->set_value(*from.export_cache);
  if (from.progress_group) {
    to.mutable_progress_group()->set_id(from.progress_group->id);
    to.mutable_progress_group()->set_name(from.progress_group->name);
    to.mutable_progress_group()->set_weak(from.progress_group->weak);
  }
  if (from.linux_resources) {
    pb::LinuxResources* out = to.mutable_linux_resources();
    out->set_memory(from.linux_resources->memory);
    out->set_memoryswap(from.linux_resources->memory_swap);
    out->set_cpushares(from.linux_resources->cpu_shares);
    out->set_cpuperiod(from.linux_resources->cpu_period);
    out->set_cpuquota(from.linux_resources->cpu_quota);
    out->set_cpusetcpus(from.linux_resources->cpuset_cpus);
    out->set_cpusetmems(from.linux_resources->cpuset_mems);
  }
  return to.SerializeAsString();
}

// pb.Definition, part by part.
class DefinitionWriter {
 public:
  // `bytes`: about how long it will be.
  explicit DefinitionWriter(size_t bytes) { definition_.Reserve(bytes); }

  void AddOp(const std::string& bytes) { definition_.Item(1, bytes); }

  void AddMetadata(const std::string& digest, const OpMetadata& from) {
    WireWriter& out = definition_;
    out.Message(2, [&] {
      out.Item(1, digest).Message(2, [&] {
        out.Number(1, from.ignore_cache);
        for (const auto& [key, value] : from.description)
          out.Message(2, [&, &k = key, &v = value] { out.Item(1, k).Item(2, v); });
        for (const std::string& cap : from.caps)
          out.Message(5, [&] { out.Item(1, cap).Number(2, 1); });
        if (from.export_cache || from.progress_group || from.linux_resources)
          out.Append(RareMetadata(from));
      });
    });
    AddLocations(digest, from.locations);
  }

  std::string Finish() {
    if (!source_.text().empty()) definition_.Item(3, source_.text());
    return definition_.Take();
  }

 private:
  void AddLocations(const std::string& digest, const std::vector<SourceLocation>& locations) {
    bool any = false;
    for (const SourceLocation& location : locations) {
      if (location.text == nullptr) continue;
      AddText(*location.text);
      any = true;
    }
    if (!any) return;
    source_.Message(1, [&] {
      source_.Item(1, digest).Message(2, [&] {
        for (const SourceLocation& location : locations)
          if (location.text != nullptr) AddLocation(location);
      });
    });
  }

  void AddLocation(const SourceLocation& location) {
    WireWriter& out = source_;
    out.Message(1, [&] {
      out.Number(1, indexes_.at(location.text.get()));
      for (const LineRange& range : location.ranges) {
        out.Message(2, [&] {
          out.Message(1, [&] { out.Number(1, range.start_line).Number(2, range.start_character); });
          out.Message(2, [&] { out.Number(1, range.end_line).Number(2, range.end_character); });
        });
      }
    });
  }

  // Texts that ops were written in are told once each.
  void AddText(const SourceText& text) {
    if (!indexes_.emplace(&text, static_cast<int>(indexes_.size())).second) return;
    source_.Message(2, [&] {
      source_.Item(1, text.filename).Item(2, text.data).Item(4, text.language);
      if (!text.definition.empty()) source_.Item(3, text.definition);
    });
  }

  WireWriter definition_, source_;
  absl::flat_hash_map<const SourceText*, int> indexes_;
};

}  // namespace

std::string Definition::Serialize() const {
  constexpr size_t kBeside = 768;  // metadata and lines of a usual op
  size_t bytes = 0;
  for (const Op& op : ops) bytes += op.bytes.size() + kBeside;
  DefinitionWriter writer(bytes);
  for (const Op& op : ops) writer.AddOp(op.bytes);
  for (const auto& [digest, beside] : metadata) writer.AddMetadata(digest.ToString(), beside);
  return writer.Finish();
}

}  // namespace kiln::client::llb
