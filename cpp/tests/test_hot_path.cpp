#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "hot_path_model.hpp"

using namespace selfheal;
using namespace selfheal::runtime;
using selfheal::testing::GuardedAdder;
using selfheal::testing::random_bytes;

namespace {

constexpr std::size_t kSize = GuardedAdder::kSize;
constexpr std::size_t kAll = 512 * 64;  // bytes: a whole round before each inference
constexpr HotPath::Pace kWholeRounds{kAll, 0, 0.0, 0.0};

}  // namespace

TEST_CASE("all that was fed is served, in order, in one call") {
  GuardedAdder model;
  const auto in = random_bytes(100 * kSize, 2);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  const HotPath::Progress progress = model.serve(0, 100, 0.0);
  CHECK(progress.next == 100);
  CHECK(progress.up == 0);
  CHECK(out == model.answers(in));
  CHECK(model.path.number() == 100);
  CHECK(model.monitor.count() == 100);
  CHECK(model.engine.runs == 100);
}

TEST_CASE("a part of what was fed leaves the rest alone") {
  GuardedAdder model;
  const auto in = random_bytes(10 * kSize, 2);
  std::vector<std::byte> out(in.size(), std::byte{9});
  model.feed(in, out);
  CHECK(model.serve(3, 5, 0.0).next == 5);
  const auto expected = model.answers(in);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool is_served = i >= 3 * kSize && i < 5 * kSize;
    CHECK(out[i] == (is_served ? expected[i] : std::byte{9}));
  }
  CHECK(model.serve(5, 5, 0.0).next == 5);
  CHECK(model.path.number() == 2);
}

TEST_CASE("it stops after an inference where another thread waits for the lock") {
  GuardedAdder model;
  const auto in = random_bytes(10 * kSize, 2);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  FairLock lock;
  lock.enter();
  CHECK(model.serve(0, 3, 0.0, &lock).next == 3);  // no thread waits
  std::thread other([&] {
    lock.enter();
    lock.leave();
  });
  while (!lock.can_give_way()) std::this_thread::yield();
  const HotPath::Progress progress = model.serve(3, 10, 0.0, &lock);
  CHECK(progress.next == 4);
  CHECK(progress.up == 0);
  CHECK(model.serve(4, 7, 0.0).next == 7);
  lock.leave();
  other.join();
  CHECK(model.serve(7, 10, 0.0, &lock).next == 10);
  CHECK(out == model.answers(in));
}

TEST_CASE("one batch leaves signals and monitor as single calls do") {
  GuardedAdder batch;
  GuardedAdder single;
  const auto in = random_bytes(300 * kSize, 3);
  std::vector<std::byte> out(in.size());
  batch.feed(in, out);
  for (std::size_t n = 0; n < 300;) n = batch.serve(n, 300, 0.0).next;
  for (std::size_t n = 0; n < 300; ++n) {
    const std::vector<std::byte> row(in.begin() + static_cast<std::ptrdiff_t>(n * kSize),
                                     in.begin() + static_cast<std::ptrdiff_t>((n + 1) * kSize));
    std::vector<std::byte> one(kSize);
    single.feed(row, one);
    REQUIRE(single.serve(0, 1, 0.0).next == 1);
    REQUIRE(std::memcmp(one.data(), &out[n * kSize], kSize) == 0);
  }
  CHECK(batch.monitor.bank()->state() == single.monitor.bank()->state());
  CHECK(std::memcmp(batch.path.row().data(), single.path.row().data(),
                    batch.path.row().size_bytes()) == 0);
}

TEST_CASE("damage stops before the inference; going on answers from healed weights") {
  GuardedAdder model(kWholeRounds);
  const auto in = random_bytes(20 * kSize, 4);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  REQUIRE(model.serve(0, 7, 0.0).up == 0);
  model.live[3] ^= std::byte{16};
  model.live[512 * 5 + 100] ^= std::byte{1};
  const HotPath::Progress found = model.serve(7, 20, 0.0);
  CHECK(found.next == 7);
  CHECK(found.up == kDamage);
  CHECK(model.path.number() == 7);
  REQUIRE(model.path.damage().size() == 2);
  for (const HotPath::Damage& damage : model.path.damage()) {
    CHECK(damage.image == 0);
    CHECK(damage.finding.is_healed());
  }
  CHECK(model.live == model.golden);
  // New damage meanwhile is not looked for twice before one inference, but before the next.
  model.live[512 * 5] ^= std::byte{1};
  const HotPath::Progress next = model.serve(7, 20, 0.0);
  CHECK(next.next == 8);
  CHECK(next.up == kDamage);
  CHECK(model.serve(8, 20, 0.0).next == 20);
  CHECK(out == model.answers(in));
}

