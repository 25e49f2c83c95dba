#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace selfheal {

/// A float shadow of a quantised classifier: convolutions, dense layers, sums and pools in numbers
/// that can be learned, forward and backward, one sample at a time.
///
/// A layer with weights W has a gain and a bias for each output channel: z = gain * (W x) + bias,
/// then clipped to what its output can hold (and to a ReLU's range). Gains and biases can always be
/// learned, weights where a layer says so. The last layer's outputs are logits.
///
/// step minimises the weighted mean over a batch of the cross-entropy between a target distribution
/// and softmax(logits), by Adam (Kingma and Ba 2015, algorithm 1), each number with a rate of its
/// own: after k steps none has moved by much more than k * rate.
///
/// Sums are taken in one order and exp, log come from additions and multiplications alone, so that
/// results are the same bits wherever operations are not fused. Cost: forward, two operations for
/// each product of an output and its weights; backward as much again, and once more where weights
/// are learned. Bytes: memory_bytes(), fixed at construction. One object, one thread.
class FloatGraph {
 public:
  enum class Kind : std::uint8_t { kConvolution, kDepthwise, kAdd, kAveragePool, kMaxPool };

  /// One operator. Values are numbered: 0 is the input, n + 1 the output of layer n. All are
  /// height x width x channels; a dense layer is a convolution of 1 x 1.
  struct Layer {
    Kind kind = Kind::kConvolution;
    bool learns_weights = false;
    std::uint32_t input = 0;
    std::uint32_t other = 0;  ///< the second input of kAdd
    std::uint32_t in_height = 1, in_width = 1, in_channels = 1;
    std::uint32_t out_height = 1, out_width = 1, out_channels = 1;
    std::uint32_t kernel_height = 1, kernel_width = 1;
    std::uint32_t stride_height = 1, stride_width = 1;
    std::uint32_t pad_top = 0, pad_left = 0;  ///< zeros; what lies outside of a pool is not counted
    float lowest = 0.0F, highest = 0.0F;      ///< of its output
  };

  /// weights: of the layers that have some, one after the other, each out_channels x kernel x
  /// in_channels (kDepthwise: kernel x channels); biases: likewise, out_channels each. Refuses
  /// layers that do not fit together, and what would take more than max_bytes.
  FloatGraph(std::span<const Layer> layers, std::span<const float> weights,
             std::span<const float> biases, std::size_t max_bytes);

  /// Writes the logits of samples: out has samples x classes numbers. Throws for other sizes.
  void logits(std::span<const float> inputs, std::span<float> out);
  /// Returns the loss of a batch; leaves its gradient in gradient(). targets: samples x classes;
  /// sample_weights: not negative. Throws for sizes that do not fit. A batch without weight: 0.
  double learn(std::span<const float> inputs, std::span<const float> targets,
               std::span<const float> sample_weights);
  /// learn, then one step of Adam; returns the loss before it. A gradient that is not finite is
  /// left out. rate: of all rates.
  double step(std::span<const float> inputs, std::span<const float> targets,
              std::span<const float> sample_weights, double rate);

  /// What is learned: of each layer gains, biases and, where it learns them, weights in the order
  /// in which they were given.
  std::span<const float> parameters() const noexcept { return parameters_; }
  /// Sets all of it, and begins anew with Adam's moments. A gain is at least 0.05. Throws where a
  /// number is not finite.
  void set_parameters(std::span<const float> values);
  /// How far each may go in one step of rate 1; ones at first.
  void set_rates(std::span<const float> rates);
  std::span<const float> gradient() const noexcept { return gradient_; }

  std::size_t inputs() const noexcept { return sizes_.front(); }
  std::size_t classes() const noexcept { return sizes_.back(); }
  std::size_t memory_bytes() const noexcept;

 private:
  struct Place {  // of a layer, in parameters_ and weights_
    std::size_t parameters = 0;
    std::size_t weights = 0;
    std::size_t size = 0;
  };
  static bool has_weights(Kind kind) noexcept {
    return kind == Kind::kConvolution || kind == Kind::kDepthwise;
  }
  void lay_out(std::span<const Layer> layers);
  void transpose(std::size_t layer) noexcept;
  void forward(const float* input) noexcept;
  void backward() noexcept;
  void convolve(std::size_t layer) noexcept;
  void convolve_back(std::size_t layer) noexcept;
  void pool(std::size_t layer) noexcept;
  void pool_back(std::size_t layer) noexcept;
  static float taps(const Layer& layer, std::size_t place) noexcept;
  void take_parameters() noexcept;
  template <typename Visit>
  static void for_each_tap(const Layer& layer, Visit visit) noexcept;
  const float* value(std::uint32_t n) const noexcept { return values_.data() + offsets_[n]; }
  float* slope(std::uint32_t n) noexcept { return slopes_.data() + offsets_[n]; }

  std::vector<Layer> layers_;
  std::vector<Place> places_;
  std::vector<std::size_t> sizes_;    // of the values
  std::vector<std::size_t> offsets_;  // of each, in values_ and slopes_
  std::vector<float> weights_;        // as given
  std::vector<float> turned_;         // kernel x in_channels x out_channels
  std::vector<float> values_;
  std::vector<float> slopes_;  // of the loss by each value
  std::vector<float> parameters_;
  std::vector<float> rates_;
  std::vector<float> gradient_;
  std::vector<float> first_;  // moments
  std::vector<float> second_;
  std::vector<double> row_;  // of classes
  double decay_first_ = 1.0;
  double decay_second_ = 1.0;
};

}  // namespace selfheal
