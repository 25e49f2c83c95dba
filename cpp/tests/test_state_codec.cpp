#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "selfheal/base/crc32c.hpp"
#include "selfheal/base/state_codec.hpp"

using namespace selfheal;

namespace {

constexpr StateTag kTag = state_tag("TEST");

std::vector<std::byte> blob(std::uint16_t version = 2) {
  StateWriter writer(kTag, version);
  writer.u8(7);
  writer.u32(0x01020304);
  writer.u64(~std::uint64_t{0});
  writer.f32(1.5F);
  writer.f64(-0.0);
  return std::move(writer).finish();
}

}  // namespace

TEST_CASE("the layout is what the header says, byte for byte") {
  StateWriter writer(kTag, 0x0102);
  writer.u32(0x0A0B0C0D);
  const auto bytes = std::move(writer).finish();
  const unsigned char expected[] = {'S', 'H', 'S', 'T', 1, 0, 2, 1, 'T', 'E', 'S', 'T',
                                    4,   0,   0,   0,   0, 0, 0, 0, 0xD, 0xC, 0xB, 0xA};
  REQUIRE(bytes.size() == sizeof expected + 4);
  for (std::size_t i = 0; i < sizeof expected; ++i) {
    CHECK(std::to_integer<unsigned>(bytes[i]) == expected[i]);
  }
}

TEST_CASE("fields come back in order") {
  const auto bytes = blob();
  StateReader reader(bytes, kTag, 2);
  CHECK(reader.version() == 2);
  CHECK(reader.u8() == 7);
  CHECK(reader.u32() == 0x01020304);
  CHECK(reader.u64() == ~std::uint64_t{0});
  CHECK(reader.f32() == 1.5F);
  CHECK(std::signbit(reader.f64()));
  reader.finish();
}

TEST_CASE("each way to be wrong has its own error") {
  const auto bytes = blob();
  CHECK_THROWS_AS(StateReader({}, kTag, 2), StateTruncatedError);
  CHECK_THROWS_AS(StateReader(bytes, state_tag("ELSE"), 2), StateTypeError);
  CHECK_THROWS_AS(StateReader(bytes, kTag, 1), StateVersionError);
  CHECK_THROWS_AS(StateReader(blob(0), kTag, 2), StateVersionError);
  StateReader reader(bytes, kTag, 2);
  CHECK_THROWS_AS(reader.finish(), StateCorruptError);
  for (int i = 0; i < 3; ++i) reader.u64();
  CHECK_THROWS_AS(reader.u64(), StateCorruptError);
}

TEST_CASE("every truncation, extension and flipped bit is refused") {
  const auto good = blob();
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK_THROWS_AS(StateReader(std::span(good).first(size), kTag, 2), StateError);
  }
  auto longer = good;
  longer.push_back(std::byte{0});
  CHECK_THROWS_AS(StateReader(longer, kTag, 2), StateTruncatedError);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    auto bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    CHECK_THROWS_AS(StateReader(bad, kTag, 2), StateError);
  }
}
