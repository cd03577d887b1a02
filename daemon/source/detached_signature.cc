#include "daemon/source/detached_signature.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr absl::string_view kPgpBegin = "-----BEGIN PGP SIGNATURE-----";
constexpr absl::string_view kSshBegin = "-----BEGIN SSH SIGNATURE-----";
constexpr int64_t kMinRsaBits = 2048;
constexpr absl::Duration kClockSkew = absl::Minutes(5);

absl::Status Refused(absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("failed to verify signature: ", why));
}

// A tool without anything of the daemon's user; stdin is a file.
absl::StatusOr<CommandOutput> RunTool(std::vector<std::string> args, const std::string& folder,
                                      const std::string& stdin_file, const CancelToken& cancel) {
  Fd input;
  ProcessOptions options;
  if (!stdin_file.empty()) {
    KILN_ASSIGN_OR_RETURN(input, OpenFile(stdin_file, O_RDONLY));
    options.stdin_fd = input.get();
  }
  options.args = std::move(args);
  options.cwd = folder;
  const char* path = std::getenv("PATH");
  options.env = {absl::StrCat("PATH=", path == nullptr ? "/usr/bin:/bin" : path), "LC_ALL=C",
                 absl::StrCat("HOME=", folder)};
  return RunCommand(options, cancel);
}

// ---- OpenPGP ----

std::vector<std::string> Gpg(const std::string& home, const std::vector<std::string>& more) {
  std::vector<std::string> args = {"gpg",
                                   "--homedir",
                                   home,
                                   "--no-options",
                                   "--batch",
                                   "--no-tty",
                                   "--quiet",
                                   "--no-autostart",
                                   "--trust-model",
                                   "always",
                                   "--no-auto-check-trustdb",
                                   "--no-auto-key-retrieve"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

struct PgpKey {
  int64_t bits = 0, algorithm = 0;
  int64_t expires = 0;  // seconds; 0: never
};

int64_t Number(absl::string_view text) {
  int64_t value = 0;
  return absl::SimpleAtoi(text, &value) ? value : 0;
}

// "pub:-:255:22:KEYID:CREATED:EXPIRES:…", then "fpr:::::::::FINGERPRINT:" (GnuPG, doc/DETAILS).
std::map<std::string, PgpKey> ParseKeyList(const std::string& text) {
  std::map<std::string, PgpKey> keys;
  PgpKey key;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() < 10) continue;
    if (fields[0] == "pub" || fields[0] == "sub")
      key = {Number(fields[2]), Number(fields[3]), Number(fields[6])};
    if (fields[0] == "fpr") keys.emplace(fields[9], key);
  }
  return keys;
}

// What gpg's status lines say of the one signature.
struct PgpVerdict {
  int signatures = 0;
  std::string word;  // GOODSIG, EXPSIG, EXPKEYSIG, REVKEYSIG, BADSIG, ERRSIG
  std::string key_id;
  std::vector<std::string> valid;  // the arguments of VALIDSIG
};

PgpVerdict ParseStatusLines(const std::string& text) {
  PgpVerdict verdict;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, "[GNUPG:] ")) continue;
    std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty()) continue;
    const std::string word = words[0];
    words.erase(words.begin());
    if (word == "NEWSIG") ++verdict.signatures;
    if (word == "VALIDSIG") verdict.valid = words;
    for (const char* known : {"GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"}) {
      if (word != known) continue;
      verdict.word = word;
      verdict.key_id = words.empty() ? "" : words[0];
    }
  }
  return verdict;
}

absl::Status CheckKey(const std::map<std::string, PgpKey>& keys, const std::string& fingerprint,
                      int64_t signed_at) {
  const auto found = keys.find(fingerprint);
  if (found == keys.end()) return Refused(absl::StrCat("unknown key ", fingerprint));
  const PgpKey& key = found->second;
  const bool rsa = key.algorithm == 1 || key.algorithm == 3;
  if (rsa && key.bits < kMinRsaBits)
    return Refused(absl::StrCat("RSA key ", fingerprint, " is too short: ", key.bits, " bits"));
  if (key.expires != 0 && key.expires < signed_at)
    return Refused(absl::StrCat("key ", fingerprint, " had expired when it signed"));
  return absl::OkStatus();
}

