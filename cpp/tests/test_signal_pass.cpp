#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "selfheal/measure/signal_pass.hpp"

using namespace selfheal;

namespace {

template <typename T>
constexpr ElementType type_of() {
  if constexpr (std::is_same_v<T, std::int8_t>) return ElementType::kInt8;
  if constexpr (std::is_same_v<T, std::uint8_t>) return ElementType::kUint8;
  if constexpr (std::is_same_v<T, std::int16_t>) return ElementType::kInt16;
  return ElementType::kFloat32;
}

template <typename T>
TensorLayout layout_of(std::size_t elements, std::size_t channels = 1, Quantization q = {}) {
  return {type_of<T>(), elements, channels, q};
}

// Often at the limits of the type.
template <typename T>
std::vector<T> draw(std::mt19937& rng, std::size_t n) {
  std::vector<T> values(n);
  for (T& value : values) {
    const auto bits = static_cast<std::uint32_t>(rng());
    if constexpr (std::is_same_v<T, float>) {
      value = static_cast<float>(static_cast<double>(bits) / 4e9 - 0.4);
    } else {
      value = static_cast<T>(bits >> 8U);
      if (bits % 8 == 0) value = std::numeric_limits<T>::min();
      if (bits % 8 == 1) value = std::numeric_limits<T>::max();
    }
  }
  return values;
}

template <typename T>
PassResult measure(SignalPass& pass, const std::vector<T>& input, const std::vector<T>& output,
                   std::vector<double>& row, const void* embedding = nullptr) {
  const void* const inputs[] = {input.data()};
  const void* const outputs[] = {output.data()};
  row.assign(pass.signals(), -1.0);
  return pass.measure(inputs, outputs, embedding, row);
}

double at(const SignalPass& pass, const std::vector<double>& row, SignalRole role) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (pass.names()[i].role == role) return row[i];
  }
  FAIL("no such signal");
  return 0.0;
}

std::vector<std::uint64_t> bits_of(const std::vector<double>& row) {
  std::vector<std::uint64_t> bits(row.size());
  std::memcpy(bits.data(), row.data(), row.size() * sizeof(double));
  return bits;
}

}  // namespace

