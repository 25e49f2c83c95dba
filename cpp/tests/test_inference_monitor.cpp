#include <doctest/doctest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "samples.hpp"
#include "selfheal/measure/inference_monitor.hpp"

using namespace selfheal;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kSignals = 3;

MonitorBank make_bank(double arl0 = 1e4, bool latch = false) {
  std::vector<Reference> references(kSignals, Reference::normal(0.0, 1.0));
  return MonitorBank({references}, arl0, false, latch);
}

// What the class does, in as many lines as it takes to say it.
struct Slow {
  std::optional<MonitorBank> bank;
  std::vector<InferenceMonitor::Flat> flat;
  std::uint64_t max_repeats;
  std::uint64_t max_frozen;
  bool latch;
  std::deque<std::vector<double>> window{};
  std::uint64_t flats = 0, repeats = 0, frozen = 0, since_alarm = 0, nonfinite = 0;
  std::uint64_t since_broken = 64;

  bool tells(std::uint64_t run, std::uint64_t limit) const {
    if (limit == 0 || run == 0) return false;
    return latch ? run == limit : run % limit == 0;
  }
  InferenceAlarms update(std::span<const double> row, bool repeats_previous, std::uint64_t broken,
                         bool same_answer) {
    InferenceAlarms alarms;
    bool is_flat = false;
    if (bank) {
      alarms.bank = bank->update(row);
      std::vector<double> scores;
      for (std::size_t i = 0; i < bank->signals(); ++i) scores.push_back(bank->score(i));
      window.push_back(scores);
      if (window.size() > 256) window.pop_front();
      for (const auto& rule : flat) is_flat = is_flat || row[rule.index] < rule.least;
    }
    nonfinite += broken;
    alarms.nonfinite = broken > 0 && (!latch || since_broken >= 64);
    since_broken = broken > 0 ? 0 : since_broken + 1;
    flats = is_flat ? flats + 1 : 0;
    alarms.flat = tells(flats, 8);
    repeats = repeats_previous ? repeats + 1 : 0;
    alarms.repeats = tells(repeats, max_repeats);
    if (!repeats_previous) {
      frozen = same_answer ? frozen + 1 : 0;
      alarms.frozen = tells(frozen, max_frozen);
    }
    const bool goes_on = broken > 0 || flats >= 8 || (max_repeats > 0 && repeats >= max_repeats) ||
                         (max_frozen > 0 && frozen >= max_frozen);
    const bool is_held_back = bank && bank->is_any_alarmed();
    since_alarm = alarms.any() || goes_on || is_held_back ? 0 : since_alarm + 1;
    return alarms;
  }
  bool settled() const {
    if (since_alarm < 64) return false;
    if (!bank) return true;
    if (window.size() < 64) return false;
    for (std::size_t i = window.size() - 64; i < window.size(); ++i) {
      bool is_known = false;
      for (const double x : window[i]) is_known = is_known || std::isfinite(x);
      if (!is_known) return false;
    }
    for (std::size_t signal = 0; signal < bank->signals(); ++signal) {
      double sum = 0.0, known = 0.0;
      for (std::size_t i = window.size() - 64; i < window.size(); ++i) {
        if (!std::isfinite(window[i][signal])) continue;
        sum += window[i][signal];
        known += 1.0;
      }
      if (known > 0.0 && !(std::fabs(sum / known) < 0.5)) return false;
    }
    return true;
  }
  void reset() {
    if (bank && settled()) {
      bank->restart();
    } else if (bank) {
      bank->reset();
    }
    window.clear();
    flats = repeats = frozen = since_alarm = 0;
    since_broken = 64;
  }
};

void require_equal(const InferenceMonitor& fast, const Slow& slow, const InferenceAlarms& got,
                   const InferenceAlarms& expected) {
  REQUIRE(got.bank == expected.bank);
  REQUIRE(got.flat == expected.flat);
  REQUIRE(got.repeats == expected.repeats);
  REQUIRE(got.nonfinite == expected.nonfinite);
  REQUIRE(got.frozen == expected.frozen);
  REQUIRE(fast.flats() == slow.flats);
  REQUIRE(fast.repeats() == slow.repeats);
  REQUIRE(fast.frozen() == slow.frozen);
  REQUIRE(fast.nonfinite() == slow.nonfinite);
  REQUIRE(fast.settled() == slow.settled());
}

}  // namespace

