#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

#include "counting_new.hpp"
#include "selfheal/learn/softmax_head.hpp"

using namespace selfheal;
using testing::allocations_in;
using testing::bytes_held_by;

namespace {

struct Task {
  std::size_t samples, dimensions, classes;
  std::vector<float> embeddings;
  std::vector<double> mean, spread, logits, weights;
  std::vector<std::int64_t> labels;
};

Task task(std::size_t samples, std::size_t dimensions, std::size_t classes, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0.2, 2.0);
  Task made{samples, dimensions, classes, {}, {}, {}, {}, {}, {}};
  for (std::size_t j = 0; j < dimensions; ++j) {
    made.mean.push_back(normal(random));
    made.spread.push_back(uniform(random));
  }
  for (std::size_t i = 0; i < samples; ++i) {
    for (std::size_t j = 0; j < dimensions; ++j) {
      made.embeddings.push_back(static_cast<float>(made.mean[j] + made.spread[j] * normal(random)));
    }
    for (std::size_t c = 0; c < classes; ++c) made.logits.push_back(2.0 * normal(random));
    made.labels.push_back(static_cast<std::int64_t>(random() % classes));
    made.weights.push_back(uniform(random));
  }
  return made;
}

void load(SoftmaxHead& head, const Task& task) {
  head.load(task.embeddings, task.mean, task.spread, task.logits);
  head.aim(task.labels, task.weights, 1e3);
}

// The gradient of the objective at the change that was found, from its definition: its length over
// the pull bounds how far the optimum is.
double distance_bound(const Task& task, const SoftmaxHead& head, double pull) {
  const std::size_t d = task.dimensions;
  const std::size_t n = task.classes;
  std::vector<double> weights(n * d);
  std::vector<double> bias(n);
  head.change(weights, bias);
  std::vector<double> change(n * (d + 1));  // in units of the spread
  for (std::size_t c = 0; c < n; ++c) {
    change[c * (d + 1) + d] = bias[c];
    for (std::size_t j = 0; j < d; ++j) {
      change[c * (d + 1) + j] = weights[c * d + j] * task.spread[j];
      change[c * (d + 1) + d] += weights[c * d + j] * task.mean[j];
    }
  }
  std::vector<double> gradient = change;
  for (double& value : gradient) value *= pull;
  for (std::size_t i = 0; i < task.samples; ++i) {
    std::vector<double> u(d + 1, 1.0);
    for (std::size_t j = 0; j < d; ++j) {
      u[j] = (double{task.embeddings[i * d + j]} - task.mean[j]) / task.spread[j];
    }
    std::vector<double> odds(n);
    double sum = 0.0;
    for (std::size_t c = 0; c < n; ++c) {
      double z = task.logits[i * n + c];
      for (std::size_t j = 0; j <= d; ++j) z += change[c * (d + 1) + j] * u[j];
      sum += odds[c] = std::exp(z);
    }
    for (std::size_t c = 0; c < n; ++c) {
      const double off = odds[c] / sum - (task.labels[i] == static_cast<std::int64_t>(c));
      for (std::size_t j = 0; j <= d; ++j) {
        gradient[c * (d + 1) + j] += task.weights[i] * off * u[j];
      }
    }
  }
  double square = 0.0;
  for (const double value : gradient) square += value * value;
  return std::sqrt(square) / pull;
}

}  // namespace

TEST_CASE("what is found is the optimum, with more samples than dimensions and with fewer") {
  unsigned seed = 1;
  for (const auto& [samples, dimensions, classes] : {std::array<std::size_t, 3>{40, 6, 3},
                                                     {7, 8, 4},
                                                     {8, 7, 2},
                                                     {9, 8, 5},
                                                     {1, 3, 2},
                                                     {64, 30, 12}}) {
    for (const double pull : {0.1, 1.0, 30.0}) {
      const Task given = task(samples, dimensions, classes, ++seed);
      SoftmaxHead head(classes, dimensions, 64);
      load(head, given);
      const auto outcome = head.fit(pull, {5000, 1e-6});
      CAPTURE(samples);
      CAPTURE(pull);
      CHECK(outcome.is_converged);
      CHECK(distance_bound(given, head, pull) <= 2e-5 * (1.0 + outcome.change));
    }
  }
}

