#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "counting_new.hpp"
#include "samples.hpp"
#include "selfheal/base/crc32c.hpp"
#include "selfheal/base/moments.hpp"
#include "selfheal/base/ring_buffer.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ddm.hpp"
#include "selfheal/detect/eddm.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/hddm_a.hpp"
#include "selfheal/detect/hddm_w.hpp"
#include "selfheal/detect/kswin.hpp"
#include "selfheal/detect/monitor_bank.hpp"
#include "selfheal/detect/page_hinkley.hpp"
#include "selfheal/detect/page_hinkley_compat.hpp"
#include "selfheal/detect/reference.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/image_set.hpp"
#include "selfheal/guard/snapshot_pool.hpp"
#include "selfheal/measure/signal_pass.hpp"

using namespace selfheal;
using testing::allocations_in;
using testing::bytes_held_by;

TEST_CASE("the trap works") {
  CHECK(allocations_in([] {
          std::vector<int> v(1000);
          v[0] = 1;
          CHECK(v.size() == 1000);
        }) > 0);
}

TEST_CASE("the trap sees what needs more alignment than usual") {
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::unique_ptr<Line> one;
  std::vector<Line> three;
  CHECK(allocations_in([&] { one = std::make_unique<Line>(); }) == 1);
  CHECK(allocations_in([&] { three.resize(3); }) == 1);
  CHECK(one != nullptr);
  CHECK(three.size() == 3);
}

TEST_CASE("a bank says how many bytes it holds") {
  for (const std::size_t signals : {1, 3, 4, 17}) {
    for (const std::size_t regimes : {1, 2}) {
      std::unique_ptr<MonitorBank> bank;
      const std::vector<std::vector<Reference>> references(
          regimes, std::vector<Reference>(signals, Reference::normal(0.0, 1.0)));
      const std::size_t held =
          bytes_held_by([&] { bank = std::make_unique<MonitorBank>(references, 1e4); });
      CHECK(bank->memory_bytes() == held);
    }
  }
}

TEST_CASE("no class allocates in its loop") {
  const auto samples = testing::normal_samples(3000, 1);
  const std::span<const double> view(samples);
  auto live = testing::random_bytes(10000, 2);
  std::vector<double> scores(samples.size());
  std::vector<std::uint32_t> found(64);
  std::vector<Generation> generations(16);
  std::vector<std::int8_t> tensor(1000, 3);
  std::vector<float> logits(1000, 0.5F);
  SignalPlan classifier;
  classifier.inputs = {TensorLayout{ElementType::kInt8, 1000, 3, {0.1, 3}}};
  classifier.outputs = {TensorLayout{ElementType::kFloat32, 10, 1, {}}};
  classifier.classifier = OutputKind::kLogits;
  classifier.embedding = TensorLayout{ElementType::kInt8, 20, 1, {0.1, 3}};
  classifier.classes = 10;
  classifier.centroids.assign(200, 1.0F);
  classifier.precision.assign(20, 1.0F);
  SignalPlan imitator;
  imitator.inputs = classifier.inputs;
  imitator.outputs = {TensorLayout{ElementType::kFloat32, 1000, 1, {}}};
  imitator.reconstructs = true;
  std::vector<SignalPass> passes;
  passes.emplace_back(classifier);
  passes.emplace_back(imitator);
  const void* const inputs[] = {tensor.data()};
  const void* const outputs[] = {logits.data()};

  RingBuffer<double> ring(100, 3);
  Moments running;
  Moments windowed(100);
  Cusum cusum(0, 1, 0.5, 2);
  PageHinkley page_hinkley(0, 1, 0.5, 2);
  const Reference reference(view);
  WeightImage image(live, {{"a", "m", 0, 1000}, {"b", "m", 900, 9100}});
  SnapshotPool pool(image, 20, 4);
  Parity parity(image, 16, 2);
  ImageGuard guard(image, &pool, &parity, 7);
  const std::array<ImageGuard*, 1> guards{&guard};
  ImageSet set(guards);
  const auto patch = testing::random_bytes(3000, 8);
  const std::array<ImageChange, 1> changes{{{0, 90, patch}}};
  const std::array<ImageRange, 1> ranges{{{0, 90, 3000}}};
  std::vector<Finding> findings(8);

  std::vector<std::byte> rows(2 * tensor.size());
  std::vector<std::int64_t> labels(2);

  std::size_t alarms = 0;
  std::size_t stored = 0;
  std::size_t patched = 0;
  std::size_t healed = 0;
  const std::size_t count = allocations_in([&] {
    ring.push_many(view);
    ring.push(view.first(3));
    ring.clear();
    for (const double x : samples) {
      running.update(x);
      windowed.update(x);
      cusum.update(x);
      page_hinkley.update(x);
      scores[0] += reference.score(x) + windowed.std() + cusum.magnitude();
    }
    cusum.update_many(view, [&](std::size_t) { ++alarms; });
    page_hinkley.update_many(view, [&](std::size_t) { ++alarms; });
    reference.score_many(view, std::span<double>(scores));
    cusum.reset();
    windowed.reset();
    for (SignalPass& pass : passes) {
      pass.measure(inputs, outputs, tensor.data(), scores);
      pass.look(inputs, outputs, tensor.data(), scores);
      pass.keep();
      pass.copy_recent_input(0, rows);
      pass.copy_recent_labels(labels);
      pass.forget();
    }
    scores[0] += static_cast<double>(crc32c(live));
    set_crc32c_backend("portable");
    set_crc32c_backend(crc32c_backends().front());
    live[700] ^= std::byte{1};
    image.check(0, 100, found);
    image.regions_of_block(1, found);
    live[700] ^= std::byte{1};
    image.write(513, std::span(live).subspan(0, 2));
    image.table_ok();
    for (int i = 0; i < 40; ++i) healed += guard.look(1024, findings);
    guard.verify(true, findings);
    const auto taken = pool.take();
    pool.pin(taken.generation);
    live[5000] ^= std::byte{1};
    pool.restore(taken.generation, 0, 100, found);
    pool.verify(taken.generation, found, &stored);
    pool.changed_blocks(taken.generation, found, &stored);
    pool.generations(generations);
    pool.unpin(taken.generation);
    pool.drop(taken.generation);
    pool.take();
    live[600] ^= std::byte{1};
    testing::flip_keeping_crc(std::span(live).subspan(1024, 512), 9);
    for (int i = 0; i < 40; ++i) healed += guard.step(2048, 2048, findings);
    guard.restore(0, 100, 5000);
    guard.write(100, std::as_bytes(std::span(scores)).first(3000));
    parity.stored_bytes()[7] ^= std::byte{1};
    healed += guard.sweep(findings);
    patched += set.patch(changes).status == SnapshotStatus::kOk ? 1 : 0;
    patched += set.restore(0, ranges).rewritten;
    set.activate(0);
    patched += set.take().status == SnapshotStatus::kOk ? 1 : 0;
  });
  CHECK(count == 0);
  CHECK(healed == 3);
  CHECK(alarms > 0);
  CHECK(stored == 1);
  CHECK(patched == 2 + 7);
}

