#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "samples.hpp"
#include "selfheal/base/crc32c.hpp"

using namespace selfheal;

namespace {

// The definition, bit by bit.
std::uint32_t slow(std::span<const std::byte> bytes, std::uint32_t value = 0) {
  std::uint32_t state = ~value;
  for (const std::byte byte : bytes) {
    state ^= std::to_integer<std::uint32_t>(byte);
    for (int i = 0; i < 8; ++i) state = (state >> 1) ^ ((state & 1U) != 0 ? 0x82F63B78U : 0U);
  }
  return ~state;
}

template <typename Test>
void with_every_backend(Test&& test) {
  for (const auto name : crc32c_backends()) {
    CAPTURE(name);
    REQUIRE(set_crc32c_backend(name));
    CHECK(crc32c_backend() == name);
    test();
  }
  set_crc32c_backend(crc32c_backends().front());
}

}  // namespace

TEST_CASE("the fastest backend is in use, portable is always there") {
  CHECK(crc32c_backend() == crc32c_backends().front());
  CHECK(crc32c_backends().back() == "portable");
  CHECK_FALSE(set_crc32c_backend("abacus"));
  CHECK(crc32c_backend() == crc32c_backends().front());
}

TEST_CASE("vectors of RFC 3720, appendix B.4") {
  with_every_backend([] {
    std::array<std::byte, 32> bytes{};
    CHECK(crc32c(bytes) == 0x8A9136AAU);
    bytes.fill(std::byte{0xFF});
    CHECK(crc32c(bytes) == 0x62A8AB43U);
    for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(i);
    CHECK(crc32c(bytes) == 0x46DD794EU);
    std::reverse(bytes.begin(), bytes.end());
    CHECK(crc32c(bytes) == 0x113FDB5CU);
    const std::array<unsigned char, 48> read_command{
        0x01, 0xC0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
        0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
        0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
    CHECK(crc32c(std::as_bytes(std::span(read_command))) == 0xD9963A56U);
    CHECK(crc32c({}) == 0);
  });
}

TEST_CASE("every length and alignment, and long inputs, equal the definition") {
  const auto bytes = testing::random_bytes(70000, 1);
  with_every_backend([&] {
    for (std::size_t offset = 0; offset < 9; ++offset) {
      for (std::size_t size = 0; size < 700; size += offset == 0 ? 1 : 7) {
        const auto part = std::span(bytes).subspan(offset, size);
        REQUIRE(crc32c(part) == slow(part));
      }
    }
    for (const std::size_t size : {6143U, 6144U, 6145U, 12288U, 65536U, 69999U}) {
      REQUIRE(crc32c(std::span(bytes).first(size)) == slow(std::span(bytes).first(size)));
    }
  });
}

TEST_CASE("a checksum continues where another ended") {
  const auto bytes = testing::random_bytes(5000, 2);
  with_every_backend([&] {
    const std::uint32_t whole = crc32c(bytes);
    for (std::size_t cut = 0; cut <= bytes.size(); cut += 61) {
      REQUIRE(crc32c(std::span(bytes).subspan(cut), crc32c(std::span(bytes).first(cut))) == whole);
    }
  });
}

TEST_CASE("every single flipped bit of a block changes it") {
  auto bytes = testing::random_bytes(512, 3);
  const std::uint32_t good = crc32c(bytes);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    REQUIRE(crc32c(bytes) != good);
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}
