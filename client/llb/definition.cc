#include "client/llb/definition.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "client/llb/wire_writer.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest_text.h"

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

// The capabilities as fields of pb.OpMetadata: a graph of any size has few different sets.
class CapFields {
 public:
  absl::string_view For(const CapSet& caps) {
    const auto [at, added] = known_.try_emplace(caps);
    if (added) {
      WireWriter out;
      caps.ForEach(
          [&](absl::string_view cap) { out.Message(5, [&] { out.Item(1, cap).Number(2, 1); }); });
      at->second = out.Take();
    }
    return at->second;
  }

 private:
  absl::flat_hash_map<CapSet, std::string> known_;
};

void WriteMetadata(absl::string_view digest, const Definition::Op& op, CapFields& caps,
                   WireWriter& out) {
  const OpMetadata& from = *op.metadata;
  out.LargeMessage(2, [&] {
    out.Item(1, digest).LargeMessage(2, [&] {
      out.Number(1, from.ignore_cache);
      for (const Description::Entry& entry : from.description)
        out.Message(2, [&] { out.Item(1, entry.key).Item(2, entry.text); });
      out.Append(caps.For(op.caps));
      if (from.export_cache || from.progress_group || from.linux_resources)
        out.Append(RareMetadata(from));
    });
  });
}

// The message pb.Source: where ops were written. Texts are told once each.
class SourceWriter {
 public:
  explicit SourceWriter(size_t expected_bytes) { out_.Reserve(expected_bytes); }

  void Add(absl::string_view digest, const SourceLocations& locations) {
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

// Sorted with what decides nearly always at hand: the ops are all over the memory.
std::vector<const Definition::Op*> ByDigest(const std::vector<Definition::Op>& ops) {
  struct Key {
    uint64_t head;  // the first bytes of the digest
    const Definition::Op* op;
  };
  std::vector<Key> keys;
  keys.reserve(ops.size());
  for (const Definition::Op& op : ops) {
    uint64_t head = 0;
    for (const char byte : op.digest.raw().substr(0, sizeof head))
      head = head << 8 | static_cast<uint8_t>(byte);
    keys.push_back({head, &op});
  }
  std::sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) {
    return a.head != b.head ? a.head < b.head : a.op->digest < b.op->digest;
  });
  std::vector<const Definition::Op*> sorted;
  sorted.reserve(keys.size());
  for (const Key& key : keys) sorted.push_back(key.op);
  return sorted;
}

}  // namespace

std::string Definition::Serialize() const& { return Definition(*this).Serialize(); }

std::string Definition::Serialize() && {
  WireWriter out(std::move(text_));
  constexpr size_t kLineBytes = 112;  // where a usual op was written
  SourceWriter source(ops_.size() * kLineBytes);
  CapFields caps;
  for (const Op* op : ByDigest(ops_)) {
    const DigestText digest(op->digest);
    WriteMetadata(digest.view(), *op, caps, out);
    source.Add(digest.view(), op->metadata->locations);
  }
  if (!source.text().empty()) out.Item(3, source.text());
  ops_.clear();
  return out.Take();
}

}  // namespace kiln::client::llb
