#include "client/llb/definition.h"

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

}  // namespace

std::string Definition::Serialize() const {
  pb::Definition definition;
  for (const Op& op : ops) definition.add_def(op.bytes);
  for (const auto& [digest, data] : metadata) {
    FillMetadata(data, &(*definition.mutable_metadata())[digest.ToString()]);
  }
  return definition.SerializeAsString();
}

}  // namespace kiln::client::llb
