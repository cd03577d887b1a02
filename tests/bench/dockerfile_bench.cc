// Time from the bytes of a Dockerfile to its graph.
#include <benchmark/benchmark.h>

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/frontend/dockerfile/options.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "store/base/check.h"
#include "tests/daemon/frontend/dockerfile/fake_client.h"

namespace kiln::daemon::dockerfile {
namespace {

// A stage for every 50 instructions, each with the mix of a usual file.
std::string ManyInstructions(int count) {
  std::string file;
  for (int i = 0; i < count; ++i) {
    if (i % 50 == 0) {
      absl::StrAppend(&file, "FROM ", i == 0 ? "busybox" : absl::StrCat("s", i - 50), " AS s", i,
                      "\n");
    } else if (i % 10 == 1) {
      absl::StrAppend(&file, "ENV NAME", i % 20, "=value", i, "\n");
    } else if (i % 10 == 2) {
      absl::StrAppend(&file, "COPY dir", i, "/file /dest/$NAME1/", i, "\n");
    } else if (i % 10 == 3) {
      absl::StrAppend(&file, "WORKDIR /work/", i, "\n");
    } else {
      absl::StrAppend(&file, "RUN make step-", i, " && echo \"done $NAME1\"\n");
    }
  }
  return file;
}

void BM_Parse(benchmark::State& state) {
  const std::string file = ManyInstructions(static_cast<int>(state.range(0)));
  for (auto unused : state) {
    Document document;
    KILN_CHECK(Parse(file, &document).ok());
    benchmark::DoNotOptimize(document);
  }
}
BENCHMARK(BM_Parse)->ArgName("instructions")->Arg(100)->Arg(5000)->Unit(benchmark::kMillisecond);

void BM_ExpandWord(benchmark::State& state) {
  const auto value = [](absl::string_view) -> std::optional<absl::string_view> { return "value"; };
  for (auto unused : state) {
    const auto word = ExpandWord("/src/${NAME:-x}/$DIR/\"file\"", {}, value);
    KILN_CHECK(word.ok());
    benchmark::DoNotOptimize(word);
  }
}
BENCHMARK(BM_ExpandWord);

void BM_Compile(benchmark::State& state) {
  FakeClient client;
  client.AddImage("busybox");
  client.locals["dockerfile"]["Dockerfile"] = ManyInstructions(static_cast<int>(state.range(0)));
  BuildSources sources(&client);
  KILN_CHECK(sources.Open().ok());
  const auto dockerfile = sources.ReadDockerfile();
  const auto options = ParseOptions(client);
  KILN_CHECK(dockerfile.ok() && options.ok());
  for (auto unused : state) {
    ImageLookup images(&client);
    CompilationRequest request;
    request.sources = &sources;
    request.images = &images;
    request.options = &*options;
    request.text = dockerfile->text;
    Compilation compilation(std::move(request));
    KILN_CHECK(compilation.Run().ok());
    if (state.range(1) != 0) {
      auto graph = compilation.Marshal();
      KILN_CHECK(graph.ok());
      benchmark::DoNotOptimize(std::move(*graph).Serialize());
    }
  }
}
BENCHMARK(BM_Compile)
    ->ArgNames({"instructions", "serialized"})
    ->Args({100, 1})
    ->Args({5000, 0})
    ->Args({5000, 1})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kiln::daemon::dockerfile

BENCHMARK_MAIN();