TEST_CASE("an inference that is given up leaves the next one a sweep of its own") {
  GuardedAdder model(kWholeRounds);
  const auto in = random_bytes(2 * kSize, 4);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.live[3] ^= std::byte{16};
  REQUIRE(model.serve(0, 2, 0.0).up == kDamage);
  model.path.give_up();
  model.live[3] ^= std::byte{16};
  const HotPath::Progress again = model.serve(0, 2, 0.0);
  CHECK(again.next == 0);
  CHECK(again.up == kDamage);
}

TEST_CASE("it stops after the first inference that begins at a time or later") {
  GuardedAdder model;
  const auto in = random_bytes(10 * kSize, 2);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  CHECK(model.serve(0, 4, 1.0, nullptr, 1.5).next == 4);
  const HotPath::Progress progress = model.serve(4, 10, 1.5, nullptr, 1.5);
  CHECK(progress.next == 5);
  CHECK(progress.up == 0);
  CHECK(model.serve(5, 10, 2.0).next == 10);
  CHECK(out == model.answers(in));
}

TEST_CASE("a runtime that fails stops at its inference, and is asked again") {
  GuardedAdder model;
  model.engine.fails_at = 5;
  const auto in = random_bytes(10 * kSize, 5);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  const HotPath::Progress failed = model.serve(0, 10, 0.0);
  CHECK(failed.next == 4);
  CHECK(failed.up == kRunFailed);
  CHECK(model.path.number() == 4);
  CHECK(model.monitor.count() == 4);
  CHECK(model.serve(4, 10, 0.0).next == 10);
  CHECK(model.path.number() == 10);
  CHECK(out == model.answers(in));
  CHECK(model.recent_inputs() == in);
}

TEST_CASE("an alarm, what is due, and who watches stop after the inference") {
  GuardedAdder model({}, 8);
  std::vector<std::byte> in = random_bytes(60 * kSize, 6);
  for (std::size_t n = 21; n <= 29; ++n) std::memcpy(&in[n * kSize], &in[20 * kSize], kSize);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.path.due_number = 10;
  HotPath::Progress progress = model.serve(0, 60, 0.0);
  CHECK(progress.next == 10);
  CHECK(progress.up == kDue);
  CHECK(model.serve(10, 60, 0.0).next == 11);  // until it is told otherwise
  model.path.due_number = HotPath::kNever;
  progress = model.serve(11, 60, 0.0);
  CHECK(progress.next == 29);
  CHECK(progress.up == kAlarm);
  CHECK(model.monitor.alarms().repeats);
  model.path.is_watched = true;
  progress = model.serve(29, 60, 0.0);
  CHECK(progress.next == 30);
  CHECK(progress.up == kWatched);
  model.path.is_watched = false;
  model.path.due_seconds = 5.0;
  CHECK(model.serve(30, 40, 4.9).up == 0);
  progress = model.serve(40, 60, 5.0);
  CHECK(progress.next == 41);
  CHECK(progress.up == kDue);
  CHECK(model.serve(41, 60, 0.0).up == 0);
  CHECK(out == model.answers(in));
}

TEST_CASE("again: the same inference from healed weights, counted once") {
  GuardedAdder model;
  const auto in = random_bytes(4 * kSize, 7);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.live[0] ^= std::byte{64};
  model.path.is_watched = true;
  for (std::size_t n = 0; n < 3; ++n) REQUIRE(model.serve(n, 4, 0.0).next == n + 1);
  CHECK(out[2 * kSize] != model.answers(in)[2 * kSize]);
  model.live = model.golden;
  CHECK(model.path.again(model.job, 2));
  CHECK(std::memcmp(&out[2 * kSize], model.answer(in, 2).data(), kSize) == 0);
  CHECK(model.path.number() == 3);
  CHECK(model.monitor.count() == 3);
  CHECK(model.recent_inputs() == std::vector(in.begin(), in.begin() + 3 * kSize));
  model.engine.fails_at = model.engine.runs + 1;
  CHECK_FALSE(model.path.again(model.job, 2));
}

