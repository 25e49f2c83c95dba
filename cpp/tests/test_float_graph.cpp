#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "counting_new.hpp"
#include "selfheal/learn/float_graph.hpp"

using namespace selfheal;
using testing::allocations_in;
using testing::bytes_held_by;

namespace {

constexpr std::size_t kMost = std::size_t{1} << 20;
using Kind = FloatGraph::Kind;
using Layer = FloatGraph::Layer;

struct Net {
  std::vector<Layer> layers;
  std::vector<float> weights;
  std::vector<float> biases;
  FloatGraph graph(std::size_t most = kMost) const { return {layers, weights, biases, most}; }
};

Layer layer(Kind kind, std::uint32_t input, std::vector<std::uint32_t> in,
            std::vector<std::uint32_t> out, std::uint32_t kernel, std::uint32_t stride,
            std::uint32_t pad, float lowest, float highest, bool learns = true) {
  Layer made;
  made.kind = kind;
  made.learns_weights = learns && kind <= Kind::kDepthwise;
  made.input = input;
  made.in_height = in[0];
  made.in_width = in[1];
  made.in_channels = in[2];
  made.out_height = out[0];
  made.out_width = out[1];
  made.out_channels = out[2];
  made.kernel_height = made.kernel_width = kernel;
  made.stride_height = made.stride_width = stride;
  made.pad_top = made.pad_left = pad;
  made.lowest = lowest;
  made.highest = highest;
  return made;
}

// Every kind of layer: convolution, depthwise, sum, both pools, dense.
Net net(unsigned seed) {
  Net made;
  constexpr float kFar = 3e38F;
  made.layers = {
      layer(Kind::kConvolution, 0, {5, 5, 2}, {5, 5, 3}, 3, 1, 1, 0.0F, 6.0F),
      layer(Kind::kDepthwise, 1, {5, 5, 3}, {5, 5, 3}, 3, 1, 1, -2.0F, 2.0F),
      layer(Kind::kAdd, 1, {5, 5, 3}, {5, 5, 3}, 1, 1, 0, -kFar, kFar),
      layer(Kind::kMaxPool, 3, {5, 5, 3}, {3, 3, 3}, 2, 2, 0, -kFar, kFar),
      layer(Kind::kAveragePool, 4, {3, 3, 3}, {2, 2, 3}, 3, 2, 1, -kFar, kFar),
      layer(Kind::kConvolution, 5, {1, 1, 12}, {1, 1, 4}, 1, 1, 0, -kFar, kFar),
  };
  made.layers[2].other = 2;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 54 + 27 + 48; ++i) made.weights.push_back(0.5F * normal(random));
  for (int i = 0; i < 3 + 3 + 4; ++i) made.biases.push_back(0.3F * normal(random));
  return made;
}

struct Batch {
  std::vector<float> inputs, targets, weights;
};

Batch batch(std::size_t samples, unsigned seed) {
  Batch made;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < samples; ++i) {
    for (int k = 0; k < 50; ++k) made.inputs.push_back(normal(random));
    for (std::size_t c = 0; c < 4; ++c) made.targets.push_back(c == i % 4 ? 0.7F : 0.1F);
    made.weights.push_back(0.5F + static_cast<float>(i));
  }
  return made;
}

}  // namespace

TEST_CASE("the gradient is that of finite differences, for every kind of layer") {
  for (const unsigned seed : {1U, 2U, 3U}) {
    FloatGraph graph = net(seed).graph();
    const Batch some = batch(3, seed + 10);
    std::vector<float> at(graph.parameters().begin(), graph.parameters().end());
    graph.learn(some.inputs, some.targets, some.weights);
    const std::vector<float> gradient(graph.gradient().begin(), graph.gradient().end());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < at.size(); ++i) {
      constexpr float kStep = 3e-4F;
      std::vector<float> moved = at;
      moved[i] = at[i] + kStep;
      graph.set_parameters(moved);
      const double above = graph.learn(some.inputs, some.targets, some.weights);
      moved[i] = at[i] - kStep;
      graph.set_parameters(moved);
      const double below = graph.learn(some.inputs, some.targets, some.weights);
      const double slope = (above - below) / (2.0 * double{kStep});
      // A clipped or a largest value may change sides within the step.
      if (std::fabs(slope - double{gradient[i]}) > 4e-3 + 0.02 * std::fabs(slope)) {
        ++wrong;
        MESSAGE(i << " " << slope << " " << gradient[i]);
      }
    }
    CHECK(wrong <= at.size() / 40);
  }
}