TEST_CASE("a fit that goes on from another finds the same") {
  const Task given = task(50, 10, 4, 7);
  SoftmaxHead head(4, 10, 50);
  load(head, given);
  (void)head.fit(30.0);
  const auto outcome = head.fit(1.0, {5000, 1e-6}, true);
  CHECK(outcome.is_converged);
  CHECK(distance_bound(given, head, 1.0) <= 2e-5 * (1.0 + outcome.change));
}

TEST_CASE("an effort that runs out leaves something on the way, and says so") {
  const Task given = task(60, 20, 6, 3);
  SoftmaxHead head(6, 20, 60);
  load(head, given);
  double before = std::numeric_limits<double>::infinity();
  const double pull = 0.5;
  for (const std::uint32_t most : {1U, 4U, 8U, 16U, 400U}) {
    const auto outcome = head.fit(pull, {most, 1e-6});
    CHECK(outcome.products <= most);
    CHECK(outcome.is_converged == (most == 400U));
    const double objective = outcome.loss + 0.5 * pull * outcome.change * outcome.change;
    CHECK(objective <= before);
    before = objective;
  }
}

TEST_CASE("nothing allocates after construction, whatever is learned") {
  const Task small = task(5, 12, 3, 4);
  const Task large = task(32, 12, 3, 5);
  std::unique_ptr<SoftmaxHead> head;
  const std::size_t held = bytes_held_by([&] { head = std::make_unique<SoftmaxHead>(3, 12, 32); });
  CHECK(held == head->memory_bytes());
  std::vector<double> weights(36);
  std::vector<double> bias(3);
  std::vector<double> logits(96);
  CHECK(allocations_in([&] {
          for (const Task* given : {&small, &large, &small}) {
            load(*head, *given);
            for (const double pull : {30.0, 1.0, 0.01}) (void)head->fit(pull);
            head->change(weights, bias);
            head->logits(std::span(logits).first(given->samples * 3));
          }
        }) == 0);
}

TEST_CASE("what cannot be is refused by name, and leaves no samples") {
  CHECK_THROWS_WITH_AS(SoftmaxHead(1, 2, 3), "classes: expected 2 or more, got 1",
                       std::invalid_argument);
  CHECK_THROWS_AS(SoftmaxHead(2, 0, 3), std::invalid_argument);
  CHECK_THROWS_AS(SoftmaxHead(2, 2, 0), std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      SoftmaxHead(1000, 1280, 512, 1 << 20),
      "max_bytes: expected at least 44632064 for 1000 classes, 1280 dimensions and 512 samples, "
      "got 1048576",
      std::invalid_argument);
  const auto most = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_AS(SoftmaxHead(most, most, most, most), std::invalid_argument);
  Task given = task(4, 2, 3, 1);
  SoftmaxHead head(3, 2, 4);
  load(head, given);
  CHECK(head.samples() == 4);
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e300}) {
    Task broken = given;
    broken.logits[3] = bad;
    CHECK_THROWS_AS(load(head, broken), std::invalid_argument);
    CHECK(head.samples() == 0);
    load(head, given);
    broken = given;
    broken.embeddings[3] = static_cast<float>(bad);
    CHECK_THROWS_AS(load(head, broken), std::invalid_argument);
    load(head, given);
    for (const double wrong : {bad, -bad}) {
      broken = given;
      broken.weights[1] = wrong;
      CHECK_THROWS_AS(load(head, broken), std::invalid_argument);
      load(head, given);
    }
  }
  given.labels[0] = 3;
  CHECK_THROWS_WITH_AS(load(head, given), "labels: expected classes from 0 to 2, got 3",
                       std::invalid_argument);
  CHECK(head.fit(1.0).change == 0.0);  // nothing is aimed at
  given.labels[0] = -1;
  CHECK_THROWS_AS(load(head, given), std::invalid_argument);
  CHECK_THROWS_AS(head.fit(0.0), std::invalid_argument);
  CHECK_THROWS_AS(head.fit(-1.0), std::invalid_argument);
  CHECK_THROWS_AS(head.fit(std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
  CHECK_THROWS_AS(head.fit(1.0, {0, 0.1}), std::invalid_argument);
  CHECK_THROWS_AS(head.fit(1.0, {1, 0.0}), std::invalid_argument);
}
