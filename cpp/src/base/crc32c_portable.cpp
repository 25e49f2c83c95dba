#include "base/crc32c_backends.hpp"

namespace selfheal::detail {
namespace {

constexpr std::size_t kSlices = 8;
using Tables = std::array<std::array<std::uint32_t, 256>, kSlices>;

constexpr Tables make_tables() noexcept {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t state = byte;
    for (int bit = 0; bit < 8; ++bit) state = crc32c_times_x(state);
    tables[0][byte] = state;
  }
  for (std::size_t slice = 1; slice < kSlices; ++slice) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xFFU];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

// Composed from bytes: right on any alignment and byte order; compilers make one load of it.
constexpr std::uint32_t load_le32(const std::byte* data) noexcept {
  return std::to_integer<std::uint32_t>(data[0]) | std::to_integer<std::uint32_t>(data[1]) << 8 |
         std::to_integer<std::uint32_t>(data[2]) << 16 |
         std::to_integer<std::uint32_t>(data[3]) << 24;
}

}  // namespace

std::uint32_t crc32c_portable(std::uint32_t state, const std::byte* data,
                              std::size_t size) noexcept {
  for (; size >= 8; data += 8, size -= 8) {
    const std::uint32_t low = state ^ load_le32(data);
    const std::uint32_t high = load_le32(data + 4);
    state = kTables[7][low & 0xFFU] ^ kTables[6][(low >> 8) & 0xFFU] ^
            kTables[5][(low >> 16) & 0xFFU] ^ kTables[4][low >> 24] ^ kTables[3][high & 0xFFU] ^
            kTables[2][(high >> 8) & 0xFFU] ^ kTables[1][(high >> 16) & 0xFFU] ^
            kTables[0][high >> 24];
  }
  for (; size > 0; ++data, --size) {
    state = (state >> 8) ^ kTables[0][(state ^ std::to_integer<std::uint32_t>(*data)) & 0xFFU];
  }
  return state;
}

}  // namespace selfheal::detail
