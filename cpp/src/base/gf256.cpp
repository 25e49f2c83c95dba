#include "selfheal/base/gf256.hpp"

#include <array>
#include <cstring>

namespace selfheal::gf256 {
namespace {

struct Tables {
  std::array<std::uint8_t, 510> power{};  // of the generator 2, twice round
  std::array<std::uint8_t, 256> logarithm{};
};

constexpr Tables make_tables() noexcept {
  Tables tables;
  unsigned x = 1;
  for (std::size_t i = 0; i < 255; ++i) {
    tables.power[i] = tables.power[i + 255] = static_cast<std::uint8_t>(x);
    tables.logarithm[x] = static_cast<std::uint8_t>(i);
    x <<= 1;
    if ((x & 0x100U) != 0) x ^= 0x11DU;
  }
  return tables;
}

constexpr Tables kTables = make_tables();
constexpr std::size_t kLane = 64;

using Lane = std::array<std::uint8_t, kLane>;

// One lane: fixed length, no branch on data, so that it becomes vector code.
void multiply_add_lane(Lane& sum, const std::array<std::uint8_t, 8>& mask, Lane x) noexcept {
  for (std::size_t bit = 0; bit < 8; ++bit) {
    for (std::size_t i = 0; i < kLane; ++i) {
      sum[i] = static_cast<std::uint8_t>(sum[i] ^ (x[i] & mask[bit]));
      const auto carry = static_cast<std::uint8_t>((x[i] >> 7) * 0x1DU);
      x[i] = static_cast<std::uint8_t>((x[i] + x[i]) ^ carry);
    }
  }
}

}  // namespace

std::uint8_t multiply(std::uint8_t a, std::uint8_t b) noexcept {
  if (a == 0 || b == 0) return 0;
  return kTables.power[std::size_t{kTables.logarithm[a]} + kTables.logarithm[b]];
}

std::uint8_t inverse(std::uint8_t a) noexcept { return kTables.power[255 - kTables.logarithm[a]]; }

void multiply_add(std::span<std::byte> sum, std::uint8_t factor,
                  std::span<const std::byte> bytes) noexcept {
  if (factor == 0) return;
  std::array<std::uint8_t, 8> mask{};
  for (std::size_t bit = 0; bit < 8; ++bit) mask[bit] = ((factor >> bit) & 1) != 0 ? 0xFF : 0;
  for (std::size_t at = 0; at < bytes.size(); at += kLane) {
    const std::size_t size = bytes.size() - at < kLane ? bytes.size() - at : kLane;
    Lane x{};
    Lane y{};
    std::memcpy(x.data(), bytes.data() + at, size);
    std::memcpy(y.data(), sum.data() + at, size);
    if (factor == 1) {
      for (std::size_t i = 0; i < kLane; ++i) y[i] ^= x[i];
    } else {
      multiply_add_lane(y, mask, x);
    }
    std::memcpy(sum.data() + at, y.data(), size);
  }
}

}  // namespace selfheal::gf256