TEST_CASE("real numbers in and out, and values that were replaced") {
  GuardedAdder model;
  std::vector<float> in;
  for (std::size_t i = 0; i < 3 * kSize; ++i) in.push_back(0.4F * static_cast<float>(i) - 4.0F);
  std::vector<float> out(in.size());
  const Feed feed{reinterpret_cast<const std::byte*>(in.data()), kSize * sizeof(float), true};
  const Sink sink{reinterpret_cast<std::byte*>(out.data()), kSize * sizeof(float), true};
  const std::vector<std::int64_t> replaced{0, 2, 0};
  model.job = {{&feed, 1}, {&sink, 1}, replaced.data(), 3, {}, nullptr};
  const HotPath::Progress progress = model.serve(0, 3, 0.0);
  CHECK(progress.next == 2);
  CHECK(progress.up == kAlarm);
  CHECK(model.monitor.alarms().nonfinite);
  CHECK(model.path.result().nonfinite == 2);
  for (const double x : model.path.row()) CHECK(std::isnan(x));
  CHECK(model.serve(2, 3, 0.0).up == 0);
  std::vector<std::int8_t> levels(in.size());
  quantize<std::int8_t>(std::span<const float>(in), GuardedAdder::kLevels, levels);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto sum = static_cast<std::int8_t>(static_cast<unsigned>(levels[i]) +
                                              std::to_integer<unsigned>(model.golden[i % kSize]));
    CHECK(out[i] == (static_cast<float>(sum) - 3.0F) * 0.5F);
  }
}

TEST_CASE("a sweep in bytes: a round in so many inferences, and no more at once") {
  GuardedAdder model({128, 0, 0.0, 0.0});
  const auto in = random_bytes(4 * GuardedAdder::kBlocks * kSize, 8);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  CHECK(model.serve(0, 4 * GuardedAdder::kBlocks - 1, 0.0).up == 0);
  CHECK(model.guard.sweeps() == 0);
  CHECK(model.serve(4 * GuardedAdder::kBlocks - 1, 4 * GuardedAdder::kBlocks, 0.0).up == 0);
  CHECK(model.guard.sweeps() == 1);
}

TEST_CASE("while another thread has the maintenance lock nothing is swept, and it stays due") {
  GuardedAdder model(kWholeRounds);
  const auto in = random_bytes(4 * kSize, 9);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::atomic<int> step{0};
  std::thread other([&] {
    model.maintenance_lock.enter();
    step = 1;
    while (step != 2) std::this_thread::yield();
    model.maintenance_lock.leave();
  });
  while (step != 1) std::this_thread::yield();
  model.live[1000] ^= std::byte{2};
  CHECK(model.serve(0, 2, 0.0).up == 0);
  CHECK(model.guard.sweeps() == 0);
  step = 2;
  other.join();
  CHECK(model.serve(2, 4, 0.0).up == kDamage);
  CHECK(model.live == model.golden);
}

TEST_CASE("images are asked when a row of them is due, and not before") {
  // A block's bytes an inference: the image is one row of so many blocks.
  GuardedAdder model({512, 0, 0.0, 0.0});
  constexpr std::size_t kBlocks = GuardedAdder::kBlocks;
  const auto in = random_bytes(2 * kBlocks * kSize, 11);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<Record> records(2 * kBlocks);
  model.job.records = records;
  std::atomic<bool> trusting{true};
  model.path.trust_by(&trusting);
  std::atomic<int> step{0};
  std::thread other([&] {
    model.maintenance_lock.enter();
    step = 1;
    while (step != 2) std::this_thread::yield();
    model.maintenance_lock.leave();
  });
  while (step != 1) std::this_thread::yield();
  CHECK(model.serve(0, kBlocks, 0.0).next == kBlocks);
  step = 2;
  other.join();
  // Those before did not want the lock that another thread held; the last one did.
  for (std::size_t n = 0; n < kBlocks; ++n) CHECK(records[n].is_trusted == (n + 1 < kBlocks));
  CHECK(model.guard.sweeps() == 0);
  CHECK(model.serve(kBlocks, kBlocks + 1, 0.0).up == 0);  // it stayed due
  CHECK(model.guard.sweeps() == 1);
}

TEST_CASE("one serves, one heals: under the lock of each") {
  GuardedAdder model({512, 64, 0.0, 0.0});
  const auto in = random_bytes(50 * kSize, 10);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::atomic<bool> is_done{false};
  std::thread healer([&] {
    std::vector<Finding> found(100);
    while (!is_done) {
      model.maintenance_lock.enter();
      model.guard.sweep(found);
      model.maintenance_lock.leave();
    }
  });
  for (int round = 0; round < 40; ++round) {
    for (std::size_t n = 0; n < 50;) n = model.serve(n, 50, 0.0).next;
  }
  is_done = true;
  healer.join();
  CHECK(out == model.answers(in));
  CHECK(model.path.number() == 2000);
}

