#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "selfheal/measure/signal_pass.hpp"

namespace selfheal {

/// How one input is read.
struct InputAxes {
  std::vector<std::size_t> shape;  ///< 1 to 8 axes of at least one element
  int channel = -1;  ///< the axis whose elements are sensors or colours of their own; -1: none
  std::vector<std::size_t> smooth;  ///< axes along which neighbours look alike, in order
};

/// Mean, spread and roughness of each channel of an input, in this order, channel by channel:
/// roughness is the mean absolute step along the smooth axes but the channels' own, 0 without any.
/// A channel of one element has a mean alone.
///
/// What is not finite counts as 0, what lies beyond 1e12 as that. Memory: four bytes an element,
/// allocated at construction. Some 3 ns an element.
class ChannelNumbers {
 public:
  /// Throws std::invalid_argument.
  ChannelNumbers(InputAxes axes, Quantization quantization);

  /// Numbers of an input.
  std::size_t size() const noexcept { return size_; }
  /// Elements of an input.
  std::size_t elements() const noexcept { return values_.size(); }
  /// Measures one input of this type; `numbers` has size() of them.
  void measure(const void* input, ElementType type, std::span<double> numbers) noexcept;

  std::size_t memory_bytes() const noexcept;

 private:
  /// Stretches of an input within each of which an element has its neighbour `step` further on.
  struct Smooth {
    std::size_t blocks;
    std::size_t length;
    std::size_t step;
  };
  template <typename T>
  void read(const T* input) noexcept;
  template <typename Term>
  void add(std::size_t first, std::size_t count, Term term) noexcept;
  template <typename Term>
  void add_all(Term term) noexcept;

  std::size_t channels_ = 1;
  std::size_t inner_ = 1;  // elements that follow each other within a channel
  std::size_t size_ = 0;
  float scale_;
  float zero_point_;
  std::vector<Smooth> smooth_;
  std::vector<float> values_;
  std::vector<float> lanes_;    // sums of elements whose place in a few periods is the same
  std::vector<double> totals_;  // one a channel
  std::vector<float> middles_;  // means, as often as there are lanes
};

}  // namespace selfheal
