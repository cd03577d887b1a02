// Random graphs, jobs, cancels, failures, key collisions and lost results, in a random order of
// answers, against a model that only knows what each vertex is worth and what equals what.
// KILN_SCHEDULES sets how many (default 400), KILN_SCHEDULE_SEED runs a single one.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/step_driver.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {
namespace {

using Kind = StepDriver::Kind;

uint64_t FromEnv(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// Gives one target of many, and says so the way an index does, so that a match is needed.
class CuttingIndex : public store::MemoryCacheIndex {
 public:
  absl::StatusOr<std::vector<store::KeyId>> Query(absl::Span<const store::InputKey> keys, int input,
                                                  const store::OpOutput& op) override {
    auto targets = MemoryCacheIndex::Query(keys, input, op);
    if (cuts && targets.ok() && targets->size() > 1)
      *targets = std::vector<store::KeyId>(kMaxCarryOver + 1, targets->front());
    return targets;
  }
  bool cuts = false;
};

// What a schedule may contain.
struct Rules {
  bool cancels = false;
  bool failures = false;
  bool ignores = false;
  bool losses = false;  // results vanish
  bool nested = false;
  bool jobs_end = false;  // while others run
  bool begins = false;    // builds that are only begun, and gone on with later
};

class Schedule {
 public:
  explicit Schedule(uint64_t seed) : random_(seed), driver_(&world_, &index_, Slots(), Burst()) {
    rules_ = {Chance(50), Chance(30), Chance(30), Chance(20), Chance(30), Chance(50), Chance(40)};
    MakeGraphs();
    if (rules_.failures) MakeFailures();
    index_.cuts = Chance(30);
  }

  void Run() {
    int builds = Number(2, 7);
    for (int step = 0; step < 4000; ++step) {
      if (builds > 0 && (driver_.pending().empty() || Chance(12))) {
        --builds;
        StartBuild();
      } else if (driver_.pending().empty()) {
        break;
      } else if (rules_.cancels && Chance(4)) {
        CancelSomething();
      } else if (rules_.jobs_end && Chance(4)) {
        EndSomeJob();
      } else if (rules_.losses && Chance(2)) {
        world_.DropResults(/*silently=*/Chance(50));
      } else if (driver_.busy() && Chance(50)) {
        driver_.Continue();
      } else if (rules_.begins && Chance(10)) {
        GoOnWithSomething();
      } else {
        CompleteSomething();
      }
      Check();
      if (testing::Test::HasFailure()) return;
    }
    Settle();
  }

 private:
  struct Request {
    JobId job = 0;
    std::string graph;
    bool cancelled = false;
    bool late = false;  // while the engine was busy, maybe with its outcome
    bool checked = false;
    bool begun = false;  // and not gone on with
  };

  // --- random choices
  int Number(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }
  bool Chance(int percent) { return Number(1, 100) <= percent; }
  uint32_t Slots() { return static_cast<uint32_t>(Number(0, 3)); }
  size_t Burst() { return static_cast<size_t>(std::max(0, Number(-4, 4))); }

  // --- graphs
  // Lines of one graph. `tag` makes the names, hence the digests, its own; keys are shared by all.
  std::string RandomGraph(const std::string& tag, bool may_nest) {
    const int count = Number(2, 8);
    std::vector<std::string> lines;
    std::vector<int> outputs;
    for (int i = 0; i < count; ++i) {
      std::string line = absl::StrCat(tag, i, ":");
      int outs = 1;
      if (i == 0 || Chance(20)) {
        const int key = Number(0, 4);
        if (Chance(30)) {
          // Two keys; the second decides what it contains.
          absl::StrAppend(&line, " keys=s", Number(10, 12), "-", key, ",t", key, " value=v",
                          key % 3);
        } else {
          absl::StrAppend(&line, " key=", Chance(25) ? "random:" : "", "s", key, " value=v",
                          key % 3);
        }
        if (rules_.begins && Chance(50)) absl::StrAppend(&line, " early");
      } else {
        const int inputs = Number(1, std::min(i, 3));
        std::vector<std::string> content;
        for (int n = 0; n < inputs; ++n) {
          const int input = Chance(60) ? i - 1 : Number(0, i - 1);
          absl::StrAppend(&line, " ", tag, input);
          if (outputs[static_cast<size_t>(input)] > 1 && Chance(50)) absl::StrAppend(&line, ".1");
          if (Chance(40)) content.push_back(absl::StrCat(n));
        }
        // What an op does follows from its key, so ops of one key have the same shape.
        std::string key =
            absl::StrCat("k", Number(0, 3), "-", inputs, "-", absl::StrJoin(content, ""));
        if (Chance(15)) {
          outs = 2;
          absl::StrAppend(&line, " out=2");
          absl::StrAppend(&key, "-o");
        }
        const bool nests = may_nest && rules_.nested && outs == 1 && Chance(20);
        if (nests) {
          absl::StrAppend(&key, "-n");
          absl::StrAppend(&line, " noslot");
        }
        if (Chance(20)) {
          absl::StrAppend(&key, "-l");
          absl::StrAppend(&line, " locks=", Chance(50) ? "a,b" : "b,c");
        }
        if (nests) nesting_.push_back({absl::StrCat(tag, i), key});
        absl::StrAppend(&line, " key=", key);
        if (!content.empty()) absl::StrAppend(&line, " content=", absl::StrJoin(content, ","));
      }
      outputs.push_back(outs);
      lines.push_back(line);
    }
    return absl::StrJoin(lines, "\n") + "\n";
  }

  // The same graph under other names from line `from` on: other digests, equal keys.
  static std::string Renamed(const std::string& graph, const std::string& tag,
                             const std::string& other, int from) {
    std::vector<std::string> lines = absl::StrSplit(graph, '\n', absl::SkipWhitespace());
    for (std::string& line : lines) {
      std::vector<std::string> words = absl::StrSplit(line, ' ');
      for (std::string& word : words) {
        if (!absl::StartsWith(word, tag) || absl::StrContains(word, "=")) continue;
        int number = word[tag.size()] - '0';
        if (number >= from) word = absl::StrCat(other, word.substr(tag.size()));
      }
      line = absl::StrJoin(words, " ");
    }
    return absl::StrJoin(lines, "\n") + "\n";
  }

  void MakeGraphs() {
    const std::string first = RandomGraph("a", true);
    graphs_ = {first, RandomGraph("b", true)};
    graphs_.push_back(Renamed(first, "a", "c", Number(0, 7)));
    graphs_.push_back(Renamed(first, "a", "d", Number(0, 7)));
    for (size_t i = 0, n = nesting_.size(); i < n; ++i) {
      for (const char* other : {"c", "d"}) {
        auto [name, key] = nesting_[i];
        if (name[0] != 'a') continue;
        name[0] = *other;
        nesting_.push_back({name, key});
      }
    }
    for (const auto& [name, key] : nesting_) {
      if (!nested_graphs_.contains(key)) {
        const std::string tag = absl::StrCat("n", nested_graphs_.size(), "x");
        nested_graphs_[key] = Chance(30) ? graphs_[1] : RandomGraph(tag, false);
        if (nested_graphs_[key].find("noslot") != std::string::npos)
          nested_graphs_[key] = RandomGraph(tag, false);
      }
      const std::string definition = DefinitionOf(nested_graphs_[key]);
      world_.SetOnRun(name, [definition](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
        return ExecResult{{}, definition};
      });
    }
    for (size_t i = 0; rules_.ignores && i < graphs_.size(); ++i) {
      if (!Chance(50)) continue;
      std::vector<std::string> lines = absl::StrSplit(graphs_[i], '\n', absl::SkipWhitespace());
      for (std::string& line : lines)
        if (Chance(30)) absl::StrAppend(&line, " ignore");
      graphs_.push_back(absl::StrJoin(lines, "\n") + "\n");
    }
  }

  void MakeFailures() {
    std::set<std::string> keys;
    for (const std::string& graph : graphs_)
      for (const VertexText& vertex : ParseGraph(graph))
        if (KeyOf(vertex)[0] == 'k' && Chance(15)) keys.insert(KeyOf(vertex));
    for (const std::string& graph : graphs_) {
      for (const VertexText& vertex : ParseGraph(graph)) {
        const std::string key = KeyOf(vertex);
        if (!keys.contains(key) || nested_graphs_.contains(key)) continue;
        failing_.insert(key);
        world_.SetOnRun(vertex.name, [key](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
          return absl::UnknownError(absl::StrCat("fails ", key));
        });
      }
    }
  }

  // --- the model
  static std::string OptionOf(const VertexText& vertex, absl::string_view option) {
    for (const std::string& text : vertex.options)
      if (absl::StartsWith(text, option)) return text.substr(option.size());
    return "";
  }
  static std::string KeyOf(const VertexText& vertex) {
    const std::string keys = OptionOf(vertex, "keys=");
    if (!keys.empty()) return std::vector<std::string>(absl::StrSplit(keys, ',')).back();
    return OptionOf(vertex, "key=");
  }
  // What the root of the graph yields, and which failures it may meet.
  std::string ValueOfGraph(const std::string& graph, std::set<std::string>* failures) const {
    std::map<std::string, std::string> values;
    std::string last;
    for (const VertexText& vertex : ParseGraph(graph)) {
      const std::string key = KeyOf(vertex);
      if (failing_.contains(key)) failures->insert(absl::StrCat("fails ", key));
      std::string value = OptionOf(vertex, "value=");
      if (nested_graphs_.contains(key)) {
        value = ValueOfGraph(nested_graphs_.at(key), failures);
      } else if (value.empty()) {
        std::vector<std::string> parts;
        for (const auto& [name, output] : vertex.inputs)
          parts.push_back(values.at(name) + (output == 0 ? "" : absl::StrCat(".", output)));
        value = absl::StrCat(key, "(", absl::StrJoin(parts, ","), ")");
      }
      values[vertex.name] = value;
      last = value;
    }
    return last;
  }
  // Vertices with one identity do the same work. By name, as names stand for one key each.
  void LearnWork(const std::string& graph) {
    for (const VertexText& vertex : ParseGraph(graph)) {
      std::string work = KeyOf(vertex);
      if (const std::string keys = OptionOf(vertex, "keys="); !keys.empty()) work = keys;
      for (const auto& [name, output] : vertex.inputs)
        absl::StrAppend(&work, "(", work_.at(name), ".", output, ")");
      work_[vertex.name] = work;
      // Once for each output, or again when the definition that it made was given up.
      if (!OptionOf(vertex, "out=").empty() || nested_graphs_.contains(KeyOf(vertex)))
        may_repeat_.insert(vertex.name);
      locks_[vertex.name] = absl::StrSplit(OptionOf(vertex, "locks="), ',', absl::SkipEmpty());
      const std::string key = KeyOf(vertex);
      if (nested_graphs_.contains(key)) LearnWork(nested_graphs_.at(key));
    }
  }

  // --- events
  void StartBuild() {
    if (jobs_.empty() || Chance(70)) jobs_.push_back(driver_.NewJob());
    const JobId job = jobs_[static_cast<size_t>(Number(0, static_cast<int>(jobs_.size()) - 1))];
    const std::string& graph =
        graphs_[static_cast<size_t>(Number(0, static_cast<int>(graphs_.size()) - 1))];
    LearnWork(graph);
    const bool begin = rules_.begins && Chance(50);
    const RequestId id = begin ? driver_.Begin(job, graph) : driver_.Build(job, graph);
    requests_[id] = {job, graph, cancelled_jobs_.contains(job), false, false, begin};
  }

  void GoOnWithSomething() {
    for (auto& [id, request] : requests_) {
      if (!request.begun || Chance(30)) continue;
      request.begun = false;
      driver_.GoOn(request.job, id);
      return;
    }
  }

  void CancelSomething() {
    if (requests_.empty()) return;
    auto it = requests_.begin();
    std::advance(it, Number(0, static_cast<int>(requests_.size()) - 1));
    auto& [id, request] = *it;
    if (Chance(50)) {
      if (!driver_.IsOver(id)) MarkCancelled(&request);
      driver_.CancelRequest(request.job, id);
      return;
    }
    CancelRequestsOf(request.job);
    cancelled_jobs_.insert(request.job);
    driver_.CancelJob(request.job);
  }

  void CancelRequestsOf(JobId job) {
    for (auto& [id, request] : requests_)
      if (request.job == job && !driver_.IsOver(id)) MarkCancelled(&request);
  }

  void MarkCancelled(Request* request) {
    request->cancelled = true;
    request->late = driver_.busy();
  }

  void EndSomeJob() {
    if (jobs_.empty()) return;
    const size_t at = static_cast<size_t>(Number(0, static_cast<int>(jobs_.size()) - 1));
    if (!rules_.cancels) {  // only one with nothing left to do
      for (const auto& [id, request] : requests_)
        if (request.job == jobs_[at] && !driver_.IsOver(id)) return;
    }
    CancelRequestsOf(jobs_[at]);
    driver_.EndJob(jobs_[at]);
    jobs_.erase(jobs_.begin() + static_cast<ptrdiff_t>(at));
  }

  void CompleteSomething() {
    const int last = static_cast<int>(driver_.pending().size()) - 1;
    const size_t at = static_cast<size_t>(Number(0, last));
    const StepDriver::Pending& pending = driver_.pending()[at];
    const bool anyway = Chance(25);
    if (pending.kind == Kind::kRun && !pending.cancelled) ++runs_[work_.at(pending.name)];
    if (pending.kind == Kind::kRun && may_repeat_.contains(pending.name))
      runs_[work_.at(pending.name)] = 0;
    driver_.Do(at, anyway);
  }

  // --- what holds after each step
  void Check() {
    bool any_live = false;
    for (auto& [id, request] : requests_) {
      if (!driver_.IsOver(id)) {
        any_live = true;
        // Cancelled requests are over at once.
        EXPECT_FALSE(request.cancelled) << "request " << id;
      } else if (!request.checked) {
        request.checked = true;
        CheckOutcome(id, request);
      }
    }
    std::map<std::string, int> running;
    std::set<std::string> locked;
    for (const StepDriver::Pending& pending : driver_.pending()) {
      const bool is_call = pending.kind == Kind::kRun || pending.kind == Kind::kMap ||
                           pending.kind == Kind::kContent;
      if (is_call && !any_live && !driver_.busy()) {
        EXPECT_TRUE(pending.cancelled) << pending.name << " goes on for nobody";
      }
      if (pending.kind != Kind::kRun) continue;
      if (!rules_.ignores) {
        EXPECT_EQ(++running[work_.at(pending.name)], 1) << work_.at(pending.name) << " twice";
      }
      for (const std::string& lock : locks_[pending.name])
        EXPECT_TRUE(locked.insert(lock).second) << lock << " locked twice";
    }
  }

  void CheckOutcome(RequestId id, const Request& request) {
    std::set<std::string> failures;
    const std::string value = ValueOfGraph(request.graph, &failures);
    const absl::StatusOr<ResultPtr>& result = driver_.ResultOf(id);
    if (request.cancelled && !request.late) {
      EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
    } else if (request.late && absl::IsCancelled(result.status())) {
      return;
    } else if (result.ok()) {
      EXPECT_EQ(ValueOf(*result), value) << request.graph;
    } else {
      EXPECT_TRUE(failures.contains(std::string(result.status().message())))
          << result.status() << "\n"
          << request.graph;
    }
  }

  void Settle() {
    driver_.DoAll();
    for (auto& [id, request] : requests_)
      if (std::exchange(request.begun, false)) driver_.GoOn(request.job, id);
    driver_.DoAll();
    Check();
    for (const auto& [id, request] : requests_)
      EXPECT_TRUE(driver_.IsOver(id)) << "request " << id << " hangs\n"
                                      << request.graph << driver_.engine().Dump();
    if (!rules_.ignores && !rules_.losses && !rules_.failures) {
      for (const auto& [work, count] : runs_) EXPECT_LE(count, 1) << work << " ran again";
    }
    for (JobId job : jobs_) driver_.EndJob(job);
    driver_.DoAll();
    EXPECT_TRUE(driver_.engine().Idle());
  }

  std::mt19937_64 random_;
  Rules rules_;
  TestWorld world_;
  CuttingIndex index_;
  StepDriver driver_;
  std::vector<std::string> graphs_;
  std::vector<std::pair<std::string, std::string>> nesting_;  // names and keys
  std::map<std::string, std::string> nested_graphs_;          // by key
  std::set<std::string> failing_;                             // keys
  std::map<std::string, std::string> work_;                   // by name
  std::set<std::string> may_repeat_;
  std::map<std::string, std::vector<std::string>> locks_;
  std::map<std::string, int> runs_;  // not cancelled, by work
  std::vector<JobId> jobs_;
  std::set<JobId> cancelled_jobs_;
  std::map<RequestId, Request> requests_;
};

// llb.md 6: 7, 8, 10, 19 to 24, 28, 32, 33, 63 to 66.
TEST(SolverSchedules, RandomOrders) {
  if (const uint64_t seed = FromEnv("KILN_SCHEDULE_SEED", 0); seed != 0) {
    Schedule(seed).Run();
    return;
  }
  const uint64_t count = FromEnv("KILN_SCHEDULES", 400);
  const uint64_t first = FromEnv("KILN_SCHEDULE_FIRST", 1);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(absl::StrCat("KILN_SCHEDULE_SEED=", seed));
    Schedule(seed).Run();
    ASSERT_FALSE(HasFailure()) << "KILN_SCHEDULE_SEED=" << seed;
  }
}

}  // namespace
}  // namespace kiln::solver