TEST_CASE("a guard that only looks reports live damage each round, and repairs nothing") {
  GuardedAdder model(kWholeRounds, 0, HotPath::Sweeping::kLooks);
  const auto in = random_bytes(4 * kSize, 11);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  CHECK(model.serve(0, 1, 0.0).up == 0);
  model.live[3] ^= std::byte{16};
  const auto damaged = model.live;
  for (std::size_t n = 1; n < 3; ++n) {
    const HotPath::Progress found = model.serve(n, 4, 0.0);
    CHECK(found.next == n);
    CHECK(found.up == kDamage);
    REQUIRE(model.path.damage().size() == 1);
    CHECK(model.path.damage()[0].finding.block == 0);
    CHECK(model.path.damage()[0].finding.part == DamagedPart::kLive);
    CHECK_FALSE(model.path.damage()[0].finding.is_healed());
    CHECK(model.serve(n, n + 1, 0.0).next == n + 1);  // it goes on from damaged weights
  }
  CHECK(model.live == damaged);
  CHECK(model.guard.sweeps() == 3);
}

TEST_CASE("records: numbers, labels, and what is trusted") {
  GuardedAdder model(kWholeRounds);
  const auto in = random_bytes(6 * kSize, 12);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<Record> records(6);
  model.job.records = records;
  const std::vector<std::int64_t> replaced{0, 0, 1, 0, 0, 0};
  model.job.nonfinite = replaced.data();
  std::atomic<bool> trusting{true};
  model.path.trust_by(&trusting);
  CHECK(model.serve(0, 2, 0.0).next == 2);
  CHECK(model.serve(2, 3, 0.0).up == kAlarm);
  trusting = false;
  CHECK(model.serve(3, 4, 0.0).next == 4);
  model.path.attach(&model.engine, -1, true);  // a spare that was verified
  CHECK(model.serve(4, 5, 0.0).next == 5);
  model.path.attach(&model.engine, -1);
  trusting = true;
  std::atomic<int> step{0};
  std::thread other([&] {
    model.maintenance_lock.enter();
    step = 1;
    while (step != 2) std::this_thread::yield();
    model.maintenance_lock.leave();
  });
  while (step != 1) std::this_thread::yield();
  CHECK(model.serve(5, 6, 0.0).next == 6);  // its sweep is left out
  step = 2;
  other.join();
  const std::vector<bool> sound{true, true, false, true, true, false};
  const std::vector<bool> trusted{true, true, false, false, true, false};
  for (std::size_t n = 0; n < 6; ++n) {
    CHECK(records[n].number == n + 1);
    CHECK(records[n].label == -1);
    CHECK(records[n].is_sound == sound[n]);
    CHECK(records[n].is_trusted == trusted[n]);
  }
}

namespace {

/// A monitor of a user's: serves an inference of its own, fails, or alarms.
class Foreign : public Monitor {
 public:
  explicit Foreign(GuardedAdder& model) : model_(model) {}
  Verdict update(const PassResult&, std::span<const double>) noexcept override {
    ++heard;
    if (heard == 2) {
      const std::vector<std::byte> in = random_bytes(kSize, 99);
      std::vector<std::byte> out(kSize);
      const Feed feed{in.data(), kSize, false};
      const Sink sink{out.data(), kSize, false};
      CHECK(path->serve({{&feed, 1}, {&sink, 1}, nullptr, 1, {}, nullptr}, 0, 1, 0.0).next == 1);
      CHECK(out == model_.answers(in));
    }
    if (heard == 4) return Verdict::kAlarm;
    return heard == 5 ? Verdict::kFailed : Verdict::kQuiet;
  }
  bool is_foreign() const noexcept override { return true; }

  int heard = 0;
  HotPath* path = nullptr;

 private:
  GuardedAdder& model_;
};

}  // namespace

TEST_CASE("a foreign monitor: one inference at a time, whatever it does meanwhile") {
  GuardedAdder model;
  Foreign monitor(model);
  HotPath path(model.signals, monitor, {GuardedAdder::outside()}, {GuardedAdder::outside()}, {});
  monitor.path = &path;
  path.attach(&model.engine, -1);
  const auto in = random_bytes(5 * kSize, 13);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  const std::vector<std::uint32_t> ups{0, 0, kAlarm, kMonitorFailed, 0};
  for (std::size_t n = 0; n < 5; ++n) {
    const HotPath::Progress progress = path.serve(model.job, n, 5, 0.0);
    CHECK(progress.next == n + 1);
    CHECK(progress.up == ups[n]);
  }
  CHECK(out == model.answers(in));
  CHECK(path.number() == 6);
}
