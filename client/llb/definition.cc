#include "client/llb/definition.h"

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::client::llb {
namespace {

// Fields of a message in protobuf's wire format. Written by hand because a graph has tens of
// thousands of small messages: making them objects first takes longer than making the graph.
class Fields {
 public:
  // As proto3 has it, nothing for 0.
  Fields& Number(int field, int64_t value) {
    if (value == 0) return *this;
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(static_cast<uint64_t>(value));
    return *this;
  }
  // A string, bytes or a message; also when empty.
  Fields& Bytes(int field, absl::string_view bytes) {
    Varint(static_cast<uint64_t>(field) << 3 | 2);
    Varint(bytes.size());
    text_.append(bytes.data(), bytes.size());
    return *this;
  }
  Fields& Append(absl::string_view fields) {
    text_.append(fields.data(), fields.size());
    return *this;
  }
  void Clear() { text_.clear(); }
  void Reserve(size_t bytes) { text_.reserve(bytes); }
  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_.push_back(static_cast<char>(value | 0x80));
    text_.push_back(static_cast<char>(value));
  }

  std::string text_;
};

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

  void AddOp(const std::string& bytes) { definition_.Bytes(1, bytes); }

  void AddMetadata(const std::string& digest, const OpMetadata& from) {
    metadata_.Clear();
    metadata_.Number(1, from.ignore_cache ? 1 : 0);
    for (const auto& [key, value] : from.description) {
      entry_.Clear();
      metadata_.Bytes(2, entry_.Bytes(1, key).Bytes(2, value).text());
    }
    for (const std::string& cap : from.caps) {
      entry_.Clear();
      metadata_.Bytes(5, entry_.Bytes(1, cap).Number(2, 1).text());
    }
    if (from.export_cache || from.progress_group || from.linux_resources)
      metadata_.Append(RareMetadata(from));
    entry_.Clear();
    definition_.Bytes(2, entry_.Bytes(1, digest).Bytes(2, metadata_.text()).text());
    AddLocations(digest, from.locations);
  }

  std::string Finish() {
    if (!source_.text().empty()) definition_.Bytes(3, source_.text());
    return definition_.Take();
  }

 private:
  void AddLocations(const std::string& digest, const std::vector<SourceLocation>& locations) {
    Fields& all = metadata_;  // is done
    all.Clear();
    for (const SourceLocation& location : locations) {
      if (location.text == nullptr) continue;
      location_.Clear();
      location_.Number(1, Index(*location.text));
      for (const LineRange& range : location.ranges) {
        start_.Clear();
        end_.Clear();
        entry_.Clear();
        entry_.Bytes(1, start_.Number(1, range.start_line).Number(2, range.start_character).text());
        entry_.Bytes(2, end_.Number(1, range.end_line).Number(2, range.end_character).text());
        location_.Bytes(2, entry_.text());
      }
      all.Bytes(1, location_.text());
    }
    if (all.text().empty()) return;
    entry_.Clear();
    source_.Bytes(1, entry_.Bytes(1, digest).Bytes(2, all.text()).text());
  }

  // Texts that ops were written in are told once each.
  int Index(const SourceText& text) {
    const auto [known, added] = indexes_.emplace(&text, static_cast<int>(indexes_.size()));
    if (added) {
      entry_.Clear();
      entry_.Bytes(1, text.filename).Bytes(2, text.data).Bytes(4, text.language);
      if (!text.definition.empty()) entry_.Bytes(3, text.definition);
      source_.Bytes(2, entry_.text());
    }
    return known->second;
  }

  Fields definition_, source_;
  Fields metadata_, location_, entry_, start_, end_;  // reused
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
