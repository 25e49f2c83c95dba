#include <doctest/doctest.h>

#include <string>

#include "litert_api.hpp"
#include "refusal.hpp"

using namespace selfheal::runtime;

namespace {

std::string refusal(const std::string& library, const std::string& version) {
  try {
    litert_api(library, version);
  } catch (const Refusal& reason) {
    return reason.what();
  }
  return {};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a version that was not tested is refused before anything is loaded") {
  for (const char* version : {"", "2.3", "2.3.0rc1", "2.3.00", "2.1.0", "2.4.0", "9.9.9"}) {
    const std::string reason = refusal("/nowhere/libLiteRt.so", version);
    CHECK(has(reason, "LiteRT " + std::string(version) + " was not tested"));
    CHECK(has(reason, "tested: 2.2.0, 2.3.0"));
  }
}

TEST_CASE("a library that cannot be loaded is refused, every time") {
  for (int time = 0; time < 2; ++time) {
    const std::string reason = refusal("/nowhere/libLiteRt.so", "2.3.0");
    CHECK(has(reason, "cannot be loaded"));
    CHECK(has(reason, "/nowhere/libLiteRt.so"));
  }
}

TEST_CASE("a library that lacks a function is refused, every time") {
  for (int time = 0; time < 2; ++time) {
    CHECK(refusal(SELFHEAL_LACKING_LITERT, "2.3.0") ==
          "LiteRT's library lacks the function LiteRtCreateModelFromBuffer");
  }
}

TEST_CASE("a status is refused with the step and what it means") {
  CHECK_NOTHROW(require_ok(0, "resting"));
  for (const auto& [status, meaning] :
       {std::pair{1, "1 (invalid argument)"}, std::pair{2, "2 (out of memory)"},
        std::pair{3, "3 (runtime failure)"}, std::pair{5, "5 (unsupported)"},
        std::pair{501, "501 (invalid flatbuffer)"}, std::pair{504, "504 (compilation failed)"},
        std::pair{77, "77"}}) {
    CHECK_THROWS_WITH_AS(require_ok(status, "working"),
                         ("LiteRT failed when working: status " + std::string(meaning)).c_str(),
                         Refusal);
  }
}

TEST_CASE("an environment that cannot be made is refused and asked for again") {
  static int asked = 0;
  static int made = 0;
  static LiteRtApi api{};
  api.create_environment = [](int, const LiteRtEnvironmentOption*, LiteRtEnvironment* environment) {
    if (asked++ == 0) return 2;
    *environment = reinterpret_cast<LiteRtEnvironment>(&made);
    ++made;
    return 0;
  };
  CHECK_THROWS_AS(litert_environment(api), Refusal);
  const LiteRtEnvironment first = litert_environment(api);
  CHECK(litert_environment(api) == first);
  CHECK(made == 1);
}
