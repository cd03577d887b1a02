#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "client/llb/caps.h"
#include "client/llb/description.h"

namespace kiln::client::llb {

// What an op runs on. Empty fields are unknown.
struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
  std::vector<std::string> os_features;

  friend bool operator==(const Platform&, const Platform&) = default;
};

// The canonical spelling: x86_64 is amd64, aarch64 and arm64/v8 are arm64, plain arm is arm/v7.
Platform NormalizePlatform(Platform platform);

// The platform of the running machine, normalized.
Platform HostPlatform();

struct ProgressGroup {
  std::string id;
  std::string name;
  bool weak = false;
};

struct LinuxResources {
  int64_t memory = 0;       // bytes
  int64_t memory_swap = 0;  // bytes; -1 unlimited
  uint64_t cpu_shares = 0;
  uint64_t cpu_period = 0;  // microseconds
  int64_t cpu_quota = 0;    // microseconds per period
  std::string cpuset_cpus;
  std::string cpuset_mems;
};

// A text that steps are written in, such as a Dockerfile.
struct SourceText {
  std::string filename;
  std::string language;
  std::string data;
  std::string definition;  // serialized pb.Definition of what it was read from; may be empty
};

struct LineRange {
  int start_line = 0, start_character = 0;  // lines count from 1
  int end_line = 0, end_character = 0;

  friend bool operator==(const LineRange&, const LineRange&) = default;
};

struct SourceLocation {
  std::shared_ptr<const SourceText> text;
  absl::InlinedVector<LineRange, 1> ranges;
};

using SourceLocations = absl::InlinedVector<SourceLocation, 1>;  // mostly one

// What travels beside an op and is no part of its digest.
struct OpMetadata {
  bool ignore_cache = false;
  Description description;
  std::optional<bool> export_cache;
  std::optional<ProgressGroup> progress_group;
  std::optional<LinuxResources> linux_resources;
  SourceLocations locations;  // where the op was written

  // Takes over what `other` sets.
  void Merge(const OpMetadata& other);
  bool empty() const;
};

// Settings of one op, or the defaults for every op of a graph.
struct Constraints {
  std::optional<Platform> platform;
  std::vector<std::string> worker_filters;
  OpMetadata metadata;
  CapSet caps;
  // Marks local sources that name no session, so that equal names of different clients differ.
  std::string local_unique_id;
};

// Shown as the step's name instead of one made from the op.
Constraints Named(std::string name);
// The step runs even when a result for it is known.
Constraints IgnoreCache(Constraints base = {});

}  // namespace kiln::client::llb
