#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "hot_path.hpp"
#include "samples.hpp"
#include "selfheal/guard/image_guard.hpp"

namespace selfheal::testing {

/// A model as small as one can be: eight levels in, eight out, each plus a weight of its own.
class Adder : public runtime::TensorEngine {
 public:
  static constexpr std::size_t kSize = 8;

  explicit Adder(std::vector<std::byte>& weights) : weights_(weights) {
    inputs_memory_ = {{in_.data(), in_.size()}};
    outputs_memory_ = {{out_.data(), out_.size()}};
  }
  bool needs_interpreter_lock() const noexcept override { return false; }
  bool run() noexcept override {
    ++runs;
    if (fails_at != 0 && runs == fails_at) return false;
    for (std::size_t i = 0; i < kSize; ++i) {
      out_[i] = static_cast<std::byte>(std::to_integer<unsigned>(in_[i]) +
                                       std::to_integer<unsigned>(weights_[i]));
    }
    in_.fill(std::byte{77});  // a runtime may use its inputs for something else
    return true;
  }

  std::size_t runs = 0;
  std::size_t fails_at = 0;

 private:
  std::vector<std::byte>& weights_;
  std::array<std::byte, kSize> in_{};
  std::array<std::byte, kSize> out_{};
};

/// All that a HotPath needs, around an Adder whose weights are guarded.
struct GuardedAdder {
  static constexpr std::size_t kSize = Adder::kSize;
  static constexpr std::size_t kBlocks = 8;
  static constexpr Levels kLevels{0.5F, 3};

  explicit GuardedAdder(runtime::HotPath::Pace pace = {}, std::uint64_t max_repeats = 0,
                        runtime::HotPath::Sweeping sweeping = runtime::HotPath::Sweeping::kHeals)
      : monitor(make_bank(), {}, max_repeats),
        path(signals, bank_monitor, {outside()}, {outside()}, pace, sweeping) {
    path.attach(&engine, -1);
    path.guard({&guard}, &maintenance_lock);
  }

  static runtime::Outside outside() { return {ElementType::kInt8, kLevels, kSize, kSize}; }
  static SignalPass make_signals() {
    SignalPlan plan;
    plan.inputs = {TensorLayout{ElementType::kInt8, kSize, 1, {0.5F, 3}}};
    plan.outputs = {TensorLayout{ElementType::kInt8, kSize, 1, {0.5F, 3}}};
    return SignalPass(std::move(plan));
  }
  MonitorBank make_bank() const {
    return MonitorBank({std::vector<Reference>(signals.signals(), Reference::normal(0.0, 1e6))},
                       1e9);
  }

  void feed(const std::vector<std::byte>& in, std::vector<std::byte>& out) {
    given = {in.data(), kSize, false};
    taken = {out.data(), kSize, false};
    job.feeds = {&given, 1};
    job.sinks = {&taken, 1};
    job.count = in.size() / kSize;
  }
  /// Serves from what was fed.
  runtime::HotPath::Progress serve(
      std::size_t first, std::size_t end, double now, const runtime::FairLock* lock = nullptr,
      double until = std::numeric_limits<double>::infinity()) noexcept {
    return path.serve(job, first, end, now, lock, until);
  }
  /// What inference `index` has to answer.
  std::vector<std::byte> answer(const std::vector<std::byte>& in, std::size_t index) const {
    std::vector<std::byte> result(kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      result[i] = static_cast<std::byte>(std::to_integer<unsigned>(in[index * kSize + i]) +
                                         std::to_integer<unsigned>(golden[i]));
    }
    return result;
  }
  std::vector<std::byte> answers(const std::vector<std::byte>& in) const {
    std::vector<std::byte> result;
    for (std::size_t n = 0; n < in.size() / kSize; ++n) {
      const auto one = answer(in, n);
      result.insert(result.end(), one.begin(), one.end());
    }
    return result;
  }

  /// The raw inputs that are kept.
  std::vector<std::byte> recent_inputs() const {
    std::vector<std::byte> rows(signals.recent_inputs() * kSize);
    signals.copy_recent_input(0, rows);
    return rows;
  }

  std::vector<std::byte> live = random_bytes(512 * kBlocks, 1);
  std::vector<std::byte> golden = live;
  WeightImage image{live, {}, 512, {5, 6}};
  SnapshotPool pool{image, 16, 2};
  ImageGuard guard{image, &pool, nullptr, 11};
  Adder engine{live};
  runtime::FairLock maintenance_lock;
  SignalPass signals = make_signals();
  InferenceMonitor monitor;
  runtime::BankMonitor bank_monitor{monitor};
  runtime::HotPath path;
  runtime::Feed given;
  runtime::Sink taken;
  runtime::Job job;
};

}  // namespace selfheal::testing
