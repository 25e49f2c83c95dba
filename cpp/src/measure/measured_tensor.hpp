#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "measure/sample_ring.hpp"
#include "measure/tensor_sums.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

inline bool is_byte(ElementType type) noexcept {
  return type == ElementType::kInt8 || type == ElementType::kUint8;
}

inline std::size_t bytes_of(ElementType type) noexcept {
  if (type == ElementType::kFloat32) return 4;
  return type == ElementType::kInt16 ? 2 : 1;
}

// What makes a byte unsigned, and the zero point of what comes out.
inline std::uint8_t flip_of(ElementType type) noexcept {
  return type == ElementType::kInt8 ? 0x80 : 0;
}
inline std::int32_t zero_of(const TensorLayout& layout) noexcept {
  return layout.quantization.zero_point + (layout.type == ElementType::kInt8 ? 128 : 0);
}

struct Spread {
  double mean;
  double std;
};

// Of integers, given their sums; `zero` belongs to what was summed.
Spread spread_of(std::int64_t sum, std::int64_t squares, std::int64_t n, double per_element,
                 double scale, std::int32_t zero) noexcept;

// Sums of x - pivot, of finite elements.
struct Moments {
  double sum = 0.0;
  double squares = 0.0;
  std::uint64_t finite = 0;
  std::int64_t active = 0;  // of all elements
};

// Of floats about zero: quick where products of floats do, else in doubles.
Moments moments_of(const float* x, std::size_t n, const TensorSums& sums) noexcept;

struct InputResult {
  std::uint64_t nonfinite;
  bool repeats;
};

// One input, and copies of what it was in the latest inferences that were kept.
class MeasuredInput {
 public:
  MeasuredInput(const TensorLayout& layout, std::size_t index, const TensorSums& sums,
                std::size_t rows);

  std::size_t index() const noexcept { return index_; }
  const TensorLayout& layout() const noexcept { return layout_; }
  std::span<const SignalRole> roles() const noexcept;
  std::size_t signals() const noexcept { return signals_; }

  // Writes signals() numbers.
  InputResult measure(const void* tensor, double* row) noexcept;
  // What was measured is the previous input from now on.
  void keep() noexcept {
    ring_.keep();
    has_previous_ = true;
  }
  void forget() noexcept { has_previous_ = false; }

  // Of what was measured last and not kept yet: its elements (8 bits: u; int16: q), sum and sum of
  // squares (integers).
  const void* values() const noexcept { return ring_.next(); }
  std::int64_t sum() const noexcept { return sum_; }
  std::int64_t squares() const noexcept { return squares_; }

  std::size_t rows() const noexcept { return ring_.rows(); }
  std::size_t memory_bytes() const noexcept { return sizeof *this + ring_.memory_bytes(); }
  // Bytes of one copy.
  std::size_t bytes() const noexcept { return ring_.bytes(); }
  // Copies the latest `count` kept inputs, oldest first, as they came.
  void copy_recent(std::size_t count, std::byte* to) const noexcept;

 private:
  InputResult measure_integers(const void* tensor, double* row) noexcept;
  InputResult measure_floats(const float* tensor, double* row) noexcept;

  TensorLayout layout_;
  std::size_t index_;
  const TensorSums* sums_;
  std::size_t step_;
  std::size_t signals_;
  double per_element_;
  double per_pair_;
  SampleRing ring_;
  std::int64_t sum_ = 0;
  std::int64_t squares_ = 0;
  bool has_previous_ = false;
};

// One output of a model without classes.
class MeasuredOutput {
 public:
  MeasuredOutput(const TensorLayout& layout, std::size_t index, const TensorSums& sums);

  std::size_t index() const noexcept { return index_; }

  // Writes mean and standard deviation and, if it imitates `input`, the reconstruction error.
  // False if an element is not finite.
  bool measure(const void* tensor, const MeasuredInput* input, double* row,
               double* error) const noexcept;

 private:
  double error_against(const MeasuredInput& input, const void* tensor) const noexcept;
  void measure_bytes(const std::uint8_t* tensor, const MeasuredInput& input, double* row,
                     double* error) const noexcept;

  TensorLayout layout_;
  std::size_t index_;
  const TensorSums* sums_;
  double per_element_;
};

}  // namespace selfheal::detail
