#include "client/llb/definition.h"

#include <google/protobuf/arena.h>

#include "proto/buildkit/ops.pb.h"

namespace kiln::client::llb {
namespace {

void FillMetadata(const OpMetadata& from, pb::OpMetadata* to) {
  to->set_ignore_cache(from.ignore_cache);
  for (const auto& [key, value] : from.description) (*to->mutable_description())[key] = value;
  if (from.export_cache) to->mutable_export_cache()->set_value(*from.export_cache);
  for (const std::string& cap : from.caps) (*to->mutable_caps())[cap] = true;
  if (from.progress_group) {
    to->mutable_progress_group()->set_id(from.progress_group->id);
    to->mutable_progress_group()->set_name(from.progress_group->name);
    to->mutable_progress_group()->set_weak(from.progress_group->weak);
  }
  if (from.linux_resources) {
    pb::LinuxResources* out = to->mutable_linux_resources();
    out->set_memory(from.linux_resources->memory);
    out->set_memoryswap(from.linux_resources->memory_swap);
    out->set_cpushares(from.linux_resources->cpu_shares);
    out->set_cpuperiod(from.linux_resources->cpu_period);
    out->set_cpuquota(from.linux_resources->cpu_quota);
    out->set_cpusetcpus(from.linux_resources->cpuset_cpus);
    out->set_cpusetmems(from.linux_resources->cpuset_mems);
  }
}

// Collects the texts that ops were written in, each once.
class SourceWriter {
 public:
  explicit SourceWriter(pb::Definition* definition) : definition_(definition) {}

  void Add(const std::string& digest, const std::vector<SourceLocation>& locations) {
    for (const SourceLocation& location : locations) {
      if (location.text == nullptr) continue;
      pb::Source* source = definition_->mutable_source();
      pb::Location* out = (*source->mutable_locations())[digest].add_locations();
      out->set_sourceindex(Index(*location.text, source));
      for (const LineRange& range : location.ranges) {
        pb::Range* to = out->add_ranges();
        to->mutable_start()->set_line(range.start_line);
        to->mutable_start()->set_character(range.start_character);
        to->mutable_end()->set_line(range.end_line);
        to->mutable_end()->set_character(range.end_character);
      }
    }
  }

 private:
  int Index(const SourceText& text, pb::Source* source) {
    const auto [known, added] = indexes_.emplace(&text, source->infos_size());
    if (added) {
      pb::SourceInfo* info = source->add_infos();
      info->set_filename(text.filename);
      info->set_language(text.language);
      info->set_data(text.data);
      if (!text.definition.empty()) info->mutable_definition()->ParseFromString(text.definition);
    }
    return known->second;
  }

  pb::Definition* const definition_;
  std::map<const SourceText*, int> indexes_;
};

}  // namespace

std::string Definition::Serialize() const {
  google::protobuf::Arena arena;  // thousands of small messages at once
  pb::Definition& definition = *google::protobuf::Arena::CreateMessage<pb::Definition>(&arena);
  for (const Op& op : ops) definition.add_def(op.bytes);
  SourceWriter source(&definition);
  for (const auto& [digest, data] : metadata) {
    const std::string key = digest.ToString();
    FillMetadata(data, &(*definition.mutable_metadata())[key]);
    source.Add(key, data.locations);
  }
  return definition.SerializeAsString();
}

}  // namespace kiln::client::llb
