#include "store/cache_index.h"

#include "absl/strings/str_cat.h"
#include "store/codec.h"

namespace kiln::store {

KeyId CacheIndex::RootKey(const OpOutput& op) {
  return Digest::Of(absl::StrCat(op.op_digest, "@", op.output));
}

KeyId CacheIndex::ContentKey(const std::string& content_digest) {
  return RootKey({content_digest, -1});
}

KeyId CacheIndex::DerivedKey(const OpOutput& op, absl::Span<const InputKey> inputs) {
  std::string bytes("kiln key 1\n");  // no root key's text begins like this
  AppendText(&bytes, op.op_digest);
  AppendOrdered64(&bytes, op.output);
  for (const InputKey& input : inputs) {
    bytes.append(input.key.raw().data(), input.key.raw().size());
    AppendText(&bytes, input.selector);
  }
  return Digest::Of(bytes);
}

absl::Status CacheIndex::Release(absl::string_view result_id) {
  const std::string one[] = {std::string(result_id)};
  return ReleaseAll(one);
}

}  // namespace kiln::store
