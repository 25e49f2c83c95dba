#ifdef __aarch64__

#include <arm_neon.h>

#include "measure/tensor_sums_vectors.hpp"

namespace selfheal::detail {
namespace {

struct Neon {
  using V = uint8x16_t;
  using Wide = uint32x4_t;      // for kBlock vectors
  using Products = uint32x4_t;  // for kBlock vectors
  using Squares16 = int64x2_t;

  static V load(const void* from) noexcept {
    return vld1q_u8(static_cast<const std::uint8_t*>(from));
  }
  static void store(void* to, V value) noexcept { vst1q_u8(static_cast<std::uint8_t*>(to), value); }
  static V splat(std::uint8_t value) noexcept { return vdupq_n_u8(value); }
  static V splat16(std::uint16_t value) noexcept {
    return vreinterpretq_u8_u16(vdupq_n_u16(value));
  }
  static V flip(V value, V flips) noexcept { return veorq_u8(value, flips); }
  static V mask(V value, V mask) noexcept { return vandq_u8(value, mask); }
  static V larger(V a, V b) noexcept { return vmaxq_u8(a, b); }

  static Wide wide_zero() noexcept { return vdupq_n_u32(0); }
  static Products products_zero() noexcept { return vdupq_n_u32(0); }
  static Squares16 squares16_zero() noexcept { return vdupq_n_s64(0); }

  static void add_distance(Wide& sum, V a, V b) noexcept {
    sum = vpadalq_u16(sum, vpaddlq_u8(vabdq_u8(a, b)));
  }
  static void add_products(Products& sum, V a, V b) noexcept {
    sum = vpadalq_u16(sum, vmull_u8(vget_low_u8(a), vget_low_u8(b)));
    sum = vpadalq_u16(sum, vmull_high_u8(a, b));
  }
  static void add_squares_and_products(Products& squares, Products& products, V a, V b) noexcept {
    add_products(squares, a, a);
    add_products(products, a, b);
  }
  static void count_equal(V& counts, V a, V b) noexcept {
    counts = vsubq_u8(counts, vceqq_u8(a, b));
  }

  static std::int64_t fold(Wide sum) noexcept {
    return static_cast<std::int64_t>(vaddlvq_u32(sum));
  }
  static std::int64_t fold_products(Products sum) noexcept { return fold(sum); }
  static std::int64_t fold_counts(V counts) noexcept { return vaddlvq_u8(counts); }

  static void add_distance16(Wide& sum, V a, V b) noexcept {
    const int16x8_t gap =
        vabdq_s16(vreinterpretq_s16_u8(a), vreinterpretq_s16_u8(b));  // as unsigned
    sum = vpadalq_u16(sum, vreinterpretq_u16_s16(gap));
  }
  static void add_squares16(Squares16& sum, V a) noexcept {
    const int16x8_t value = vreinterpretq_s16_u8(a);
    sum = vpadalq_s32(sum, vmull_s16(vget_low_s16(value), vget_low_s16(value)));
    sum = vpadalq_s32(sum, vmull_high_s16(value, value));
  }
  static void count_equal16(V& counts, V a, V b) noexcept {
    const uint16x8_t equal = vceqq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b));
    counts = vreinterpretq_u8_u16(vsubq_u16(vreinterpretq_u16_u8(counts), equal));
  }
  static std::int64_t fold32(Wide sum) noexcept { return fold(sum); }
  static std::int64_t fold_squares16(Squares16 sum) noexcept { return vaddvq_s64(sum); }
  static std::int64_t fold_counts16(V counts) noexcept {
    return vaddlvq_u16(vreinterpretq_u16_u8(counts));
  }
};

}  // namespace

const TensorSums neon_sums = Kernels<Neon>::table("neon");

}  // namespace selfheal::detail

#endif
