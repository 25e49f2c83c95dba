// A model without Python or TFLite, served through the hot path: its weights are swept before each
// inference, and a bit that flips in them is healed before an answer is given.

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/snapshot_pool.hpp"
#include "selfheal/guard/weight_image.hpp"
#include "selfheal/measure/inference_monitor.hpp"
#include "selfheal/measure/signal_pass.hpp"
#include "selfheal/runtime/hot_path.hpp"
#include "selfheal/runtime/monitor.hpp"

namespace {

using selfheal::ElementType;
using selfheal::TensorLayout;

constexpr std::size_t kSize = 8;
constexpr std::size_t kBlocks = 16;
constexpr std::size_t kBlockBytes = 512;

// Adds a weight to each of eight levels; another engine would call a runtime here.
class Adder : public selfheal::runtime::TensorEngine {
 public:
  explicit Adder(const std::vector<std::byte>& weights) : weights_(weights) {
    inputs_memory_ = {{in_.data(), in_.size()}};
    outputs_memory_ = {{out_.data(), out_.size()}};
  }
  bool needs_interpreter_lock() const noexcept override { return false; }
  bool run() noexcept override {
    for (std::size_t i = 0; i < kSize; ++i) {
      out_[i] =
          static_cast<std::byte>(std::to_integer<int>(in_[i]) + std::to_integer<int>(weights_[i]));
    }
    return true;
  }

 private:
  const std::vector<std::byte>& weights_;
  std::array<std::byte, kSize> in_{};
  std::array<std::byte, kSize> out_{};
};

selfheal::SignalPass signals_of_levels() {
  selfheal::SignalPlan plan;
  plan.inputs = {TensorLayout{ElementType::kInt8, kSize, 1, {0.5F, 3}}};
  plan.outputs = {TensorLayout{ElementType::kInt8, kSize, 1, {0.5F, 3}}};
  return selfheal::SignalPass(std::move(plan));
}

}  // namespace

int main() {
  std::vector<std::byte> weights(kBlocks * kBlockBytes, std::byte{3});
  selfheal::WeightImage image(weights, {}, kBlockBytes, {5, 6});  // a key: random in production
  selfheal::SnapshotPool pool(image, 2 * kBlocks, 2);
  selfheal::ImageGuard guard(image, &pool, nullptr, 11);
  Adder engine(weights);

  selfheal::SignalPass signals = signals_of_levels();
  const std::vector<selfheal::Reference> normal(signals.signals(),
                                                selfheal::Reference::normal(0.0, 1e6));
  selfheal::InferenceMonitor monitor(selfheal::MonitorBank({normal}, 1e6), {}, 0);

  selfheal::runtime::BankMonitor bank(monitor);

  const selfheal::runtime::Outside levels{ElementType::kInt8, {0.5F, 3}, kSize, kSize};
  const selfheal::runtime::HotPath::Pace every_byte{weights.size(), 0, 0.0, 0.0};
  selfheal::runtime::HotPath path(signals, bank, {levels}, {levels}, every_byte);
  path.attach(&engine, -1);
  path.guard({&guard}, nullptr);

  std::vector<std::byte> in(kSize, std::byte{1});
  std::vector<std::byte> out(kSize);
  const selfheal::runtime::Feed feed{in.data(), kSize, false};
  const selfheal::runtime::Sink sink{out.data(), kSize, false};
  const selfheal::runtime::Job job{{&feed, 1}, {&sink, 1}, nullptr, 1, {}, nullptr};

  weights[2] ^= std::byte{0x40};
  const auto stopped = path.serve(job, 0, 1, 0.0);
  if ((stopped.up & selfheal::runtime::kDamage) == 0) return EXIT_FAILURE;
  for (const auto& [index, finding] : path.damage()) {
    std::printf("block %zu had %u wrong bit(s), healed: %s\n",
                static_cast<std::size_t>(finding.block), static_cast<unsigned>(finding.wrong_bits),
                finding.is_healed() ? "yes" : "no");
  }
  const auto served = path.serve(job, stopped.next, 1, 0.0);
  std::printf("answer %d, served %zu\n", std::to_integer<int>(out[2]), served.next);
  return out[2] == std::byte{4} && served.next == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
