#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln {

// A sha256 digest: 32 bytes, printed "sha256:<64 hex>". A value type; the default is all zeros,
// which stands for "none".
class Digest {
 public:
  static constexpr size_t kSize = 32;

  Digest() = default;
  explicit Digest(const std::array<uint8_t, kSize>& bytes) : bytes_(bytes) {}

  // "sha256:<64 lower-case hex>"; kInvalidArgument when malformed, kUnimplemented for another
  // algorithm (OCI image-spec, descriptor, digests).
  static absl::StatusOr<Digest> Parse(absl::string_view text);
  // Exactly kSize raw bytes.
  static absl::StatusOr<Digest> FromRaw(absl::string_view raw);
  // The digest of `bytes`.
  static Digest Of(absl::string_view bytes);

  std::string ToString() const;
  std::string hex() const;
  absl::string_view raw() const {
    return absl::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  }
  bool empty() const { return *this == Digest(); }

  friend bool operator==(const Digest& a, const Digest& b) { return a.bytes_ == b.bytes_; }
  friend bool operator!=(const Digest& a, const Digest& b) { return !(a == b); }
  friend bool operator<(const Digest& a, const Digest& b) { return a.bytes_ < b.bytes_; }
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  std::array<uint8_t, kSize> bytes_ = {};
};

// Incremental sha256. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& Update(absl::string_view bytes);
  // The digest of everything so far; the object starts over.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kiln
