#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "samples.hpp"
#include "selfheal/detect/onset_tracker.hpp"

using namespace selfheal;

namespace {

constexpr double kCertain = std::numeric_limits<double>::infinity();

std::vector<std::byte> written(const OnsetTracker& tracker) {
  StateWriter writer(state_tag("ONST"), 2);
  tracker.write(writer);
  return std::move(writer).finish();
}

OnsetTracker pushed(const std::vector<double>& samples, std::uint64_t first = 0) {
  OnsetTracker tracker;
  tracker.restart(first);
  for (std::size_t i = 0; i < samples.size(); ++i) tracker.push(samples[i], first + i);
  return tracker;
}

std::vector<double> shifted_samples(std::size_t before, std::size_t since, double shift,
                                    std::uint64_t seed) {
  auto samples = testing::normal_samples(before + since, seed);
  for (std::size_t i = before; i < samples.size(); ++i) samples[i] += shift;
  return samples;
}

// The likelihood ratio of a start after `before` samples, from all of them.
double slow_ratio(const std::vector<double>& samples, std::size_t before, double known,
                  double& shift) {
  double earlier = 0.0;
  double later = 0.0;
  for (std::size_t i = 0; i < samples.size(); ++i) (i < before ? earlier : later) += samples[i];
  const auto since = static_cast<double>(samples.size() - before);
  const double others = static_cast<double>(before) + known;
  shift = later / since - earlier / others;
  return 0.5 * shift * shift * since / (1.0 + since / others);
}

}  // namespace

TEST_CASE("while every start is remembered, the answer is that of all samples") {
  // Of counts up to 8, every one is on a level with room for it.
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const std::size_t n = 1 + seed % 8;
    const auto samples = testing::normal_samples(n, seed, seed % 3 == 0 ? 1.0 : 0.0);
    for (const double known : {kCertain, 50.0}) {
      for (const int direction : {1, -1, 0}) {
        double best = 0.0;
        double best_shift = 0.0;
        std::int64_t estimate = -1;
        for (std::size_t before = 0; before < n; ++before) {
          double shift = 0.0;
          const double ratio = slow_ratio(samples, before, known, shift);
          if (direction * shift < 0.0 || ratio <= best) continue;
          best = ratio;
          best_shift = shift;
          estimate = static_cast<std::int64_t>(before);
        }
        const Onset onset = pushed(samples).since_standard(direction, known);
        REQUIRE(onset.estimate == estimate);
        REQUIRE(onset.shift == doctest::Approx(best_shift));
        REQUIRE(onset.earliest <= onset.estimate);
        REQUIRE(onset.ago(n) == (estimate < 0 ? 0 : n - static_cast<std::size_t>(estimate)));
      }
    }
  }
}

TEST_CASE("a change m samples ago is known to within m / 8, however long ago") {
  for (const std::size_t since : {10U, 100U, 1000U, 30000U, 200000U}) {
    const std::size_t before = 100000;
    std::vector<double> samples(before + since, 0.0);
    std::fill(samples.begin() + static_cast<std::ptrdiff_t>(before), samples.end(), 1.0);
    const Onset onset = pushed(samples).since_standard(1);
    const auto error = static_cast<double>(onset.estimate) - static_cast<double>(before);
    CHECK(std::fabs(error) <= static_cast<double>(since) / 8.0);
    CHECK(onset.earliest <= static_cast<std::int64_t>(before));
    CHECK_FALSE(onset.since_start);
    CHECK(onset.shift > 0.85);
    CHECK(onset.shift <= 1.0);
    CHECK(pushed(samples).since_standard(-1).estimate == -1);
  }
}

TEST_CASE("the bound lies before the true start as often as it says") {
  constexpr int kRuns = 400;
  int bounded = 0;
  for (std::uint64_t run = 0; run < kRuns; ++run) {
    const auto samples = shifted_samples(2000, 150, 0.5, run + 1);
    const Onset onset = pushed(samples).since_standard(1);
    if (onset.since_start || onset.earliest <= 2000) ++bounded;
  }
  CHECK(bounded >= kRuns * 93 / 100);
}

TEST_CASE("samples that shifted from the first one: no later than the restart") {
  const auto samples = shifted_samples(0, 400, 1.0, 3);
  const Onset onset = pushed(samples, 1000).since_standard(1);
  CHECK(onset.since_start);
  CHECK(onset.earliest == 1000);
}

TEST_CASE("mean and variance unknown: the start, and the shift in standard deviations") {
  auto samples = shifted_samples(600, 300, 2.0, 5);
  for (double& x : samples) x = 40.0 + 3.0 * x;
  OnsetTracker tracker;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    tracker.push_unknown(samples[i] - samples[0], i);
  }
  const Onset onset = tracker.since_unknown(0);
  CHECK(std::abs(onset.estimate - 600) < 40);
  CHECK(onset.earliest <= 600);
  CHECK(onset.shift == doctest::Approx(2.0).epsilon(0.15));
  CHECK(tracker.since_unknown(1).estimate == onset.estimate);
  CHECK(OnsetTracker().since_unknown(0).estimate == -1);
}