absl::Status Judge(const PgpVerdict& verdict, const std::map<std::string, PgpKey>& keys,
                   bool reject_expired) {
  const std::string by = absl::StrCat("signature by ", verdict.key_id);
  if (verdict.signatures != 1)
    return Refused(absl::StrCat("expected one OpenPGP signature, found ", verdict.signatures));
  if (verdict.word == "BADSIG") return Refused(absl::StrCat(by, ": it is of other data"));
  if (verdict.word == "ERRSIG")
    return Refused(absl::StrCat(by, ": that key is not among the given ones, or of no known kind"));
  if (verdict.word == "REVKEYSIG") return Refused(absl::StrCat(by, ": key revoked"));
  const bool expired = verdict.word == "EXPSIG" || verdict.word == "EXPKEYSIG";
  if (expired && reject_expired)
    return Refused(
        absl::StrCat(by, verdict.word == "EXPSIG" ? ": it has expired" : ": key expired"));
  // FINGERPRINT DATE SECONDS EXPIRES VERSION - KEY-ALGORITHM HASH-ALGORITHM CLASS PRIMARY
  const std::vector<std::string>& valid = verdict.valid;
  if ((!expired && verdict.word != "GOODSIG") || valid.size() < 10)
    return Refused(absl::StrCat(by, ": gpg does not say that it is good"));
  // RFC 9580, 9.1 and 9.5.
  const int64_t key_algorithm = Number(valid[6]), hash = Number(valid[7]);
  if (key_algorithm != 1 && key_algorithm != 3 && key_algorithm != 19 && key_algorithm != 22)
    return Refused(absl::StrCat(by, ": unsupported public key algorithm ", key_algorithm));
  if (hash < 8 || hash > 10) return Refused(absl::StrCat(by, ": weak or unknown hash ", hash));
  const int64_t signed_at = Number(valid[2]);
  if (absl::FromUnixSeconds(signed_at) > absl::Now() + kClockSkew)
    return Refused(absl::StrCat(by, ": it was made in the future"));
  KILN_RETURN_IF_ERROR(CheckKey(keys, valid[0], signed_at));
  return CheckKey(keys, valid[9], signed_at);
}

absl::Status VerifyPgp(const TrustedKeys& keys, const std::string& folder,
                       const CancelToken& cancel) {
  const std::string home = absl::StrCat(folder, "/gnupg");
  if (::mkdir(home.c_str(), 0700) != 0) return ErrnoStatus(errno, absl::StrCat("make ", home));
  const std::string key_file = absl::StrCat(folder, "/keys");
  KILN_RETURN_IF_ERROR(WriteFileAtomic(key_file, keys.text));
  KILN_ASSIGN_OR_RETURN(const CommandOutput imported,
                        RunTool(Gpg(home, {"--import", "--", key_file}), folder, "", cancel));
  KILN_ASSIGN_OR_RETURN(
      const CommandOutput listed,
      RunTool(Gpg(home, {"--with-colons", "--fingerprint", "--fingerprint", "--list-keys"}), folder,
              "", cancel));
  const std::map<std::string, PgpKey> known = ParseKeyList(listed.out);
  if (known.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("failed to read armored public key: ",
                     absl::StripAsciiWhitespace(imported.err.substr(0, 200))));
  KILN_ASSIGN_OR_RETURN(
      const CommandOutput verified,
      RunTool(Gpg(home, {"--status-fd", "1", "--verify", "--", absl::StrCat(folder, "/signature"),
                         absl::StrCat(folder, "/data")}),
              folder, "", cancel));
  return Judge(ParseStatusLines(verified.out), known, keys.reject_expired);
}

// ---- SSH ----

// "ssh-ed25519 AAAA…" of a line of an authorized_keys file, whose options do not count.
std::optional<std::string> SshKeyOf(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  if (line.empty() || line[0] == '#') return std::nullopt;
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    // The type is repeated inside the key: "AAAA" begins its length, of four bytes.
    const bool is_type = absl::StartsWith(words[i], "ssh-") ||
                         absl::StartsWith(words[i], "ecdsa-sha2-") ||
                         absl::StartsWith(words[i], "sk-");
    if (is_type && absl::StartsWith(words[i + 1], "AAAA"))
      return absl::StrCat(words[i], " ", words[i + 1]);
  }
  return std::nullopt;
}

absl::Status VerifySsh(const TrustedKeys& keys, const std::string& folder,
                       const CancelToken& cancel) {
  std::string signers;
  for (absl::string_view line : absl::StrSplit(keys.text, '\n'))
    if (const auto key = SshKeyOf(line); key.has_value())
      absl::StrAppend(&signers, "git namespaces=\"git\" ", *key, "\n");
  if (signers.empty())
    return absl::InvalidArgumentError("failed to parse ssh public key: no key found");
  const std::string file = absl::StrCat(folder, "/allowed-signers");
  KILN_RETURN_IF_ERROR(WriteFileAtomic(file, signers));
  KILN_ASSIGN_OR_RETURN(const CommandOutput verified,
                        RunTool({"ssh-keygen", "-Y", "verify", "-f", file, "-I", "git", "-n", "git",
                                 "-s", absl::StrCat(folder, "/signature")},
                                folder, absl::StrCat(folder, "/data"), cancel));
  if (verified.status.ok()) return absl::OkStatus();
  return Refused(absl::StrCat("ssh signature: ", absl::StripAsciiWhitespace(verified.out),
                              verified.out.empty() ? "" : "; ",
                              absl::StripAsciiWhitespace(verified.err)));
}

}  // namespace

absl::Status VerifyDetachedSignature(absl::string_view data, absl::string_view signature,
                                     const TrustedKeys& keys, const std::string& folder,
                                     const CancelToken& cancel) {
  const bool pgp = absl::StartsWith(signature, kPgpBegin);
  if (!pgp && !absl::StartsWith(signature, kSshBegin)) return Refused("invalid signature format");
  KILN_RETURN_IF_ERROR(WriteFileAtomic(absl::StrCat(folder, "/data"), data));
  KILN_RETURN_IF_ERROR(WriteFileAtomic(absl::StrCat(folder, "/signature"), signature));
  return pgp ? VerifyPgp(keys, folder, cancel) : VerifySsh(keys, folder, cancel);
}

}  // namespace kiln::daemon
