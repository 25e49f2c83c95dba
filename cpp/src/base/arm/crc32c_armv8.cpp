// Compiled with the CRC extension enabled, and only entered after the CPU was asked.
#include <arm_acle.h>

#include <cstring>

#include "base/crc32c_backends.hpp"

namespace selfheal::detail {
namespace {

template <typename Word>
inline Word load(const std::byte* data) noexcept {
  Word word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

#if defined(__aarch64__)
// Three streams keep the pipelined instruction busy; Cortex-A72 has no carry-less multiplication,
// so registers are moved over `kWords` words by tables, one per byte of the register.
constexpr std::size_t kWords = 21;  // 3 * 21 * 8 = 504 bytes: one block of 512
constexpr std::size_t kStride = 8 * kWords;
using ShiftTable = std::array<std::array<std::uint32_t, 256>, 4>;

constexpr ShiftTable make_shift_table() noexcept {
  std::array<std::uint32_t, 32> bits{};
  for (std::size_t bit = 0; bit < 32; ++bit) {
    std::uint32_t state = std::uint32_t{1} << bit;
    for (std::size_t i = 0; i < 64 * kWords; ++i) state = crc32c_times_x(state);
    bits[bit] = state;
  }
  ShiftTable table{};
  for (std::size_t byte = 0; byte < 4; ++byte) {
    for (std::size_t value = 0; value < 256; ++value) {
      std::uint32_t sum = 0;
      for (std::size_t bit = 0; bit < 8; ++bit) {
        if (((value >> bit) & 1U) != 0) sum ^= bits[8 * byte + bit];
      }
      table[byte][value] = sum;
    }
  }
  return table;
}

constexpr ShiftTable kShift = make_shift_table();

inline std::uint32_t shift(std::uint32_t state) noexcept {
  return kShift[0][state & 0xFFU] ^ kShift[1][(state >> 8) & 0xFFU] ^
         kShift[2][(state >> 16) & 0xFFU] ^ kShift[3][state >> 24];
}
#endif

}  // namespace

std::uint32_t crc32c_armv8(std::uint32_t state, const std::byte* data, std::size_t size) noexcept {
#if defined(__aarch64__)
  for (; size >= 3 * kStride; data += 3 * kStride, size -= 3 * kStride) {
    std::uint32_t b = 0;
    std::uint32_t c = 0;
    for (std::size_t offset = 0; offset < kStride; offset += 8) {
      state = __crc32cd(state, load<std::uint64_t>(data + offset));
      b = __crc32cd(b, load<std::uint64_t>(data + kStride + offset));
      c = __crc32cd(c, load<std::uint64_t>(data + 2 * kStride + offset));
    }
    state = shift(shift(state) ^ b) ^ c;
  }
  for (; size >= 8; data += 8, size -= 8) state = __crc32cd(state, load<std::uint64_t>(data));
#endif
  for (; size >= 4; data += 4, size -= 4) state = __crc32cw(state, load<std::uint32_t>(data));
  for (; size > 0; ++data, --size) {
    state = __crc32cb(state, std::to_integer<unsigned char>(*data));
  }
  return state;
}

}  // namespace selfheal::detail
