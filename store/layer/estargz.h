#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "proto/digest.h"
#include "store/layer/byte_stream.h"
#include "store/layer/compression_budget.h"

namespace kiln::store {

struct EstargzResult {
  Digest toc_digest;        // of the table of contents
  Digest diff_id;           // of all uncompressed bytes: the tar, then the table
  int64_t plain_bytes = 0;  // of them
};

// Stores a tar so that single files can be read without the rest (eStargz, docs/estargz.md of
// stargz-snapshotter): a gzip member begins at each piece of a file, and a table of contents
// follows, as one more archive with the file stargz.index.json, then a footer of 51 bytes. The
// tar's own bytes stay as they are.
//
// kInvalidArgument: the tar has a file of that name; kUnimplemented: a sparse file.
absl::StatusOr<EstargzResult> WriteEstargz(ByteStream& tar, std::optional<int> level,
                                           CompressionBudget* budget, const ByteSink& out);

}  // namespace kiln::store
