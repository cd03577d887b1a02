#include "client/llb/definition.h"

#include <algorithm>
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

void WriteMetadata(const std::string& digest, const Definition::Op& op, WireWriter& out) {
  const OpMetadata& from = *op.metadata;
  out.Message(2, [&] {
    out.Item(1, digest).Message(2, [&] {
      out.Number(1, from.ignore_cache);
      for (const auto& [key, value] : from.description)
        out.Message(2, [&, &k = key, &v = value] { out.Item(1, k).Item(2, v); });
      op.caps.ForEach(
          [&](absl::string_view cap) { out.Message(5, [&] { out.Item(1, cap).Number(2, 1); }); });
      if (from.export_cache || from.progress_group || from.linux_resources)
        out.Append(RareMetadata(from));
    });
  });
}

// The message pb.Source: where ops were written. Texts are told once each.
class SourceWriter {
 public:
  explicit SourceWriter(size_t expected_bytes) { out_.Reserve(expected_bytes); }

  void Add(const std::string& digest, const std::vector<SourceLocation>& locations) {
    bool any = false;
    for (const SourceLocation& location : locations) {
      if (location.text == nullptr) continue;
      AddText(*location.text);
      any = true;
    }
    if (!any) return;
    out_.Message(1, [&] {
      out_.Item(1, digest).Message(2, [&] {
        for (const SourceLocation& location : locations)
          if (location.text != nullptr) AddLocation(location);
      });
    });
  }

  absl::string_view text() const { return out_.text(); }

 private:
  void AddLocation(const SourceLocation& location) {
    out_.Message(1, [&] {
      out_.Number(1, indexes_.at(location.text.get()));
      for (const LineRange& range : location.ranges) {
        out_.Message(2, [&] {
          out_.Message(1,
                       [&] { out_.Number(1, range.start_line).Number(2, range.start_character); });
          out_.Message(2, [&] { out_.Number(1, range.end_line).Number(2, range.end_character); });
        });
      }
    });
  }

  void AddText(const SourceText& text) {
    if (!indexes_.emplace(&text, static_cast<int>(indexes_.size())).second) return;
    out_.Message(2, [&] {
      out_.Item(1, text.filename).Item(2, text.data).Item(4, text.language);
      if (!text.definition.empty()) out_.Item(3, text.definition);
    });
  }

  WireWriter out_;
  absl::flat_hash_map<const SourceText*, int> indexes_;
};

}  // namespace

std::string Definition::Serialize() const& { return Definition(*this).Serialize(); }

std::string Definition::Serialize() && {
  std::vector<const Op*> by_digest;
  by_digest.reserve(ops_.size());
  for (const Op& op : ops_) by_digest.push_back(&op);
  std::sort(by_digest.begin(), by_digest.end(),
            [](const Op* a, const Op* b) { return a->digest < b->digest; });
  WireWriter out(std::move(text_));
  constexpr size_t kLineBytes = 112;  // where a usual op was written
  SourceWriter source(ops_.size() * kLineBytes);
  for (const Op* op : by_digest) {
    const std::string digest = op->digest.ToString();
    WriteMetadata(digest, *op, out);
    source.Add(digest, op->metadata->locations);
  }
  if (!source.text().empty()) out.Item(3, source.text());
  ops_.clear();
  return out.Take();
}

}  // namespace kiln::client::llb
