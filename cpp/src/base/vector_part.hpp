#pragma once

// A vector of doubles as wide as the including source file's instruction set has: GCC's and
// Clang's vector types.

#include <cstddef>
#include <cstdint>

namespace selfheal {
namespace {

// Wider types than the instruction set has would be taken apart, comparisons at great cost.
#ifdef __AVX2__
constexpr std::size_t kPartWidth = 4;
#else
constexpr std::size_t kPartWidth = 2;
#endif
using DoublePart = double __attribute__((vector_size(kPartWidth * sizeof(double))));
// What a comparison gives: all bits set where it holds.
using MaskPart = std::int64_t __attribute__((vector_size(kPartWidth * sizeof(double))));

// Vectors go by reference: passed by value, they would depend on the instruction set's ABI.
inline void load_part(const double* from, DoublePart& part) noexcept {
  __builtin_memcpy(&part, from, sizeof part);
}
inline void store_part(const DoublePart& part, double* to) noexcept {
  __builtin_memcpy(to, &part, sizeof part);
}

}  // namespace
}  // namespace selfheal
