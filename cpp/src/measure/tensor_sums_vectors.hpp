#pragma once

// Integer sums in vectors. `Isa` gives a vector of bytes and what is done with it (its members are
// listed in tensor_sums_x86.hpp); elements that fill no vector come once more, in one that ends
// with the tensor, and what was counted already is masked out.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "measure/tensor_sums_lanes.hpp"
#include "measure/tensor_sums_scalar.hpp"

namespace selfheal::detail {
namespace {

// Vectors until counters of a byte are full.
constexpr std::size_t kBlock = 255;

// Reading kWidth bytes from offset `keep` gives a mask of the last `keep` bytes.
template <std::size_t kWidth>
struct TailMask {
  std::array<std::uint8_t, 2 * kWidth> bytes{};
  constexpr TailMask() {
    for (std::size_t i = kWidth; i < 2 * kWidth; ++i) bytes[i] = 0xFF;
  }
};

template <typename Isa>
struct Kernels {
  using V = typename Isa::V;
  static constexpr std::size_t kWidth = sizeof(V);
  static constexpr TailMask<kWidth> kTail{};

  static V tail_mask(std::size_t keep) noexcept { return Isa::load(&kTail.bytes[keep]); }

  struct Byte8 {
    typename Isa::Wide sum = Isa::wide_zero();
    typename Isa::Wide change = Isa::wide_zero();
    typename Isa::Wide rough = Isa::wide_zero();
    typename Isa::Products squares = Isa::products_zero();
    V low = Isa::splat(0);
    V high = Isa::splat(0);

    void put(IntegerSums& sums) const noexcept {
      sums.sum += Isa::fold(sum);
      sums.change += Isa::fold(change);
      sums.roughness += Isa::fold(rough);
      sums.squares += Isa::fold_products(squares);
      sums.low += Isa::fold_counts(low);
      sums.high += Isa::fold_counts(high);
    }
  };

  static void input8(const std::uint8_t* x, std::size_t n, std::size_t step, std::uint8_t flip,
                     const std::uint8_t* previous, std::uint8_t* kept, IntegerSums& sums) noexcept {
    if (n < kWidth) {
      input8_scalar(x, n, step, flip, previous, kept, sums);
      return;
    }
    const V zero = Isa::splat(0);
    const V full = Isa::splat(0xFF);
    const V flips = Isa::splat(flip);
    const std::size_t pairs = step < n ? n - step : 0;
    const std::size_t whole = n - n % kWidth;
    const std::size_t whole_pairs = pairs - pairs % kWidth;
    const auto take = [&](Byte8& held, V value, std::size_t i) {
      Isa::add_distance(held.sum, value, zero);
      Isa::add_products(held.squares, value, value);
      Isa::add_distance(held.change, value, Isa::load(previous + i));
      Isa::store(kept + i, value);
      Isa::count_equal(held.low, value, zero);
      Isa::count_equal(held.high, value, full);
    };
    std::size_t i = 0;
    while (i < whole_pairs) {
      Byte8 held;
      const std::size_t end = whole_pairs - i < kBlock * kWidth ? whole_pairs : i + kBlock * kWidth;
      for (; i < end; i += kWidth) {
        const V value = Isa::flip(Isa::load(x + i), flips);
        Isa::add_distance(held.rough, value, Isa::flip(Isa::load(x + i + step), flips));
        take(held, value, i);
      }
      held.put(sums);
    }
    // Fewer vectors than a step has, and some: no counter is full before long steps are.
    while (i < whole) {
      Byte8 held;
      const std::size_t end = whole - i < kBlock * kWidth ? whole : i + kBlock * kWidth;
      for (; i < end; i += kWidth) take(held, Isa::flip(Isa::load(x + i), flips), i);
      held.put(sums);
    }
    Byte8 held;
    if (whole_pairs < pairs) {
      if (pairs < kWidth) {
        for (std::size_t j = 0; j < pairs; ++j) {
          sums.roughness += distance(static_cast<std::uint8_t>(x[j + step] ^ flip),
                                     static_cast<std::uint8_t>(x[j] ^ flip));
        }
      } else {
        const V mask = tail_mask(pairs - whole_pairs);
        const std::uint8_t* const from = x + pairs - kWidth;
        Isa::add_distance(held.rough, Isa::mask(Isa::flip(Isa::load(from), flips), mask),
                          Isa::mask(Isa::flip(Isa::load(from + step), flips), mask));
      }
    }
    if (whole < n) {
      const V mask = tail_mask(n - whole);
      const std::size_t from = n - kWidth;
      const V all = Isa::flip(Isa::load(x + from), flips);
      const V value = Isa::mask(all, mask);
      Isa::add_distance(held.sum, value, zero);
      Isa::add_products(held.squares, value, value);
      Isa::add_distance(held.change, value, Isa::mask(Isa::load(previous + from), mask));
      Isa::store(kept + from, all);
      V low = zero;
      Isa::count_equal(low, all, zero);
      held.low = Isa::mask(low, mask);
      Isa::count_equal(held.high, value, full);
    }
    held.put(sums);
  }