namespace {

template <typename Detector>
void exercise(Detector& detector, std::span<const double> samples, double& sum) {
  for (const double x : samples) {
    detector.update(x);
    if (detector.drift_detected()) sum += detector.magnitude() + detector.direction();
  }
  detector.update_many(samples, [&](std::size_t i) { sum += static_cast<double>(i); });
  sum += detector.statistic() + static_cast<double>(detector.onset() + detector.onset_earliest());
  detector.reset();
}

}  // namespace

TEST_CASE("no detector allocates in its loop") {
  auto samples = testing::normal_samples(3000, 4);
  for (std::size_t i = 1000; i < 2000; ++i) samples[i] += 3.0;
  const std::span<const double> view(samples);
  std::vector<double> errors;
  for (const double x : samples) errors.push_back(x > 1.5 ? 1.0 : 0.0);
  Cusum cusum(0, 1, 0.5, 8);
  Ewma ewma(0, 1, 0.1, 2.8);
  Adwin adwin;
  Kswin kswin;
  RiverPageHinkley river;
  FrourosChart frouros(FrourosChart::Kind::kCusum);
  Ddm ddm;
  Eddm eddm;
  HddmA hddm_a;
  HddmW hddm_w;
  const Reference reference(view.first(1000));
  MonitorBank bank({{reference, reference}, {reference, reference}}, 1e4);
  double sum = 0.0;
  const std::size_t count = allocations_in([&] {
    exercise(cusum, view, sum);
    exercise(ewma, view, sum);
    exercise(adwin, view, sum);
    exercise(kswin, view, sum);
    exercise(river, view, sum);
    exercise(frouros, view, sum);
    exercise(ddm, std::span<const double>(errors), sum);
    exercise(eddm, std::span<const double>(errors), sum);
    exercise(hddm_a, std::span<const double>(errors), sum);
    exercise(hddm_w, std::span<const double>(errors), sum);
    for (std::size_t i = 0; i + 2 <= samples.size(); ++i) {
      bank.update(view.subspan(i, 2));
      if (bank.drift_detected(0)) sum += bank.change(0).shift + bank.statistic(0);
    }
    bank.set_regime(1);
    bank.reset();
  });
  CHECK(count == 0);
  CHECK(sum > 0.0);
}
