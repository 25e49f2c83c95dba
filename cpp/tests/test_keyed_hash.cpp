#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <array>
#include <numeric>
#include <vector>

#include "samples.hpp"
#include "selfheal/keyed_hash.hpp"

using namespace selfheal;

namespace {

constexpr HashKey kPaperKey{0x0706050403020100U, 0x0F0E0D0C0B0A0908U};

std::vector<std::byte> counting(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

}  // namespace

TEST_CASE("the vectors of the paper (appendix A) and of the authors' reference code") {
  CHECK(keyed_hash(kPaperKey, counting(15)) == 0xA129CA6149BE45E5U);
  CHECK(keyed_hash(kPaperKey, {}) == 0x726FDB47DD0E0E31U);
  CHECK(keyed_hash(kPaperKey, counting(1)) == 0x74F839C593DC67FDU);
  CHECK(keyed_hash(kPaperKey, counting(2)) == 0x0D6C8009D9A94F5AU);
  CHECK(keyed_hash(kPaperKey, counting(8)) == 0x93F5F5799A932462U);
}

TEST_CASE("a tweak is eight bytes in front") {
  const auto whole = counting(700);
  for (const std::size_t size : {8U, 9U, 15U, 16U, 520U, 700U}) {
    CHECK(keyed_hash(kPaperKey, 0x0706050403020100U, std::span(whole).subspan(8, size - 8)) ==
          keyed_hash(kPaperKey, std::span(whole).first(size)));
  }
}

TEST_CASE("any alignment, and every bit counts") {
  const auto bytes = testing::random_bytes(600, 1);
  std::vector<std::byte> moved(608);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::copy(bytes.begin(), bytes.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    CHECK(keyed_hash(kPaperKey, std::span(moved).subspan(shift, 600)) ==
          keyed_hash(kPaperKey, bytes));
  }
  auto flipped = bytes;
  for (std::size_t bit = 0; bit < 600 * 8; ++bit) {
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK(keyed_hash(kPaperKey, flipped) != keyed_hash(kPaperKey, bytes));
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
}

TEST_CASE("a key survives damage to any one copy") {
  const HashKey key{0x123456789ABCDEF0U, 0x0FEDCBA987654321U};
  for (std::size_t bit = 0; bit < 3 * 128; ++bit) {
    KeptKey kept(key);
    kept.copies()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK(kept.get() == key);
    CHECK_FALSE(kept.is_whole());
    CHECK(kept.mend());
    CHECK(kept.is_whole());
    CHECK_FALSE(kept.mend());
    CHECK(kept.get() == key);
  }
}