TEST_CASE("steps lower the loss, the same way each time, and nothing is allocated") {
  FloatGraph graph = net(4).graph();
  const std::vector<float> start(graph.parameters().begin(), graph.parameters().end());
  const Batch some = batch(8, 5);
  std::vector<float> first;
  for (int time = 0; time < 2; ++time) {
    graph.set_parameters(start);
    const double before = graph.step(some.inputs, some.targets, some.weights, 0.01);
    CHECK(allocations_in([&] {
            for (int i = 0; i < 50; ++i) {
              graph.step(some.inputs, some.targets, some.weights, 0.01);
            }
          }) == 0);
    CHECK(graph.learn(some.inputs, some.targets, some.weights) < 0.9 * before);
    const std::vector<float> now(graph.parameters().begin(), graph.parameters().end());
    if (time == 1) CHECK(now == first);
    first = now;
  }
}

TEST_CASE("a rate of 0 keeps a number, and one of 1 moves it by little more than the steps") {
  FloatGraph graph = net(6).graph();
  std::vector<float> rates(graph.parameters().size(), 0.0F);
  rates[1] = 1.0F;
  graph.set_rates(rates);
  const std::vector<float> start(graph.parameters().begin(), graph.parameters().end());
  const Batch some = batch(4, 7);
  for (int i = 0; i < 10; ++i) graph.step(some.inputs, some.targets, some.weights, 0.01);
  for (std::size_t i = 0; i < start.size(); ++i) {
    if (i != 1) CHECK(graph.parameters()[i] == start[i]);
  }
  CHECK(graph.parameters()[1] != start[1]);
  CHECK(std::fabs(graph.parameters()[1] - start[1]) < 0.2F);
}

TEST_CASE("samples without weight teach nothing; what is no number is left out") {
  FloatGraph graph = net(8).graph();
  Batch some = batch(2, 9);
  some.weights = {0.0F, 0.0F};
  CHECK(graph.learn(some.inputs, some.targets, some.weights) == 0.0);
  some.weights = {1.0F, 1.0F};
  some.inputs[3] = NAN;
  graph.step(some.inputs, some.targets, some.weights, 0.01);
  for (const float number : graph.parameters()) CHECK(std::isfinite(number));
}

TEST_CASE("what does not fit is refused") {
  const Net good = net(10);
  CHECK_THROWS_AS(good.graph(1000), std::invalid_argument);
  for (int kind = 0; kind < 7; ++kind) {
    Net bad = good;
    switch (kind) {
      case 0:
        bad.layers.clear();
        break;
      case 1:
        bad.layers[1].input = 5;
        break;
      case 2:
        bad.layers[0].in_channels = 1;
        break;
      case 3:
        bad.layers[5].lowest = NAN;
        break;
      case 4:
        bad.weights.pop_back();
        break;
      case 5:
        bad.biases[0] = INFINITY;
        break;
      default:
        bad.layers[0].kernel_width = 0;
        break;
    }
    CAPTURE(kind);
    CHECK_THROWS_AS(bad.graph(), std::invalid_argument);
  }
  FloatGraph graph = good.graph();
  const Batch some = batch(2, 11);
  std::vector<float> few(3, 1.0F);
  CHECK_THROWS_AS(graph.step(few, some.targets, some.weights, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(graph.step(some.inputs, few, some.weights, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(graph.step(some.inputs, some.targets, some.weights, -1.0), std::invalid_argument);
  CHECK_THROWS_AS(graph.set_parameters(few), std::invalid_argument);
  CHECK_THROWS_AS(graph.set_rates(few), std::invalid_argument);
}

TEST_CASE("memory is what was said") {
  const Net made = net(12);
  std::vector<FloatGraph> held;
  held.reserve(1);
  const std::size_t bytes = bytes_held_by([&] { held.push_back(made.graph()); });
  CHECK(held.front().memory_bytes() <= bytes + sizeof(FloatGraph) + 64);
  CHECK(held.front().memory_bytes() + 256 >= bytes);
}
