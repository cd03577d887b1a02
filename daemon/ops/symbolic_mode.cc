#include "daemon/ops/symbolic_mode.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kiln::daemon {

namespace {

constexpr uint32_t kSetUid = 04000, kSetGid = 02000, kSticky = 01000;
constexpr uint32_t kUser = kSetUid | 0700, kGroup = kSetGid | 0070, kOther = 0007;
constexpr uint32_t kEverybody = kUser | kGroup | kOther;

// Octal; false when it is none or has bits beyond 07777.
bool ParseOctal(absl::string_view text, uint32_t* bits) {
  *bits = 0;
  for (const char c : text) {
    if (c < '0' || c > '7') return false;
    *bits = *bits * 8 + static_cast<uint32_t>(c - '0');
    if (*bits > 07777) return false;
  }
  return true;
}

}  // namespace

// [ugoa]*([-+=][rwxXstugo]*)+, as BSD's and GNU's chmod read it.
bool SymbolicMode::ParseClause(absl::string_view clause, std::vector<Change>* out) {
  uint32_t who = 0;
  for (; !clause.empty() && absl::StrContains("ugoa", clause.front()); clause.remove_prefix(1)) {
    switch (clause.front()) {
      case 'u':
        who |= kUser;
        break;
      case 'g':
        who |= kGroup;
        break;
      case 'o':
        who |= kOther;
        break;
      default:
        who |= kEverybody;
    }
  }
  if (clause.empty()) return false;
  const bool only_other = who != 0 && (who & ~kOther) == 0;
  while (!clause.empty()) {
    const char op = clause.front();
    if (op != '+' && op != '-' && op != '=') return false;
    clause.remove_prefix(1);
    const uint32_t whom = who == 0 ? kEverybody : who;
    // "=" takes everything away first; what follows is then added.
    if (op == '=') out->push_back({'=', 0, whom, 0});
    const char add = op == '-' ? '-' : '+';
    for (; !clause.empty() && !absl::StrContains("+-=", clause.front()); clause.remove_prefix(1)) {
      const char c = clause.front();
      switch (c) {
        case 'r':
          out->push_back({add, 0, whom, whom & 0444});
          break;
        case 'w':
          out->push_back({add, 0, whom, whom & 0222});
          break;
        case 'x':
          out->push_back({add, 0, whom, whom & 0111});
          break;
        case 'X':
          out->push_back({add, add == '+' ? 'X' : '\0', whom, whom & 0111});
          break;
        case 's':
          if (!only_other) out->push_back({add, 0, whom, whom & (kSetUid | kSetGid)});
          break;
        case 't':
          if (!only_other) out->push_back({add, 0, whom, kSticky});
          break;
        case 'u':
        case 'g':
        case 'o':
          out->push_back({add, c, whom, 0});
          break;
        default:
          return false;
      }
    }
  }
  return true;
}

absl::StatusOr<SymbolicMode> SymbolicMode::Parse(absl::string_view text) {
  const absl::Status invalid =
      absl::InvalidArgumentError(absl::StrCat("invalid mode \"", text, "\""));
  SymbolicMode mode;
  if (text.empty()) return invalid;
  if (text.front() >= '0' && text.front() <= '9') {
    uint32_t bits = 0;
    if (!ParseOctal(text, &bits)) return invalid;
    mode.changes_ = {{'=', 0, 07777, 0}, {'+', 0, 07777, bits}};
    return mode;
  }
  for (const absl::string_view clause : absl::StrSplit(text, ',')) {
    if (!ParseClause(clause, &mode.changes_)) return invalid;
  }
  return mode;
}

uint32_t SymbolicMode::Apply(uint32_t mode, bool is_dir) const {
  const uint32_t before = mode & 07777;
  uint32_t now = before;
  // "=" clears at once, but "g=g" and the like copy what was there.
  uint32_t copied = now;
  for (const Change& change : changes_) {
    if (change.op == '=') {
      copied = now;
      now &= ~change.who;
      continue;
    }
    uint32_t bits = change.bits;
    if (change.from == 'X' && !is_dir && (before & 0111) == 0) continue;
    if (change.from == 'u' || change.from == 'g' || change.from == 'o') {
      const int shift = change.from == 'u' ? 6 : change.from == 'g' ? 3 : 0;
      const uint32_t value = (copied >> shift) & 7;
      bits = (value * 0111) & change.who;
    }
    now = change.op == '+' ? now | bits : now & ~bits;
    copied = now;
  }
  return now;
}

}  // namespace kiln::daemon
