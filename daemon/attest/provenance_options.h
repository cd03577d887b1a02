#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace kiln::daemon {

// "attest:provenance" of a build (images-and-cache.md 3.12). A plain value.
struct ProvenanceOptions {
  bool max = true;
  bool v02 = false;
  std::string builder_id;
  std::string filename = "provenance.json";
  bool inline_only = false, reproducible = false, complete_materials = false;

  const char* predicate_type() const {
    return v02 ? "https://slsa.dev/provenance/v0.2" : "https://slsa.dev/provenance/v1";
  }

  // From the options of a frontend; nullopt when none is asked for. kInvalidArgument names what is
  // wrong, kUnimplemented capture-usage.
  static absl::StatusOr<std::optional<ProvenanceOptions>> FromFrontend(
      const std::map<std::string, std::string>& opts);
};

}  // namespace kiln::daemon