TEST_CASE_TEMPLATE("every backend gives what the portable one gives, to the bit", T, std::int8_t,
                   std::uint8_t, std::int16_t, float) {
  std::mt19937 rng(1);
  const bool is_float = std::is_same_v<T, float>;
  for (std::size_t n = 1; n < 300; n += n < 70 ? 1 : 17) {
    for (const std::size_t channels : {std::size_t{1}, std::size_t{3}, std::size_t{40}, n}) {
      SignalPlan imitator;
      const Quantization q = is_float ? Quantization{} : Quantization{0.07, 3};
      imitator.inputs = {layout_of<T>(n, channels, q)};
      imitator.outputs = {layout_of<T>(n, 1, q)};
      imitator.reconstructs = true;
      SignalPlan classifier;
      classifier.outputs = {layout_of<T>(n, 1, q)};
      classifier.classifier = OutputKind::kLogits;
      classifier.embedding = layout_of<T>(n, 1, q);
      classifier.classes = n;
      for (std::size_t i = 0; i < n * n; ++i) {
        classifier.centroids.push_back(static_cast<float>(i % 7));
      }
      classifier.precision.assign(n, 0.3F);
      SignalPass expected(imitator, "portable");
      SignalPass expected_classes(classifier, "portable");
      std::vector<SignalPass> passes;
      std::vector<SignalPass> class_passes;
      for (const auto name : SignalPass::backends()) {
        passes.emplace_back(imitator, name);
        class_passes.emplace_back(classifier, name);
      }
      for (int round = 0; round < 3; ++round) {
        const auto input = draw<T>(rng, n);
        const auto output = draw<T>(rng, n);
        std::vector<double> wanted;
        std::vector<double> row;
        measure(expected, input, output, wanted);
        for (SignalPass& pass : passes) {
          measure(pass, input, output, row);
          CHECK(bits_of(row) == bits_of(wanted));
        }
        measure(expected_classes, input, output, wanted, input.data());
        for (SignalPass& pass : class_passes) {
          measure(pass, input, output, row, input.data());
          CHECK(bits_of(row) == bits_of(wanted));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("long tensors at the limits overflow nothing", T, std::int8_t, std::uint8_t,
                   std::int16_t) {
  const std::size_t n = 300001;
  const T low = std::numeric_limits<T>::min();
  const T high = std::numeric_limits<T>::max();
  const double range = static_cast<double>(high) - low;
  SignalPlan plan;
  plan.inputs = {layout_of<T>(n)};
  plan.outputs = {layout_of<T>(n)};
  plan.reconstructs = true;
  for (const auto name : SignalPass::backends()) {
    CAPTURE(std::string(name));
    SignalPass pass(plan, name);
    std::vector<T> input(n, high);
    std::vector<double> row;
    measure(pass, std::vector<T>(n, low), input, row);
    CHECK(at(pass, row, SignalRole::kInputStd) == 0.0);
    CHECK(at(pass, row, SignalRole::kInputMean) == low);
    CHECK(at(pass, row, SignalRole::kInputSaturatedLow) == doctest::Approx(1.0));
    CHECK(at(pass, row, SignalRole::kReconstructionError) == doctest::Approx(range * range));
    CHECK(at(pass, row, SignalRole::kOutputMean) == high);
    for (std::size_t i = 0; i < n; i += 2) input[i] = low;
    measure(pass, input, input, row);
    CHECK(at(pass, row, SignalRole::kInputRoughness) == doctest::Approx(range));
    CHECK(at(pass, row, SignalRole::kInputChange) == doctest::Approx(range / 2).epsilon(1e-5));
    CHECK(at(pass, row, SignalRole::kInputStd) == doctest::Approx(range / 2));
    CHECK(at(pass, row, SignalRole::kInputSaturatedHigh) == doctest::Approx(0.5).epsilon(1e-5));
    CHECK(at(pass, row, SignalRole::kReconstructionError) == 0.0);
  }
}

TEST_CASE("floats of any size and place are measured as doubles measure them") {
  struct Case {
    double mean;
    double spread;
  };
  std::mt19937 rng(3);
  std::normal_distribution<double> normal;
  // Sums of floats do for the first; for the others the mean lies too far off, a product does not
  // fit into a float, or nearly none is above zero.
  constexpr Case kCases[] = {{0.3, 1}, {1000, 1}, {1e6, 0.5}, {0, 1e25}, {1e37, 1e37}, {0, 1e-24}};
  for (const auto& [mean, spread] : kCases) {
    for (const std::size_t n : {3, 16, 333, 4000}) {
      for (const bool is_kept : {false, true}) {
        CAPTURE(mean);
        CAPTURE(n);
        SignalPlan plan;
        plan.inputs = {layout_of<float>(n)};
        plan.outputs = {layout_of<float>(n)};
        plan.embedding = layout_of<float>(n);
        if (!is_kept) plan.recent_bytes = 0;  // compared and overwritten in place
        std::vector<float> first(n);
        std::vector<float> x(n);
        for (float& value : first) value = static_cast<float>(mean + spread * normal(rng));
        for (float& value : x) value = static_cast<float>(mean + spread * normal(rng));
        // Half of the elements lie elsewhere: looking at few cannot tell where the mean is.
        for (std::size_t i = 0; i < n / 2; ++i) x[i] = static_cast<float>(mean - spread);
        long double sum = 0;
        long double change = 0;
        long double rough = 0;
        long double norm = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const long double value = x[i];
          sum += value;
          norm += value * value;
          change += std::fabs(value - first[i]);
          if (i + 1 < n) rough += std::fabs(value - x[i + 1]);
        }
        long double variance = 0;
        for (const float value : x) variance += (value - sum / n) * (value - sum / n);
        const auto near = [](long double value) {
          return doctest::Approx(static_cast<double>(value)).epsilon(3e-6).scale(0.0);
        };
        for (const auto name : SignalPass::backends()) {
          SignalPass pass(plan, name);
          std::vector<double> row;
          measure(pass, first, first, row, first.data());
          measure(pass, x, x, row, x.data());
          CHECK(at(pass, row, SignalRole::kInputStd) == near(std::sqrt(variance / n)));
          CHECK(at(pass, row, SignalRole::kOutputStd) == near(std::sqrt(variance / n)));
          CHECK(std::fabs(at(pass, row, SignalRole::kInputMean) - static_cast<double>(sum / n)) <
                3e-6 * (std::fabs(mean) * 0.01 + spread));
          CHECK(at(pass, row, SignalRole::kInputChange) == near(change / n));
          CHECK(at(pass, row, SignalRole::kInputRoughness) == near(rough / (n - 1)));
          CHECK(at(pass, row, SignalRole::kEmbeddingNorm) == near(std::sqrt(norm)));
        }
      }
    }
  }
}

TEST_CASE("floats that are not finite are counted, and skipped") {
  const float nan = std::nanf("");
  SignalPlan plan;
  plan.inputs = {layout_of<float>(4)};
  plan.outputs = {layout_of<float>(4)};
  plan.reconstructs = true;
  SignalPass pass(plan);
  std::vector<double> row;
  const std::vector<float> finite{0.0F, 5.0F, 1.0F, 0.0F};
  const std::vector<float> broken{nan, 1.0F, 3.0F, HUGE_VALF};
  CHECK(measure(pass, finite, broken, row).nonfinite_outputs == 1);
  CHECK(at(pass, row, SignalRole::kOutputMean) == 2.0);
  CHECK(at(pass, row, SignalRole::kReconstructionError) == 10.0);
  const PassResult result = measure(pass, broken, finite, row);
  CHECK(result.nonfinite == 2);
  CHECK(result.nonfinite_outputs == 0);
  CHECK(at(pass, row, SignalRole::kInputMean) == 2.0);
  CHECK(at(pass, row, SignalRole::kInputStd) == 1.0);
  CHECK(at(pass, row, SignalRole::kInputRoughness) == 2.0);
  CHECK(at(pass, row, SignalRole::kInputChange) == 3.0);
  CHECK_FALSE(measure(pass, broken, finite, row).repeats_previous);
  measure(pass, std::vector<float>(4, nan), finite, row);
  CHECK(std::isnan(at(pass, row, SignalRole::kInputMean)));
  CHECK(std::isnan(at(pass, row, SignalRole::kInputChange)));
  CHECK(std::isnan(at(pass, row, SignalRole::kReconstructionError)));
}

TEST_CASE("repeats are noticed, and forgotten") {
  SignalPlan plan;
  plan.inputs = {layout_of<std::int8_t>(100), std::nullopt, layout_of<std::int8_t>(3)};
  SignalPass pass(plan);
  CHECK(pass.names()[6].tensor == 2);
  const std::vector<std::int8_t> values(100, 1);
  std::vector<std::int8_t> few(3, 1);
  const void* const inputs[] = {values.data(), nullptr, few.data()};
  std::vector<double> row(pass.signals());
  CHECK_FALSE(pass.measure(inputs, {}, nullptr, row).repeats_previous);
  CHECK(std::isnan(at(pass, row, SignalRole::kInputChange)));
  CHECK(pass.measure(inputs, {}, nullptr, row).repeats_previous);
  CHECK(at(pass, row, SignalRole::kInputChange) == 0.0);
  few[2] = 2;
  CHECK_FALSE(pass.measure(inputs, {}, nullptr, row).repeats_previous);
  pass.forget();
  CHECK_FALSE(pass.measure(inputs, {}, nullptr, row).repeats_previous);
  CHECK_FALSE(SignalPass(SignalPlan{}).measure({}, {}, nullptr, {}).repeats_previous);
}

TEST_CASE("what is looked at and not kept leaves no trace") {
  SignalPlan plan;
  plan.inputs = {layout_of<std::int8_t>(70)};
  plan.outputs = {layout_of<std::int8_t>(5)};
  plan.classifier = OutputKind::kLogits;
  plan.embedding = layout_of<std::int8_t>(70);
  SignalPass pass(plan);
  std::mt19937 rng(3);
  const auto first = draw<std::int8_t>(rng, 70);
  const auto other = draw<std::int8_t>(rng, 70);
  const std::vector<std::int8_t> output{1, 5, 2, 3, 4};
  const std::vector<std::int8_t> answer{9, 5, 2, 3, 4};
  std::vector<double> row(pass.signals());
  measure(pass, first, output, row, first.data());
  const void* const inputs[] = {other.data()};
  const void* const outputs[] = {answer.data()};
  for (int i = 0; i < 3; ++i) {
    const PassResult result = pass.look(inputs, outputs, other.data(), row);
    CHECK_FALSE(result.repeats_previous);
    CHECK_FALSE(result.same_answer);
  }
  CHECK(pass.recent() == 1);
  const PassResult again = measure(pass, first, output, row, first.data());
  CHECK(again.repeats_previous);
  CHECK(again.same_answer);
  CHECK(pass.recent() == 2);
  CHECK(pass.recent_inputs() == 2);
  std::vector<std::byte> rows(2 * 70);
  std::vector<std::byte> answers(2 * 5);
  std::vector<std::int64_t> labels(2);
  const std::size_t bytes = first.size();
  pass.copy_recent_input(0, rows);
  CHECK(std::memcmp(rows.data(), first.data(), bytes) == 0);
  CHECK(std::memcmp(rows.data() + bytes, first.data(), bytes) == 0);
  pass.copy_recent_embedding(rows);
  CHECK(std::memcmp(rows.data() + bytes, first.data(), bytes) == 0);
  pass.copy_recent_output(answers);
  CHECK(std::memcmp(answers.data() + 5, output.data(), 5) == 0);
  pass.copy_recent_labels(labels);
  CHECK(labels == std::vector<std::int64_t>{1, 1});
  // Served anew from weights that were healed: the latest row has the answer that was given.
  const void* const same_inputs[] = {first.data()};
  pass.look(same_inputs, outputs, other.data(), row);
  pass.amend();
  CHECK(pass.recent() == 2);
  pass.copy_recent_output(answers);
  CHECK(std::memcmp(answers.data(), output.data(), 5) == 0);
  CHECK(std::memcmp(answers.data() + 5, answer.data(), 5) == 0);
  pass.copy_recent_embedding(rows);
  CHECK(std::memcmp(rows.data(), first.data(), bytes) == 0);
  CHECK(std::memcmp(rows.data() + bytes, other.data(), bytes) == 0);
  pass.copy_recent_labels(labels);
  CHECK(labels == std::vector<std::int64_t>{1, 0});
  CHECK(measure(pass, first, answer, row, first.data()).same_answer);
  pass.forget();
  pass.amend();
  CHECK(pass.recent() == 0);
}

TEST_CASE("classes: probabilities, logits, ties, one class, no answer") {
  SignalPlan plan;
  plan.outputs = {layout_of<float>(3)};
  plan.classifier = OutputKind::kProbabilities;
  SignalPass probabilities(plan);
  plan.classifier = OutputKind::kLogits;
  SignalPass logits(plan);
  std::vector<double> row;
  const std::vector<float> p{0.2F, 0.5F, 0.3F};
  CHECK(measure(probabilities, p, p, row).label == 1);
  CHECK(row[0] == doctest::Approx(0.5));
  CHECK(row[1] == doctest::Approx(0.2));
  CHECK(row[2] == doctest::Approx(1.0296530140645737));
  std::vector<float> scores;
  for (const float x : p) scores.push_back(std::log(x) + 700.0F);
  CHECK(measure(logits, scores, scores, row).confidence == doctest::Approx(0.5).epsilon(1e-3));
  CHECK(row[1] == doctest::Approx(0.2).epsilon(1e-3));
  CHECK(row[2] == doctest::Approx(1.02965).epsilon(1e-3));
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    const std::vector<float> output{0.1F, bad, 0.9F};
    const PassResult result = measure(logits, output, output, row);
    CHECK(result.label == -1);
    CHECK(result.nonfinite_outputs == 1);
    CHECK(std::isnan(result.confidence));
    CHECK(std::isnan(row[2]));
  }
  plan.outputs = {layout_of<std::int8_t>(2, 1, {1.0 / 256, -128})};
  plan.classifier = OutputKind::kProbabilities;
  SignalPass quantised(plan);
  const std::vector<std::int8_t> even{0, 0};
  CHECK(measure(quantised, even, even, row).label == 0);
  CHECK(row[0] == 0.5);
  CHECK(row[1] == 0.0);
  CHECK(row[2] == doctest::Approx(std::log(2.0)));
  const std::vector<std::int8_t> nothing{-128, -128};
  measure(quantised, nothing, nothing, row);
  CHECK(std::isnan(row[2]));
  plan.outputs = {layout_of<std::uint8_t>(1, 1, {1.0 / 256, 0})};
  SignalPass single(plan);
  const std::vector<std::uint8_t> one{200};
  CHECK(measure(single, one, one, row).label == 1);
  CHECK(row[0] == doctest::Approx(200.0 / 256));
  CHECK(row[1] == doctest::Approx(144.0 / 256));
  const std::vector<std::uint8_t> half{128};
  CHECK(measure(single, half, half, row).label == 0);
  CHECK(row[2] == doctest::Approx(std::log(2.0)));
  plan.outputs = {layout_of<float>(1)};
  SignalPass sigmoid(plan);
  const std::vector<float> low{0.1F};
  CHECK(measure(sigmoid, low, low, row).label == 0);
  CHECK(row[0] == doctest::Approx(0.9));
  CHECK(row[1] == doctest::Approx(0.8));
  CHECK(row[2] == doctest::Approx(0.3250829733914482));
  const std::vector<float> broken{std::nanf("")};
  CHECK(measure(sigmoid, broken, broken, row).label == -1);
}

TEST_CASE("signals that are left out shorten the row and change no other") {
  SignalPlan plan;
  plan.inputs = {layout_of<float>(4), layout_of<float>(2)};
  plan.outputs = {layout_of<float>(3)};
  plan.classifier = OutputKind::kProbabilities;
  SignalPass whole(plan);
  plan.left_out = {
      {SignalRole::kInputMean, 1}, {SignalRole::kMargin, 0}, {SignalRole::kOutputStd, 9}};
  SignalPass part(plan);
  REQUIRE(part.signals() == whole.signals() - 2);
  const std::vector<float> a{1.0F, 2.0F, 3.0F, 4.0F};
  const std::vector<float> b{5.0F, 7.0F};
  const std::vector<float> p{0.2F, 0.5F, 0.3F};
  const std::array<const void*, 2> inputs{a.data(), b.data()};
  const std::array<const void*, 1> outputs{p.data()};
  std::vector<double> all(whole.signals());
  std::vector<double> some(part.signals());
  for (int i = 0; i < 2; ++i) {
    CHECK(whole.measure(inputs, outputs, nullptr, all).label == 1);
    CHECK(part.measure(inputs, outputs, nullptr, some).label == 1);
  }
  std::size_t n = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const SignalName name = whole.names()[i];
    if (name == plan.left_out[0] || name == plan.left_out[1]) continue;
    CHECK(part.names()[n] == name);
    CHECK(some[n++] == all[i]);
  }
}

TEST_CASE("embedding: length, active share, distance to the class that is named") {
  SignalPlan plan;
  plan.outputs = {layout_of<float>(2)};
  plan.classifier = OutputKind::kLogits;
  plan.embedding = layout_of<std::int8_t>(2, 1, {0.5, -128});
  plan.classes = 2;
  plan.centroids = {1.0F, 2.0F, std::nanf(""), 0.0F};
  plan.precision = {4.0F, 0.25F};
  SignalPass pass(plan);
  const std::vector<std::int8_t> embedding{-122, -128};  // 3 and 0
  std::vector<double> row;
  const std::vector<float> first{1.0F, 0.0F};
  measure(pass, first, first, row, embedding.data());
  CHECK(at(pass, row, SignalRole::kEmbeddingNorm) == doctest::Approx(3.0));
  CHECK(at(pass, row, SignalRole::kEmbeddingActive) == 0.5);
  CHECK(at(pass, row, SignalRole::kEmbeddingDistance) ==
        doctest::Approx(std::sqrt(4.0 * 4.0 + 0.25 * 4.0)));
  const std::vector<float> second{0.0F, 1.0F};
  measure(pass, second, second, row, embedding.data());
  CHECK(std::isnan(at(pass, row, SignalRole::kEmbeddingDistance)));
}

TEST_CASE("plans that make no sense are refused") {
  const auto refused = [](const SignalPlan& plan) {
    CHECK_THROWS_AS(SignalPass{plan}, std::invalid_argument);
  };
  SignalPlan plan;
  plan.inputs = {layout_of<float>(0)};
  refused(plan);
  plan.inputs = {layout_of<float>(1, 0)};
  refused(plan);
  plan.inputs = {layout_of<float>(1, 1, {0.5, 0})};
  refused(plan);
  plan.inputs = {layout_of<std::int8_t>(1, 1, {0.0, 0})};
  refused(plan);
  plan.inputs = {layout_of<std::int8_t>(1, 1, {0.5, 32769})};
  refused(plan);
  plan.inputs = {layout_of<std::int8_t>(3)};
  plan.reconstructs = true;
  refused(plan);
  plan.outputs = {layout_of<std::int8_t>(4)};
  refused(plan);
  plan.reconstructs = false;
  plan.embedding = layout_of<float>(2);
  plan.centroids = {1.0F};
  refused(plan);
  plan.classifier = OutputKind::kLogits;
  refused(plan);
  plan.classes = 4;
  refused(plan);
  plan.centroids.assign(8, 0.0F);
  refused(plan);
  plan.precision = {1.0F, -1.0F};
  refused(plan);
  plan.precision = {1.0F, 1.0F};
  SignalPass{plan};
  CHECK_THROWS_AS(SignalPass(plan, "mmx"), std::invalid_argument);
}
