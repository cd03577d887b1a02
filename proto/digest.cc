#include "proto/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace kiln {

namespace {

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

absl::StatusOr<Digest> Digest::Parse(absl::string_view text) {
  const size_t colon = text.find(':');
  if (colon == absl::string_view::npos || colon == 0)
    return absl::InvalidArgumentError(absl::StrCat("invalid digest \"", text, "\""));
  const absl::string_view algorithm = text.substr(0, colon);
  const absl::string_view hex = text.substr(colon + 1);
  if (algorithm != "sha256")
    return absl::UnimplementedError(absl::StrCat("digest algorithm \"", algorithm, "\""));
  if (hex.size() != 2 * kSize || !IsLowerHex(hex))
    return absl::InvalidArgumentError(absl::StrCat("invalid digest \"", text, "\""));
  return FromRaw(absl::HexStringToBytes(hex));
}

absl::StatusOr<Digest> Digest::FromRaw(absl::string_view raw) {
  if (raw.size() != kSize)
    return absl::InvalidArgumentError(absl::StrCat("a digest has 32 bytes, not ", raw.size()));
  std::array<uint8_t, kSize> bytes;
  std::copy(raw.begin(), raw.end(), bytes.begin());
  return Digest(bytes);
}

Digest Digest::Of(absl::string_view bytes) {
  static thread_local Sha256 hasher;  // making its context takes longer than hashing a short text
  return hasher.Update(bytes).Finish();
}

std::string Digest::ToString() const {
  constexpr absl::string_view kPrefix = "sha256:";
  constexpr char kHex[] = "0123456789abcdef";
  std::string text(kPrefix.size() + 2 * kSize, '\0');
  char* out = std::copy(kPrefix.begin(), kPrefix.end(), text.data());
  for (const uint8_t byte : bytes_) {
    *out++ = kHex[byte >> 4];
    *out++ = kHex[byte & 15];
  }
  return text;
}

std::string Digest::hex() const { return absl::BytesToHexString(raw()); }

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { Start(); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  // sha256 is always available and these calls only fail on allocation.
  void Start() { EVP_DigestInit_ex(context, Algorithm(), nullptr); }
  // Fetched once: an implicit fetch costs about a microsecond a digest in OpenSSL 3.
  static const EVP_MD* Algorithm() {
    static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return algorithm;
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::Update(absl::string_view bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
  return *this;
}

Digest Sha256::Finish() {
  std::array<uint8_t, Digest::kSize> out;
  EVP_DigestFinal_ex(state_->context, out.data(), nullptr);
  state_->Start();
  return Digest(out);
}

}  // namespace kiln
