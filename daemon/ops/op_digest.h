#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pb {
class BuildOp;
class DiffOp;
class FileOp;
class MergeOp;
class PassthroughOp;
}  // namespace pb

namespace kiln::daemon {

// The digests of ops as BuildKit computes them, over Go's JSON text of the op, so that caches can
// be exchanged (BuildKit solver.md, cache map digests).

// `cut_source[i]`: the source directory of action i, a copy, goes into the dependency selector;
// only its base name counts here.
std::string FileOpDigest(const pb::FileOp& op, const std::vector<bool>& cut_source);
std::string MergeOpDigest(const pb::MergeOp& op);
std::string DiffOpDigest(const pb::DiffOp& op);
std::string PassthroughOpDigest(const pb::PassthroughOp& op);
std::string BuildOpDigest(const pb::BuildOp& op);
// "random:…" for keys of sessions, which never match anything later.
std::string SourceOpDigest(absl::string_view key);

}  // namespace kiln::daemon
