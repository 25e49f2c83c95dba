#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "hot_path_model.hpp"
#include "inference_loop.hpp"

using namespace selfheal;
using namespace selfheal::runtime;
using selfheal::testing::GuardedAdder;
using selfheal::testing::random_bytes;

namespace {

constexpr std::size_t kSize = GuardedAdder::kSize;
constexpr HotPath::Pace kWholeRounds{512 * 64, 0, 0.0, 0.0};

struct Failed : std::exception {};

/// A program without an interpreter's lock, which writes down what it hears.
class Program : public Host {
 public:
  bool has_clock() const noexcept override { return static_cast<bool>(clock); }
  double now() override { return clock(); }
  void attend(const Job&, std::size_t index, std::uint32_t up) override {
    heard.emplace_back(index, up);
    if (on_attend) on_attend(up);
  }
  [[noreturn]] void fail() override { throw Failed(); }
  void forget_failure() noexcept override { ++forgotten; }
  void check_interrupts() override { ++looks; }
  void ended() override { ++ends; }
  void enter(FairLock& lock) override { lock.enter(); }
  void give_way(FairLock& lock) override {
    ++given_way;
    lock.give_way();
  }
  void release_interpreter() noexcept override { ++released; }
  void take_interpreter() noexcept override { --released; }

  std::vector<std::pair<std::size_t, std::uint32_t>> heard;
  std::function<void(std::uint32_t)> on_attend;
  std::function<double()> clock;
  int looks = 0;
  int forgotten = 0;
  int ends = 0;
  int given_way = 0;
  int released = 0;
};

struct Served : GuardedAdder {
  explicit Served(HotPath::Pace pace = {}, std::uint64_t max_repeats = 0)
      : GuardedAdder(pace, max_repeats) {}
  Program program;
  FairLock lock;
  InferenceLoop loop{path, lock, program};
};

}  // namespace

TEST_CASE("a job is served in order; what comes up is attended to; the lock is free afterwards") {
  Served model(kWholeRounds);
  const auto in = random_bytes(30 * kSize, 1);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.path.due_number = 10;
  model.program.on_attend = [&](std::uint32_t up) {
    CHECK(model.lock.is_mine());
    if (up == kDue) {
      model.path.due_number = HotPath::kNever;
      model.live[700] ^= std::byte{4};
    }
  };
  model.loop.run(model.job);
  const std::vector<std::pair<std::size_t, std::uint32_t>> expected{{9, kDue}, {10, kDamage}};
  CHECK(model.program.heard == expected);
  CHECK(model.program.ends == 1);
  CHECK(model.program.released == 0);
  CHECK_FALSE(model.lock.is_mine());
  CHECK(out == model.answers(in));
  model.program.heard.clear();
  model.loop.run(model.job);
  CHECK(model.program.heard.empty());
  CHECK(model.program.ends == 1);  // nothing was attended to
}

TEST_CASE("a run that fails is asked again once, and then it is the job that fails") {
  Served model;
  const auto in = random_bytes(6 * kSize, 2);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.engine.fails_at = 3;
  model.loop.run(model.job);
  CHECK(out == model.answers(in));
  CHECK(model.program.heard.size() == 1);
  model.program.on_attend = [&](std::uint32_t) { model.engine.fails_at = model.engine.runs + 1; };
  model.engine.fails_at = model.engine.runs + 3;
  CHECK_THROWS_AS(model.loop.run(model.job), Failed);
  CHECK_FALSE(model.lock.is_mine());
  model.program.on_attend = nullptr;
  model.engine.fails_at = 0;
  model.loop.run(model.job);
  CHECK(out == model.answers(in));
}