TEST_CASE("random streams with every fault: as the slow one says, after every inference") {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const std::vector<InferenceMonitor::Flat> flat{{0, -1.0}, {2, -2.5}};
    const std::uint64_t max_repeats = seed % 3 == 0 ? 0 : 5 + seed;
    const std::uint64_t max_frozen = seed % 4 == 0 ? 0 : 10;
    const bool latch = seed % 2 == 1;
    InferenceMonitor fast(make_bank(1e4, latch), flat, max_repeats, max_frozen, latch);
    Slow slow{make_bank(1e4, latch), flat, max_repeats, max_frozen, latch};
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    double shift = 0.0, lost = 0.0;
    bool is_stuck = false, is_frozen = false;
    std::size_t alarms = 0, settled = 0;
    for (int n = 0; n < 6000; ++n) {
      if (engine() % 300 == 0) shift = engine() % 3 == 0 ? 2.0 * normal(engine) : 0.0;
      if (engine() % 200 == 0) lost = engine() % 3 == 0 ? 0.3 : 0.0;
      if (engine() % 100 == 0) is_stuck = !is_stuck && engine() % 2 == 0;
      if (engine() % 100 == 0) is_frozen = !is_frozen && engine() % 2 == 0;
      std::vector<double> row(kSignals);
      for (double& x : row) {
        x = normal(engine) + shift;
        if (static_cast<double>(engine() % 1000) < 1000 * lost) x = kNan;
      }
      const std::uint64_t broken = engine() % 250 == 0 ? engine() % 5 : 0;
      const InferenceAlarms expected = slow.update(row, is_stuck, broken, is_frozen);
      const InferenceAlarms got = fast.update(row, is_stuck, broken, is_frozen);
      require_equal(fast, slow, got, expected);
      REQUIRE(fast.count() == static_cast<std::uint64_t>(n + 1));
      REQUIRE(fast.last_nonfinite() == broken);
      alarms += got.any() ? 1U : 0U;
      settled += fast.settled() ? 1U : 0U;
      if (engine() % 900 == 0) {
        fast.reset();
        slow.reset();
      }
    }
    REQUIRE(fast.bank()->state() == slow.bank->state());
    REQUIRE(alarms > 0);
    REQUIRE(settled > 0);
  }
}

TEST_CASE("the window holds the latest 256 rows of scores, oldest first") {
  InferenceMonitor monitor(make_bank(), {}, 0);
  for (int n = 0; n < 300; ++n) {
    const double x = 0.001 * n;
    monitor.update(std::vector<double>{x, -x, 0.0}, false, 0);
  }
  const auto spans = monitor.window().spans();
  std::vector<double> all(spans.older.begin(), spans.older.end());
  all.insert(all.end(), spans.newer.begin(), spans.newer.end());
  REQUIRE(all.size() == 256 * kSignals);
  CHECK(all.front() == doctest::Approx(0.044).epsilon(1e-3));
  CHECK(all[255 * kSignals] == doctest::Approx(0.299).epsilon(1e-3));
}

TEST_CASE("where nothing can be measured, repeats and broken values are still heard") {
  InferenceMonitor monitor(std::nullopt, {}, 10);
  CHECK(monitor.signals() == 0);
  CHECK(monitor.bank() == nullptr);
  for (int n = 1; n <= 40; ++n) {
    const InferenceAlarms alarms = monitor.update({}, true, 0);
    CHECK(alarms.repeats == (n % 10 == 0));
    CHECK(alarms.any() == alarms.repeats);
  }
  CHECK(monitor.update({}, false, 3).nonfinite);
  for (int n = 0; n < 63; ++n) monitor.update({}, false, 0);
  CHECK_FALSE(monitor.settled());
  monitor.update({}, false, 0);
  CHECK(monitor.settled());
  CHECK(monitor.nonfinite() == 3);
  monitor.reset();
  CHECK_FALSE(monitor.settled());
  CHECK(monitor.count() == 105);
  CHECK(monitor.nonfinite() == 3);
}

TEST_CASE("a rule for a signal that is not there is refused") {
  CHECK_THROWS_AS(InferenceMonitor(make_bank(), {{kSignals, 1.0}}, 0), std::invalid_argument);
  CHECK_THROWS_AS(InferenceMonitor(std::nullopt, {{0, 1.0}}, 0), std::invalid_argument);
}

