#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "detect/bank_step.hpp"
#include "samples.hpp"

using namespace selfheal;
using namespace selfheal::detail;

namespace {

constexpr std::size_t kLanes = BankLanes::kLanes;

struct State {
  std::vector<Reference> references;
  std::vector<BankPreparation> preparations;
  std::vector<BankLanes> lanes;
  std::vector<SignalCharts> charts;
  std::vector<double> inputs;
};

State made(std::size_t signals) {
  State state;
  const std::size_t groups = (signals + kLanes - 1) / kLanes;
  state.preparations.resize(groups);
  state.lanes.resize(groups);
  state.charts.resize(signals);
  state.inputs.resize(groups * kLanes);
  for (std::size_t i = 0; i < signals; ++i) {
    std::vector<double> samples = testing::normal_samples(500, i, 0.0);
    if (i % 3 == 2) {
      for (double& x : samples) x = std::round(2.0 * x);
    }
    state.references.emplace_back(samples);
    const auto n = static_cast<double>(i);
    BankPreparation& preparation = state.preparations[i / kLanes];
    preparation.limit[i % kLanes] = 2.5;
    preparation.phi[i % kLanes] = 0.05 * n;
    preparation.sqrt_whitened[i % kLanes] = std::sqrt(1.0 - 0.0025 * n * n);
    preparation.offset[i % kLanes] = 0.01 * n;
    preparation.scale[i % kLanes] = 1.0 + 0.1 * n;
    state.lanes[i / kLanes].before[i % kLanes] = std::numeric_limits<double>::quiet_NaN();
    for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
      state.charts[i].cut[side] = 1.5;
      state.charts[i].raised[side] = 8.0;
      std::fill_n(state.charts[i].limit[side], SignalCharts::kCharts, 1e9);
    }
  }
  return state;
}

// What the charts are, one number after the other.
bool plain_step(const std::vector<double>& row, State& state) {
  bool alarms = false;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::size_t lane = i % kLanes;
    BankLanes& lanes = state.lanes[i / kLanes];
    const BankPreparation& preparation = state.preparations[i / kLanes];
    const bool is_used = std::isfinite(row[i]);
    const double score =
        is_used ? state.references[i].score(row[i]) : std::numeric_limits<double>::quiet_NaN();
    double y = 0.0;
    if (is_used) {
      const double clipped = std::clamp(score, -preparation.limit[lane], preparation.limit[lane]);
      const double white = std::isnan(lanes.before[lane])
                               ? clipped * preparation.sqrt_whitened[lane]
                               : clipped - preparation.phi[lane] * lanes.before[lane];
      y = (white - preparation.offset[lane]) * preparation.scale[lane];
      lanes.before[lane] = clipped;
    } else {
      lanes.before[lane] = score;
    }
    lanes.score[lane] = score;
    state.inputs[i] = y;
    if (!is_used) continue;
    SignalCharts& charts = state.charts[i];
    for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
      const double input = side == 0 ? y : -y;
      for (std::size_t k = 0; k < BankCharts::kAllowances; ++k) {
        double& sum = charts.level[side][k];
        sum = std::max(0.0, sum + (input - BankCharts::kAllowance[k]));
        alarms |= sum > charts.limit[side][k];
      }
      double& count = charts.level[side][BankCharts::kAllowances];
      count = std::max(0.0, count + (input > charts.cut[side] ? charts.raised[side] - 1.0 : -1.0));
      alarms |= count > charts.limit[side][BankCharts::kAllowances];
    }
  }
  return alarms;
}

// Bytes, because signs of zero count as well; a NaN is as good as another.
template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  const auto* x = reinterpret_cast<const double*>(a.data());
  const auto* y = reinterpret_cast<const double*>(b.data());
  for (std::size_t i = 0; i < a.size() * sizeof(T) / sizeof(double); ++i) {
    const bool is_same = std::isnan(x[i]) ? std::isnan(y[i]) : std::memcmp(x + i, y + i, 8) == 0;
    if (!is_same) return false;
  }
  return a.size() == b.size();
}

}  // namespace

TEST_CASE("every instruction set steps every chart as one number after the other would") {
  for (const BankStep step : available_bank_steps()) {
    for (std::size_t signals = 1; signals <= 9; ++signals) {
      State expected = made(signals);
      State found = made(signals);
      for (std::size_t n = 0; n < 300; ++n) {
        std::vector<double> row = testing::normal_samples(signals, 1000 + n, n > 200 ? 1.0 : 0.0);
        if (n % 7 == 3) row[n % signals] = std::numeric_limits<double>::quiet_NaN();
        if (n % 11 == 5) row[n % signals] = -std::numeric_limits<double>::infinity();
        if (n % 13 == 6) row[n % signals] = 1e300;
        const bool skips =
            std::any_of(row.begin(), row.end(), [](double x) { return !std::isfinite(x); });
        const bool alarms = plain_step(row, expected);
        const BankStepResult result =
            step(row.data(), signals, found.references.data(), found.preparations.data(),
                 found.lanes.data(), found.charts.data(), found.inputs.data());
        REQUIRE(result.any_alarm == alarms);
        REQUIRE(result.any_skipped == skips);
        REQUIRE(same(found.lanes, expected.lanes));
        REQUIRE(same(found.charts, expected.charts));
        REQUIRE(same(found.inputs, expected.inputs));
      }
    }
  }
}

TEST_CASE("each chart alarms by itself, and says so") {
  for (const BankStep step : available_bank_steps()) {
    for (std::size_t side = 0; side < BankCharts::kSides; ++side) {
      for (std::size_t chart = 0; chart < SignalCharts::kCharts; ++chart) {
        State state = made(2);
        state.charts[1].limit[side][chart] = 3.0;
        const double far = side == 0 ? 2.0 : -2.0;
        bool alarms = false;
        for (int n = 0; n < 10; ++n) {
          const std::vector<double> row{0.0, far};
          alarms |= step(row.data(), 2, state.references.data(), state.preparations.data(),
                         state.lanes.data(), state.charts.data(), state.inputs.data())
                        .any_alarm;
        }
        CHECK(alarms);
      }
    }
  }
}