TEST_CASE("what attends may serve jobs of its own, and take the answer anew") {
  Served model;
  const auto in = random_bytes(5 * kSize, 3);
  const auto other = random_bytes(2 * kSize, 4);
  std::vector<std::byte> out(in.size());
  std::vector<std::byte> inner(other.size());
  model.feed(in, out);
  const Feed feed{other.data(), kSize, false};
  const Sink sink{inner.data(), kSize, false};
  model.live[0] ^= std::byte{64};  // nothing sweeps here
  model.path.due_number = 3;
  model.program.on_attend = [&](std::uint32_t up) {
    if (up != kDue) return;
    model.path.due_number = HotPath::kNever;
    model.live = model.golden;
    model.loop.run({{&feed, 1}, {&sink, 1}, nullptr, 2, {}, nullptr});
    CHECK(model.loop.again());
  };
  model.loop.run(model.job);
  CHECK(inner == model.answers(other));
  const auto expected = model.answers(in);
  CHECK(out[0] != expected[0]);
  CHECK(std::equal(out.begin() + 2 * kSize, out.end(), expected.begin() + 2 * kSize));
  CHECK(model.path.number() == 7);
  CHECK_THROWS_AS(model.loop.again(), std::logic_error);
}

TEST_CASE("a model that is closed by what attends ends the job") {
  Served model;
  const auto in = random_bytes(5 * kSize, 5);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  model.path.due_number = 2;
  model.program.on_attend = [&](std::uint32_t) {
    model.path.attach(nullptr, -1);
    model.lock.close();
  };
  CHECK_THROWS_AS(model.loop.run(model.job), Closed);
  CHECK(model.path.number() == 2);
  CHECK_FALSE(model.lock.is_mine());
  CHECK_THROWS_AS(model.loop.run(model.job), Closed);
}

TEST_CASE("a clock of the program's is read before every inference") {
  Served model;
  const auto in = random_bytes(5 * kSize, 6);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  double now = 0.0;
  model.program.clock = [&] { return now += 1.0; };
  model.path.due_seconds = 3.0;
  model.program.on_attend = [&](std::uint32_t) { model.path.due_seconds = 100.0; };
  model.loop.run(model.job);
  const std::vector<std::pair<std::size_t, std::uint32_t>> expected{{2, kDue}};
  CHECK(model.program.heard == expected);
  CHECK(now == 5.0);
}

TEST_CASE("records of an inference that was attended to say what is trusted afterwards") {
  Served model;
  const auto in = random_bytes(4 * kSize, 7);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<Record> records(4);
  model.job.records = records;
  std::atomic<bool> trusting{true};
  model.path.trust_by(&trusting);
  model.path.due_number = 3;
  model.program.on_attend = [&](std::uint32_t) {
    model.path.due_number = HotPath::kNever;
    trusting = false;
  };
  model.loop.run(model.job);
  CHECK(records[1].is_trusted);
  CHECK_FALSE(records[2].is_trusted);
  CHECK_FALSE(records[3].is_trusted);
}

TEST_CASE("records say which inputs are suspect, of inferences that were attended to alone") {
  Served model;
  const auto in = random_bytes(4 * kSize, 7);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<Record> records(4);
  model.job.records = records;
  model.path.is_watched = true;
  std::size_t attended = 0;
  model.program.on_attend = [&](std::uint32_t) {
    ++attended;
    model.path.is_suspecting = attended == 2;
    model.path.is_watched = attended < 3;
  };
  model.loop.run(model.job);
  CHECK_FALSE(records[0].is_quarantined);
  CHECK(records[1].is_quarantined);
  CHECK_FALSE(records[2].is_quarantined);
  CHECK_FALSE(records[3].is_quarantined);
}

TEST_CASE("threads take turns, inference by inference, and the model may be closed among them") {
  Served model;
  constexpr std::size_t kCount = 3000;
  std::vector<std::thread> threads;
  std::atomic<int> ended{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&model, &ended, t] {
      const auto in = random_bytes(kCount * kSize, static_cast<unsigned>(20 + t));
      std::vector<std::byte> out(in.size());
      const Feed feed{in.data(), kSize, false};
      const Sink sink{out.data(), kSize, false};
      model.loop.run({{&feed, 1}, {&sink, 1}, nullptr, kCount, {}, nullptr});
      if (out == model.answers(in)) ++ended;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(ended == 3);
  CHECK(model.path.number() == 3 * kCount);
}
