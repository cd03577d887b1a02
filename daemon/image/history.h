#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/image/go_time.h"

namespace kiln::daemon {

// One item of an image's history (OCI image-spec, config).
struct HistoryItem {
  std::optional<GoTime> created = std::nullopt;
  std::string created_by = {}, author = {}, comment = {};
  bool empty_layer = false;

  friend bool operator==(const HistoryItem& a, const HistoryItem& b) {
    return a.created == b.created && a.created_by == b.created_by && a.author == b.author &&
           a.comment == b.comment && a.empty_layer == b.empty_layer;
  }
};

// What is known of a layer, where the history says nothing.
struct LayerFacts {
  std::optional<absl::Time> created_at = std::nullopt;
  std::string description = {};
  size_t steps_below = 0, steps_above = 0;  // as in store::LayerBlob
};

// `config` is an image config; no history is an empty list. Unknown members are dropped.
absl::StatusOr<std::vector<HistoryItem>> ParseHistory(absl::string_view config);
std::string HistoryToJson(const std::vector<HistoryItem>& history);

// Makes the history tell of each layer exactly once and fills in times (images-and-cache.md 3.8).
// Where it is long enough to tell of the steps without a layer, too, these are the ones that have
// none; otherwise the last ones are.
// Sets *surplus when the history named more layers than there are: a frontend's mistake.
std::vector<HistoryItem> NormalizeHistory(std::vector<HistoryItem> history,
                                          const std::vector<LayerFacts>& layers, bool* surplus);

// Sets times that are missing or later to `epoch`, from the first item on that differs from the
// base image's.
void ClampHistory(absl::Time epoch, const std::vector<HistoryItem>& base,
                  std::vector<HistoryItem>* history);

}  // namespace kiln::daemon
