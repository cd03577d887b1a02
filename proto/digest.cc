#include "proto/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/digest_text.h"

namespace kiln {

namespace {

constexpr absl::string_view kPrefix = "sha256:";

// The value of a lower-case hexadecimal digit, or -1.
int ValueOf(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

// The two digits of every byte.
constexpr std::array<std::array<char, 2>, 256> HexDigits() {
  std::array<std::array<char, 2>, 256> digits{};
  for (size_t byte = 0; byte < digits.size(); ++byte)
    digits[byte] = {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
  return digits;
}

// Writes two digits for each byte.
void WriteHex(absl::string_view raw, char* out) {
  static constexpr auto kDigits = HexDigits();
  for (const char c : raw) {
    std::memcpy(out, kDigits[static_cast<uint8_t>(c)].data(), 2);
    out += 2;
  }
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
  std::array<uint8_t, kSize> bytes;
  bool valid = hex.size() == 2 * kSize;
  for (size_t i = 0; valid && i < kSize; ++i) {
    const int high = ValueOf(hex[2 * i]), low = ValueOf(hex[2 * i + 1]);
    valid = high >= 0 && low >= 0;
    bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  if (!valid) return absl::InvalidArgumentError(absl::StrCat("invalid digest \"", text, "\""));
  return Digest(bytes);
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

DigestText::DigestText(const Digest& digest) {
  static_assert(kPrefixSize == kPrefix.size());
  std::copy(kPrefix.begin(), kPrefix.end(), text_.begin());
  WriteHex(digest.raw(), &text_[kPrefixSize]);
}

std::string Digest::ToString() const { return std::string(DigestText(*this).view()); }

std::string Digest::hex() const {
  std::string text(2 * kSize, '\0');
  WriteHex(raw(), text.data());
  return text;
}

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
