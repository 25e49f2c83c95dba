#pragma once

// The sums behind the signals of signal_pass.hpp: one set of functions per instruction set, all
// with the same results.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace selfheal::detail {

// Of 8 bits: of u = q XOR flip, 0 to 255 (flip 0x80 makes int8 unsigned and keeps the order). Of
// int16: of q.
struct IntegerSums {
  std::int64_t sum = 0;
  std::int64_t squares = 0;
  std::int64_t low = 0;   // elements at the type's least value
  std::int64_t high = 0;  // at its greatest
  std::int64_t roughness = 0;
  std::int64_t change = 0;
};

// Of two tensors of 8 bits: one and its products with the other.
struct PairSums {
  std::int64_t sum = 0;
  std::int64_t squares = 0;
  std::int64_t products = 0;
};

// Of x - pivot, but for the last.
struct FloatSums {
  double sum = 0.0;
  double squares = 0.0;
  double roughness = 0.0;
  double change = 0.0;
  std::int64_t active = 0;  // elements above zero
};

struct TensorSums {
  std::string_view name;
  // All sums over n elements, roughness over n - step pairs; `previous` is compared with, and the
  // elements are copied to `kept` (8 bits: u; int16: q), which may be the same memory. 1 <= step;
  // where step >= n there are no pairs.
  void (*input8)(const std::uint8_t* x, std::size_t n, std::size_t step, std::uint8_t flip,
                 const std::uint8_t* previous, std::uint8_t* kept, IntegerSums& sums) noexcept;
  void (*input16)(const std::int16_t* x, std::size_t n, std::size_t step,
                  const std::int16_t* previous, std::int16_t* kept, IntegerSums& sums) noexcept;
  // The sum, the squares, and into `high` the elements above `level`.
  void (*output8)(const std::uint8_t* x, std::size_t n, std::uint8_t flip, std::uint8_t level,
                  IntegerSums& sums) noexcept;
  void (*output16)(const std::int16_t* x, std::size_t n, std::int16_t level,
                   IntegerSums& sums) noexcept;
  // `other` holds u already.
  void (*pair8)(const std::uint8_t* x, const std::uint8_t* other, std::size_t n, std::uint8_t flip,
                PairSums& sums) noexcept;
  // All sums but `active`, as those of `input8`; the elements are copied to `kept`, unless it is
  // null. Floats are multiplied and added in short blocks: not finite as soon as an element, a
  // difference or a product is not, and zero where all products are too small for a float.
  void (*floats)(const float* x, std::size_t n, std::size_t step, float pivot,
                 const float* previous, float* kept, FloatSums& sums) noexcept;
  // Sum, squares and `active`, likewise.
  void (*float_moments)(const float* x, std::size_t n, float pivot, FloatSums& sums) noexcept;
  // The sum of (x - other)^2; not finite as soon as an element is not.
  double (*float_errors)(const float* x, const float* other, std::size_t n) noexcept;
  // The sum of precision * (x - centroid)^2, in sixteen sums of floats.
  double (*distance_int8)(const std::int8_t* x, std::size_t n, const float* centroid,
                          const float* precision) noexcept;
  double (*distance_uint8)(const std::uint8_t* x, std::size_t n, const float* centroid,
                           const float* precision) noexcept;
  double (*distance_int16)(const std::int16_t* x, std::size_t n, const float* centroid,
                           const float* precision) noexcept;
  double (*distance_float)(const float* x, std::size_t n, const float* centroid,
                           const float* precision) noexcept;
};

extern const TensorSums portable_sums;
#if defined(__SSE2__)
extern const TensorSums sse2_sums;
#endif
#if defined(SELFHEAL_AVX2)
extern const TensorSums avx2_sums;
#endif
#if defined(__aarch64__)
extern const TensorSums neon_sums;
#endif

}  // namespace selfheal::detail