  static void output8(const std::uint8_t* x, std::size_t n, std::uint8_t flip, std::uint8_t level,
                      IntegerSums& sums) noexcept {
    const V zero = Isa::splat(0);
    const V flips = Isa::splat(flip);
    // Above a level: not equal to the larger of both, counted as what is left.
    const V levels = Isa::splat(level);
    const std::size_t whole = n - n % kWidth;
    auto above = static_cast<std::int64_t>(whole);
    for (std::size_t i = 0; i < whole;) {
      Byte8 held;
      const std::size_t end = whole - i < kBlock * kWidth ? whole : i + kBlock * kWidth;
      for (; i < end; i += kWidth) {
        const V value = Isa::flip(Isa::load(x + i), flips);
        Isa::add_distance(held.sum, value, zero);
        Isa::add_products(held.squares, value, value);
        Isa::count_equal(held.low, Isa::larger(value, levels), levels);
      }
      above -= Isa::fold_counts(held.low);
      held.low = zero;
      held.put(sums);
    }
    sums.high += above;
    output8_scalar(x + whole, n - whole, flip, level, sums);
  }

  static void pair8(const std::uint8_t* x, const std::uint8_t* other, std::size_t n,
                    std::uint8_t flip, PairSums& sums) noexcept {
    const V zero = Isa::splat(0);
    const V flips = Isa::splat(flip);
    const std::size_t whole = n - n % kWidth;
    for (std::size_t i = 0; i < whole;) {
      typename Isa::Wide sum = Isa::wide_zero();
      typename Isa::Products squares = Isa::products_zero();
      typename Isa::Products products = Isa::products_zero();
      const std::size_t end = whole - i < kBlock * kWidth ? whole : i + kBlock * kWidth;
      for (; i < end; i += kWidth) {
        const V value = Isa::flip(Isa::load(x + i), flips);
        Isa::add_distance(sum, value, zero);
        Isa::add_squares_and_products(squares, products, value, Isa::load(other + i));
      }
      sums.sum += Isa::fold(sum);
      sums.squares += Isa::fold_products(squares);
      sums.products += Isa::fold_products(products);
    }
    pair8_scalar(x + whole, other + whole, n - whole, flip, sums);
  }

  static void input16(const std::int16_t* x, std::size_t n, std::size_t step,
                      const std::int16_t* previous, std::int16_t* kept,
                      IntegerSums& sums) noexcept {
    constexpr std::size_t kCount = kWidth / 2;
    const V least = Isa::splat16(0x8000);
    const V most = Isa::splat16(0x7FFF);
    const std::size_t pairs = step < n ? n - step : 0;
    const std::size_t whole = n - n % kCount;
    for (std::size_t i = 0; i < whole;) {
      typename Isa::Wide sum = Isa::wide_zero();
      typename Isa::Wide change = Isa::wide_zero();
      typename Isa::Squares16 squares = Isa::squares16_zero();
      V low = Isa::splat(0);
      V high = Isa::splat(0);
      const std::size_t end = whole - i < kBlock * kCount ? whole : i + kBlock * kCount;
      const auto count = static_cast<std::int64_t>(end - i);
      for (; i < end; i += kCount) {
        const V value = Isa::load(x + i);
        Isa::add_distance16(sum, value, least);
        Isa::add_squares16(squares, value);
        Isa::add_distance16(change, value, Isa::load(previous + i));
        Isa::store(kept + i, value);
        Isa::count_equal16(low, value, least);
        Isa::count_equal16(high, value, most);
      }
      sums.sum += Isa::fold32(sum) - 32768 * count;
      sums.change += Isa::fold32(change);
      sums.squares += Isa::fold_squares16(squares);
      sums.low += Isa::fold_counts16(low);
      sums.high += Isa::fold_counts16(high);
    }
    IntegerSums rest;
    input16_scalar(x + whole, n - whole, n, previous + whole, kept + whole, rest);
    sums.sum += rest.sum;
    sums.squares += rest.squares;
    sums.low += rest.low;
    sums.high += rest.high;
    sums.change += rest.change;
    const std::size_t whole_pairs = pairs - pairs % kCount;
    for (std::size_t i = 0; i < whole_pairs;) {
      typename Isa::Wide rough = Isa::wide_zero();
      const std::size_t end = whole_pairs - i < kBlock * kCount ? whole_pairs : i + kBlock * kCount;
      for (; i < end; i += kCount) {
        Isa::add_distance16(rough, Isa::load(x + i), Isa::load(x + i + step));
      }
      sums.roughness += Isa::fold32(rough);
    }
    for (std::size_t i = whole_pairs; i < pairs; ++i) sums.roughness += distance(x[i + step], x[i]);
  }

  static constexpr TensorSums table(std::string_view name) noexcept {
    return {
        .name = name,
        .input8 = &input8,
        .input16 = &input16,
        .output8 = &output8,
        .output16 = &output16_scalar,
        .pair8 = &pair8,
        .floats = &sum_floats,
        .float_moments = &float_moments,
        .float_errors = &sum_squared_errors,
        .distance_int8 = &sum_distance<std::int8_t>,
        .distance_uint8 = &sum_distance<std::uint8_t>,
        .distance_int16 = &sum_distance<std::int16_t>,
        .distance_float = &sum_distance<float>,
    };
  }
};

}  // namespace
}  // namespace selfheal::detail
