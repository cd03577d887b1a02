#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// Lines of a Dockerfile, both ends included, counted from 1. On the wire such a range is a list of
// pb.Range of one line each, with every `character` 0. Line 0 stands before the file: BuildKit
// counts the lines of faulty parser directives from there.
struct LineRange {
  int first = 0;
  int last = 0;

  friend bool operator==(const LineRange& a, const LineRange& b) {
    return a.first == b.first && a.last == b.last;
  }
  friend bool operator!=(const LineRange& a, const LineRange& b) { return !(a == b); }
};

// Records in an error which lines it is about. Several calls record several locations, shown one
// after the other. No effect on an OK status. The record stays inside the daemon: AttachSource
// turns it into what clients know.
absl::Status WithLocation(absl::Status status, const LineRange& lines);

// Replaces the recorded locations by this one.
absl::Status WithOnlyLocation(absl::Status status, const LineRange& lines);

// Forgets the recorded locations: for answers that show none.
absl::Status WithoutLocations(absl::Status status);

// The recorded locations, in the order they were added.
std::vector<LineRange> LocationsOf(const absl::Status& status);

// Turns every recorded location into a typed errdefs.Source (proto/status_details.h): the file's
// name and bytes, language "Dockerfile" and one range per line. Clients print the excerpt from it.
// A status without locations is returned as it is.
absl::Status AttachSource(absl::Status status, absl::string_view filename, absl::string_view data);

}  // namespace kiln::daemon::dockerfile
