#include "daemon/ops/owner.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kMaxUserFile = 10 << 20;

// Empty when there is no such file.
absl::StatusOr<std::string> ReadUserFile(const store::TreeReader& tree, absl::string_view path) {
  const auto resolved = tree.Resolve(path, true);
  if (absl::IsNotFound(resolved.status())) return std::string();
  KILN_RETURN_IF_ERROR(resolved.status());
  const auto fd = tree.Open(*resolved);
  if (absl::IsFailedPrecondition(fd.status()))
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  KILN_RETURN_IF_ERROR(fd.status());
  return Annotate(ReadAll(fd->get(), kMaxUserFile), path);
}

uint32_t NumberOrZero(absl::string_view text) {
  uint32_t value = 0;
  return absl::SimpleAtoi(text, &value) ? value : 0;
}

// The fields of the first line of `name`; empty when there is none.
std::vector<std::string> FindLine(absl::string_view content, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::StripAsciiWhitespace(line), ':');
    if (fields[0] == name && !name.empty()) return {fields.begin(), fields.end()};
  }
  return {};
}

}  // namespace

absl::StatusOr<std::optional<Owner>> FindUser(const store::TreeReader& tree,
                                              absl::string_view name) {
  KILN_ASSIGN_OR_RETURN(const std::string content, ReadUserFile(tree, "/etc/passwd"));
  const std::vector<std::string> fields = FindLine(content, name);
  if (fields.empty()) return std::optional<Owner>();
  Owner owner;
  if (fields.size() > 2) owner.uid = NumberOrZero(fields[2]);
  if (fields.size() > 3) owner.gid = NumberOrZero(fields[3]);
  return std::optional<Owner>(owner);
}

absl::StatusOr<std::optional<uint32_t>> FindGroup(const store::TreeReader& tree,
                                                  absl::string_view name) {
  KILN_ASSIGN_OR_RETURN(const std::string content, ReadUserFile(tree, "/etc/group"));
  const std::vector<std::string> fields = FindLine(content, name);
  if (fields.empty()) return std::optional<uint32_t>();
  return std::optional<uint32_t>(fields.size() > 2 ? NumberOrZero(fields[2]) : 0);
}

}  // namespace kiln::daemon
