#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "hot_path_model.hpp"

using namespace selfheal;
using namespace selfheal::runtime;
using selfheal::testing::GuardedAdder;
using selfheal::testing::random_bytes;

namespace {

constexpr std::size_t kSize = GuardedAdder::kSize;

// An Adder that also adds what it answered before; `during` is called in the middle of a run.
struct Recurrent : runtime::TensorEngine {
  explicit Recurrent(std::vector<std::byte>& live) : weights(live) {
    inputs_memory_ = {{in.data(), kSize}};
    outputs_memory_ = {{out.data(), kSize}};
    variables_memory_ = {{state.data(), kSize}};
  }
  bool needs_interpreter_lock() const noexcept override { return false; }
  bool run() noexcept override {
    ++runs;
    for (std::size_t i = 0; i < kSize; ++i) {
      if (i == kSize / 2 && during) during(*this);
      out[i] = static_cast<std::byte>(std::to_integer<unsigned>(in[i]) +
                                      std::to_integer<unsigned>(weights[i]) +
                                      std::to_integer<unsigned>(state[i]));
    }
    state = out;
    return true;
  }

  std::vector<std::byte>& weights;
  std::function<void(Recurrent&)> during;
  std::size_t runs = 0;
  std::array<std::byte, kSize> in{};
  std::array<std::byte, kSize> out{};
  std::array<std::byte, kSize> state{};
};

// The answers without damage.
std::vector<std::byte> recurrent_answers(const GuardedAdder& model,
                                         const std::vector<std::byte>& in) {
  std::vector<std::byte> weights(model.golden.begin(), model.golden.end());
  Recurrent engine(weights);
  std::vector<std::byte> all;
  for (std::size_t n = 0; n < in.size() / kSize; ++n) {
    std::copy_n(in.begin() + static_cast<std::ptrdiff_t>(n * kSize), kSize, engine.in.begin());
    engine.run();
    all.insert(all.end(), engine.out.begin(), engine.out.end());
  }
  return all;
}

}  // namespace

TEST_CASE(
    "verified before: every byte at each inference, whatever the pace, and only a flip inside "
    "the inference acts") {
  GuardedAdder model;
  model.path.verifying = runtime::Verified::kBefore;
  const auto in = random_bytes(20 * kSize, 4);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<runtime::Record> records(20);
  model.job.records = records;
  for (std::size_t n = 0; n < 20; ++n) {
    model.live[(n * 331) % model.live.size()] ^= std::byte{4};
    const HotPath::Progress found = model.serve(n, 20, 0.0);
    REQUIRE(found.up == kDamage);
    REQUIRE(found.next == n);
    // New damage while it was handled is found as well.
    model.live[n % kSize] ^= std::byte{1};
    REQUIRE(model.serve(n, 20, 0.0).up == kDamage);
    REQUIRE(model.serve(n, n + 1, 0.0).next == n + 1);
    CHECK(records[n].verified == runtime::Verified::kBefore);
    CHECK(records[n].is_sound);
  }
  CHECK(out == model.answers(in));
  CHECK(model.path.number() == 20);
}

TEST_CASE(
    "verified around: an inference during which a byte changed is made again, from the state "
    "before it") {
  GuardedAdder model;
  model.path.verifying = runtime::Verified::kAround;
  Recurrent engine(model.live);
  model.path.attach(&engine, -1);
  const auto in = random_bytes(30 * kSize, 4);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<runtime::Record> records(30);
  model.job.records = records;
  std::size_t flips = 0;
  engine.during = [&](Recurrent& self) {
    if (self.runs % 3 != 1) return;
    ++flips;
    model.live[kSize - 1] ^= std::byte{32};  // read in the second half of the run
  };
  std::size_t found = 0;
  for (std::size_t n = 0; n < 30;) {
    const HotPath::Progress progress = model.serve(n, 30, 0.0);
    if (progress.up == kDamage) {
      ++found;
      engine.state.fill(std::byte{99});  // handling it may end what a model remembers
    }
    n = progress.next;
  }
  CHECK(flips == 15);
  CHECK(found == flips);
  CHECK(engine.runs == 45);
  CHECK(out == recurrent_answers(model, in));
  CHECK(model.path.number() == 30);
  for (const auto& record : records) {
    CHECK(record.verified == runtime::Verified::kAround);
    CHECK(record.is_sound);
  }
  // Without end: the answer is given at last, and is not sound.
  engine.during = [&](Recurrent&) { model.live[kSize - 1] ^= std::byte{32}; };
  std::size_t tries = 0;
  while (model.serve(0, 1, 0.0).up == kDamage) ++tries;
  CHECK(tries == HotPath::kMostTries + 1);
  CHECK_FALSE(records[0].is_sound);
  CHECK(records[0].verified == runtime::Verified::kNone);
  // The next one begins anew.
  engine.during = nullptr;
  while (model.serve(1, 2, 0.0).up == kDamage) {
  }
  CHECK(records[1].is_sound);
  CHECK(records[1].verified == runtime::Verified::kAround);
}

TEST_CASE("where another thread works on the weights nothing is verified") {
  GuardedAdder model;
  model.path.verifying = runtime::Verified::kAround;
  const auto in = random_bytes(2 * kSize, 4);
  std::vector<std::byte> out(in.size());
  model.feed(in, out);
  std::vector<runtime::Record> records(2);
  model.job.records = records;
  std::thread([&] {
    model.maintenance_lock.enter();
    std::thread([&] { CHECK(model.serve(0, 1, 0.0).next == 1); }).join();
    model.maintenance_lock.leave();
  }).join();
  CHECK(records[0].verified == runtime::Verified::kNone);
  CHECK_FALSE(records[0].is_sound);
  CHECK(model.serve(1, 2, 0.0).next == 2);
  CHECK(records[1].verified == runtime::Verified::kAround);
}

TEST_CASE("an answer that is made anew is sound only if it is verified as asked") {
  for (const auto asked : {runtime::Verified::kBefore, runtime::Verified::kAround}) {
    GuardedAdder model;
    model.path.verifying = asked;
    Recurrent engine(model.live);
    model.path.attach(&engine, -1);
    const auto in = random_bytes(kSize, 4);
    std::vector<std::byte> out(in.size());
    model.feed(in, out);
    std::vector<runtime::Record> records(1);
    model.job.records = records;
    REQUIRE(model.serve(0, 1, 0.0).next == 1);
    CHECK(records[0].is_sound);
    REQUIRE(model.path.again(model.job, 0));
    CHECK(records[0].verified == asked);
    CHECK(records[0].is_sound);
    engine.during = [&](Recurrent&) { model.live[kSize - 1] ^= std::byte{32}; };
    REQUIRE(model.path.again(model.job, 0));
    CHECK(records[0].verified == runtime::Verified::kBefore);
    CHECK(records[0].is_sound == (asked == runtime::Verified::kBefore));
    engine.during = nullptr;  // and the byte is wrong from the beginning
    REQUIRE(model.path.again(model.job, 0));
    CHECK(records[0].verified == runtime::Verified::kNone);
    CHECK_FALSE(records[0].is_sound);
  }
}
