#include "tests/store/index_integrity.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/cache_rows.h"

namespace kiln::store {
namespace {

absl::Status Wrong(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("index: ", what));
}

}  // namespace

absl::Status CheckIndexIntegrity(Database& database) {
  std::map<KeyId, NodeRow> nodes, counted;
  Cursor keys = database.Scan(Family::kKeys, "");
  for (; keys.Valid(); keys.Next()) {
    KILN_ASSIGN_OR_RETURN(const KeyId id, Digest::FromRaw(keys.key()));
    KILN_ASSIGN_OR_RETURN(nodes[id], DecodeNodeValue(keys.value()));
  }
  KILN_RETURN_IF_ERROR(keys.status());

  std::set<std::string> links;
  Cursor forward = database.Scan(Family::kLinks, "");
  for (; forward.Valid(); forward.Next()) {
    KILN_ASSIGN_OR_RETURN(const LinkRow link, DecodeLinkKey(forward.key()));
    ++counted[link.from].links_out;
    if (nodes.count(link.from) == 0 || nodes.count(link.to) == 0)
      return Wrong("a link of an unknown key");
    links.insert(BackLinkKey(link));
  }
  KILN_RETURN_IF_ERROR(forward.status());
  Cursor backward = database.Scan(Family::kBackLinks, "");
  size_t back_links = 0;
  for (; backward.Valid(); backward.Next(), ++back_links)
    if (links.count(std::string(backward.key())) == 0) return Wrong("a back link without link");
  KILN_RETURN_IF_ERROR(backward.status());
  if (back_links != links.size()) return Wrong("a link without back link");

  std::set<std::string> results;
  Cursor records = database.Scan(Family::kRecords, "");
  for (; records.Valid(); records.Next()) {
    KeyId id;
    KILN_ASSIGN_OR_RETURN(const CacheRecord record, DecodeRecordKey(records.key(), &id));
    ++counted[id].records;
    if (nodes.count(id) == 0) return Wrong("a record of an unknown key");
    if (!results.insert(ResultKey(record.result_id, id)).second)
      return Wrong("a result twice under one key");
  }
  KILN_RETURN_IF_ERROR(records.status());
  Cursor result_rows = database.Scan(Family::kResults, "");
  size_t result_count = 0;
  for (; result_rows.Valid(); result_rows.Next(), ++result_count)
    if (results.count(std::string(result_rows.key())) == 0) return Wrong("a result without record");
  KILN_RETURN_IF_ERROR(result_rows.status());
  if (result_count != results.size()) return Wrong("a record without result");

  for (const auto& [id, node] : nodes) {
    if (node.links_out != counted[id].links_out || node.records != counted[id].records)
      return Wrong(absl::StrCat("key ", id.ToString(), " counts ", node.links_out, " links and ",
                                node.records, " records, has ", counted[id].links_out, " and ",
                                counted[id].records));
    if (node.links_out == 0 && node.records == 0)
      return Wrong(absl::StrCat("key ", id.ToString(), " without reason"));
  }
  Cursor aliases = database.Scan(Family::kAliases, "a");
  for (; aliases.Valid(); aliases.Next()) {
    KILN_ASSIGN_OR_RETURN(const KeyId id, DecodeAliasValue(aliases.value()));
    if (nodes.count(id) == 0) return Wrong("an alias of an unknown key");
  }
  return aliases.status();
}

}  // namespace kiln::store