TEST_CASE("every way of taking many samples leaves what one by one leaves, to the bit") {
  constexpr std::size_t kStride = OnsetTracker::kStride;
  std::vector<double> samples(64 * kStride);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<double>(i * 7919 % 257) - 128.0;  // whole numbers: sums are exact
  }
  for (const std::size_t before : {0U, 16U, 48U, 5U, 13U}) {
    CAPTURE(before);
    OnsetTracker expected;
    for (std::size_t i = 0; i < before; ++i) expected.push(samples[i], i);
    const OnsetTracker begun = expected;
    const std::span rest = std::span(samples).subspan(before);
    const std::size_t strides = rest.size() / kStride;
    const std::size_t count = strides * kStride;
    for (std::size_t i = 0; i < count; ++i) expected.push(rest[i], before + i);
    std::vector<double> sums(count);
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) sums[i] = sum += rest[i];
    const auto refill = [&](OnsetTracker& tracker) {
      const std::size_t reach = std::min(count, OnsetTracker::kFineReach);
      tracker.refill([&](std::size_t i) { return rest[count - reach + i]; }, reach,
                     before + count - 1);
    };

    OnsetTracker ring = begun;
    for (std::size_t stride = 0; stride < strides; ++stride) {
      std::array<double, 3 * kStride> held{};  // a row of three signals
      for (std::size_t i = 0; i < kStride; ++i) {
        const std::size_t index = before + stride * kStride + i;
        held[index % kStride * 3] = samples[index];
      }
      ring.push_ring(held.data(), 3, before + stride * kStride);
    }
    CHECK(written(ring) == written(expected));

    OnsetTracker run = begun;
    run.push_run([&](std::size_t i) { return sums[i]; }, count, before);
    refill(run);
    CHECK(written(run) == written(expected));

    OnsetTracker coarse = begun;
    for (std::size_t i = 0; i < count; ++i) coarse.push_coarse(rest[i], before + i);
    refill(coarse);
    CHECK(written(coarse) == written(expected));

    if (before % kStride != 0) continue;  // the others begin with a whole stride
    OnsetTracker one = begun;
    for (std::size_t i = 0; i < strides; ++i) {
      const double last = i == 0 ? 0.0 : sums[i * kStride - 1];
      one.push_stride(sums[(i + 1) * kStride - 1] - last, before + (i + 1) * kStride - 1);
    }
    refill(one);
    CHECK(written(one) == written(expected));

    constexpr std::size_t kEight = 8;
    OnsetTracker eight = begun;
    OnsetTracker until = begun;
    const std::size_t rounds = strides / kEight;
    for (std::size_t i = 0; i < rounds * kEight * kStride; ++i) until.push(rest[i], before + i);
    for (std::size_t round = 0; round < rounds; ++round) {
      std::array<double, kEight> ends{};
      double so_far = 0.0;
      for (std::size_t i = 0; i < kEight * kStride; ++i) {
        so_far += rest[round * kEight * kStride + i];
        if ((i + 1) % kStride == 0) ends[i / kStride] = so_far;
      }
      eight.push_strides<kEight>(ends.data(), before + round * kEight * kStride);
    }
    const std::size_t reach = OnsetTracker::kFineReach;
    const std::size_t taken = rounds * kEight * kStride;
    eight.refill([&](std::size_t i) { return rest[taken - reach + i]; }, reach, before + taken - 1);
    CHECK(written(eight) == written(until));
  }
}

TEST_CASE("skipped samples leave a gap in the indices, and nothing else") {
  std::vector<double> samples(300, 0.0);
  std::fill(samples.begin() + 200, samples.end(), 1.0);
  const Onset plain = pushed(samples).since_standard(1);
  OnsetTracker gapped;
  for (std::size_t i = 0; i < samples.size(); ++i) gapped.push(samples[i], i < 100 ? i : i + 50);
  const Onset onset = gapped.since_standard(1);
  CHECK(onset.estimate == plain.estimate + 50);
  CHECK(onset.shift == plain.shift);
}

TEST_CASE("a restart forgets, and a state continues") {
  OnsetTracker tracker = pushed(shifted_samples(500, 100, 1.0, 2));
  tracker.restart(900);
  CHECK(tracker.count() == 0);
  CHECK(tracker.sum() == 0.0);
  CHECK(tracker.since_standard(0).estimate == -1);
  const auto samples = shifted_samples(50, 70, 1.0, 4);
  for (std::size_t i = 0; i < samples.size(); ++i) tracker.push(samples[i], 900 + i);
  CHECK(written(tracker) == written(pushed(samples, 900)));

  const auto blob = written(tracker);
  StateReader reader(blob, state_tag("ONST"), 2);
  OnsetTracker copy;
  copy.read(reader);
  reader.finish();
  CHECK(written(copy) == blob);
  for (OnsetTracker* one : {&tracker, &copy}) one->push(0.5, 900 + samples.size());
  CHECK(written(copy) == written(tracker));
  CHECK(copy.since_standard(1).earliest == tracker.since_standard(1).earliest);
}
