#include "daemon/image/history.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kiln::daemon {
namespace {

// "1" an item with time 1, "-" one without; "e" behind it: an empty layer.
struct NormalizeCase {
  const char* name;
  std::vector<std::string> items;
  std::vector<int> layer_times;
  std::vector<std::string> want;
  bool surplus;
};

std::vector<HistoryItem> Items(const std::vector<std::string>& texts) {
  std::vector<HistoryItem> items;
  for (const std::string& text : texts) {
    HistoryItem item;
    if (text[0] != '-') item.created = GoTime::Utc(absl::FromUnixSeconds(text[0] - '0'));
    item.empty_layer = text.size() > 1;
    items.push_back(item);
  }
  return items;
}

std::vector<std::string> Texts(const std::vector<HistoryItem>& items) {
  std::vector<std::string> texts;
  for (const HistoryItem& item : items) {
    std::string text = item.created ? std::to_string(absl::ToUnixSeconds(item.created->time)) : "-";
    texts.push_back(text + (item.empty_layer ? "e" : ""));
  }
  return texts;
}

class NormalizeHistoryTest : public testing::TestWithParam<NormalizeCase> {};

TEST_P(NormalizeHistoryTest, Times) {
  std::vector<LayerFacts> layers;
  for (int time : GetParam().layer_times) {
    LayerFacts facts;
    if (time > 0) facts.created_at = absl::FromUnixSeconds(time);
    layers.push_back(facts);
  }
  bool surplus = false;
  EXPECT_EQ(Texts(NormalizeHistory(Items(GetParam().items), layers, &surplus)), GetParam().want);
  EXPECT_EQ(surplus, GetParam().surplus);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, NormalizeHistoryTest,
    testing::ValuesIn<NormalizeCase>({
        {"Nothing", {}, {}, {}, false},
        {"MissingItemsAreAdded", {"1"}, {1, 2, 3}, {"1", "2", "3"}, false},
        {"SurplusTurnsEmpty", {"1", "2", "3"}, {1}, {"1", "2e", "3e"}, true},
        {"LayerTimesFillIn", {"1", "-", "-"}, {1, 5, 6}, {"1", "5", "6"}, false},
        {"LeadingCommandGetsFirstNewLayer", {"1", "-e", "-"}, {1, 5}, {"1", "5e", "5"}, false},
        {"LaterCommandGetsTheOneBefore", {"1", "-", "-e"}, {1, 5}, {"1", "5", "5e"}, false},
        {"OnlyCommandsAfterBase", {"1", "-e"}, {1}, {"1", "1e"}, false},
        {"NoTimesAtAll", {"-e", "-"}, {0}, {"-e", "-"}, false},
    }),
    [](const auto& test) { return std::string(test.param.name); });

// What changed nothing has no layer, and not what happens to be last.
TEST(HistoryTest, L7_StepsWithoutLayerAreTheEmptyOnes) {
  const auto layer = [](size_t steps_below) {
    LayerFacts facts;
    facts.steps_below = steps_below;
    return facts;
  };
  bool surplus = true;
  EXPECT_EQ(Texts(NormalizeHistory(Items({"1", "2e", "3", "4", "5", "6"}),
                                   {layer(0), layer(2), layer(0)}, &surplus)),
            (std::vector<std::string>{"1", "2e", "3e", "4e", "5", "6"}));
  EXPECT_FALSE(surplus);
  LayerFacts last = layer(1);
  last.steps_above = 1;
  EXPECT_EQ(Texts(NormalizeHistory(Items({"1", "2", "3"}), {last}, &surplus)),
            (std::vector<std::string>{"1e", "2", "3e"}));
  EXPECT_FALSE(surplus);
  EXPECT_EQ(Texts(NormalizeHistory(Items({"1", "2", "3", "4"}), {last}, &surplus)),
            (std::vector<std::string>{"1e", "2", "3e", "4e"}));
  EXPECT_TRUE(surplus) << "more than there were steps";
  // A history that does not know of the steps is taken as it is.
  EXPECT_EQ(Texts(NormalizeHistory(Items({"1", "2"}), {layer(0), layer(1)}, &surplus)),
            (std::vector<std::string>{"1", "2"}));
  EXPECT_FALSE(surplus);
}

TEST(HistoryTest, AddedItemsTellTheirOrigin) {
  bool surplus = false;
  const auto history =
      NormalizeHistory({}, {{absl::FromUnixSeconds(0), "mkfile /a"}, {std::nullopt, ""}}, &surplus);
  EXPECT_EQ(HistoryToJson(history),
            "[{\"created\":\"1970-01-01T00:00:00Z\",\"created_by\":\"mkfile /a\","
            "\"comment\":\"buildkit.exporter.image.v0\"},"
            "{\"created\":\"1970-01-01T00:00:00Z\",\"created_by\":\"created by buildkit\","
            "\"comment\":\"buildkit.exporter.image.v0\"}]");
}

// E19: what the base image brought keeps its times.
TEST(HistoryTest, ClampLeavesTheBaseAlone) {
  std::vector<HistoryItem> history = Items({"9", "9", "8", "3", "-"});
  ClampHistory(absl::FromUnixSeconds(5), Items({"9", "9", "7"}), &history);
  EXPECT_EQ(Texts(history), (std::vector<std::string>{"9", "9", "5", "3", "5"}));
}

TEST(HistoryTest, TimesKeepTheirOffset) {
  const auto history = ParseHistory(
      "{\"history\":[{\"created\":\"2023-05-18T22:34:17.120+02:00\",\"x\":1,\"author\":\"me\"}]}");
  ASSERT_TRUE(history.ok()) << history.status();
  EXPECT_EQ(HistoryToJson(*history),
            "[{\"created\":\"2023-05-18T22:34:17.12+02:00\",\"author\":\"me\"}]");
}

TEST(HistoryTest, BadHistoryIsRefused) {
  for (const char* text :
       {"{\"history\":3}", "{\"history\":[3]}", "{\"history\":[{\"created\":\"yesterday\"}]}",
        "{\"history\":[{\"created_by\":1}]}"})
    EXPECT_EQ(ParseHistory(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
}

}  // namespace
}  // namespace kiln::daemon
