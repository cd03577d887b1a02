#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

// Where an exporter's output goes on the client.
struct ExportTarget {
  enum class Kind {
    kNone,       // the daemon keeps it (image, registry)
    kDirectory,  // files are written below `path`
    kFile,       // one stream of bytes; path "-" is standard output
    kLayout,     // an OCI layout in the folder `path`, through the content store
  };
  Kind kind = Kind::kNone;
  std::string path;
  bool delete_others = false;  // kDirectory: what is not in the result is removed (mode=delete)
};

// One --output: what is asked of the daemon, and where the client puts it.
struct ExportRequest {
  std::string type;  // "local", "tar", "oci", "docker", "image", …
  std::map<std::string, std::string> attrs;
  ExportTarget target;
};

// "type=local,dest=out": fields by commas, CSV quoting. A bare path means type=local,dest=PATH, "-"
// means type=tar,dest=-. `stdout_is_terminal` refuses binary output there. type=none and
// type=cacheonly yield an empty `type`. kInvalidArgument names the field.
absl::StatusOr<ExportRequest> ParseOutput(absl::string_view text, bool stdout_is_terminal);

// Makes the folder that an export is to write into, so that a build does not run for one that
// cannot be written. Errors name `flag`, with its value.
absl::Status MakeRoomFor(const ExportTarget& target, absl::string_view flag);

}  // namespace kiln::client
