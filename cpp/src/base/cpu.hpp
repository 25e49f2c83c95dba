#pragma once

#include <cstdint>

namespace selfheal::detail {

/// What a processor can have beyond what this library is compiled for; a set of bits. Those of
/// another architecture it never has.
enum CpuFeature : std::uint32_t {
  kNothing = 0,
  kX86Sse42 = 1U << 0,
  kX86Pclmul = 1U << 1,
  kX86Aes = 1U << 2,
  kX86Avx2 = 1U << 3,
  kX86Avx512f = 1U << 4,
  kArmCrc32 = 1U << 5,
  kArmAes = 1U << 6,
  kArmPmull = 1U << 7,
};

/// Whether the processor and its operating system have all of `features`. To be asked once, not in
/// a loop.
bool cpu_has(std::uint32_t features) noexcept;

}  // namespace selfheal::detail