TEST_CASE("bytes are fixed at construction") {
  InferenceMonitor monitor(make_bank(), {{0, 1.0}}, 9);
  const std::size_t bytes = monitor.memory_bytes();
  CHECK(bytes > sizeof monitor + 256 * kSignals * sizeof(double));
  for (int n = 0; n < 1000; ++n) monitor.update(std::vector<double>(kSignals, 0.1 * n), n % 2, 1);
  CHECK(monitor.memory_bytes() == bytes);
}

TEST_CASE("a state without history has the same charts, and waits for a window to be settled") {
  InferenceMonitor monitor(make_bank(), {{0, -9.0}}, 9);
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const auto row = [&] { return std::vector<double>{normal(random), normal(random), 0.0}; };
  for (int n = 0; n < 700; ++n) monitor.update(row(), false, 0);
  REQUIRE(monitor.settled());
  auto whole = InferenceMonitor::from_state(monitor.state());
  const auto blob = monitor.state(InferenceMonitor::History::kLeftOut);
  CHECK(blob.size() + 256 * kSignals * sizeof(double) == monitor.state().size());
  auto without = InferenceMonitor::from_state(blob);
  CHECK(whole.state() == monitor.state());
  CHECK(without.window().size() == 0);
  CHECK_FALSE(without.settled());
  for (int n = 0; n < 256; ++n) {
    const auto next = row();
    monitor.update(next, false, 0);
    whole.update(next, false, 0);
    without.update(next, false, 0);
    CHECK(without.count() == monitor.count());
    if (n >= 63) CHECK(without.settled() == monitor.settled());
  }
  CHECK(whole.state() == monitor.state());
  // The window keeps how many rows it was given, ever.
  CHECK(without.bank()->state() == monitor.bank()->state());
}

TEST_CASE("without history a change is dated in steps, and little changes in a minute") {
  InferenceMonitor monitor(make_bank(), {}, 0);
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  const auto serve = [&](int count, double shift) {
    for (int n = 0; n < count; ++n) {
      monitor.update(std::vector<double>{normal(random) + shift, normal(random), 0.0}, false, 0);
    }
    return monitor.state(History::kLeftOut);
  };
  const auto before = serve(5000, 0.0);
  const auto after = serve(1160, 0.0);
  std::size_t changed = 0;
  REQUIRE(before.size() == after.size());
  for (std::size_t i = 0; i < after.size(); ++i) changed += before[i] != after[i] ? 1 : 0;
  CHECK(changed < 900);  // with all marks 1357
  const std::uint64_t changed_at = monitor.count();
  const auto without = InferenceMonitor::from_state(serve(60, 0.5));
  const Onset all = monitor.bank()->change(0);
  const Onset steps = without.bank()->change(0);
  REQUIRE(all.estimate >= 0);
  CHECK(steps.earliest <= static_cast<std::int64_t>(changed_at));
  CHECK(std::abs(steps.estimate - all.estimate) <=
        static_cast<std::int64_t>(OnsetTracker::kStride));
}

TEST_CASE("a shift that had ended is told again when it is back") {
  for (const double shift : {1.0, -2.0}) {
    InferenceMonitor monitor(make_bank(1e4, true), {}, 0, 0, true);
    const auto told = [&](int count, double level) {
      int alarms = 0;
      for (int n = 0; n < count; ++n) {
        const double noise = n % 2 == 0 ? 0.7 : -0.7;
        const std::vector<double> row{level + noise, 0.0, 0.0};
        alarms += monitor.update(row, false, 0).any() ? 1 : 0;
      }
      return alarms;
    };
    for (int wave = 0; wave < 5; ++wave) {
      CHECK(told(48, shift) == 1);
      CHECK(told(100, 0.0) == 0);
      REQUIRE(monitor.settled());
      if (wave % 2 == 0) monitor.reset();
    }
    CHECK(told(5000, shift) == 1);
  }
}

TEST_CASE("what was told before a reset does not keep a state from being restored") {
  InferenceMonitor monitor(make_bank(100.0, true), {}, 0);
  for (int n = 0; n < 300; ++n) monitor.update(std::vector<double>{4.0, 0.0, 0.0}, false, 0);
  REQUIRE(monitor.bank()->is_latched(0));
  monitor.reset();
  for (int n = 0; n < 40; ++n) {
    const auto restored = InferenceMonitor::from_state(monitor.state());
    CHECK(restored.state() == monitor.state());
    CHECK_FALSE(restored.bank()->is_latched(0));
    monitor.update(std::vector<double>{0.0, 0.0, 0.0}, false, 0);
  }
}
