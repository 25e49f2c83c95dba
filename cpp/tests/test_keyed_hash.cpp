#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "samples.hpp"
#include "selfheal/keyed_hash.hpp"

using namespace selfheal;

namespace {

constexpr HashKey kPaperKey{0x0706050403020100U, 0x0F0E0D0C0B0A0908U};

std::vector<std::byte> words(const std::vector<std::uint64_t>& values) {
  std::vector<std::byte> bytes;
  for (const std::uint64_t value : values) {
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  return bytes;
}

std::vector<std::byte> counting(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

// Layer 1 as its definition reads, and SipHash over all of it.
std::uint64_t slow_hash(HashKey key, std::uint64_t tweak, const std::vector<std::byte>& bytes) {
  const auto derived = [&](std::uint64_t i) { return siphash(key, words({i})); };
  std::vector<std::uint64_t> outer;
  for (std::size_t begin = 0; begin < bytes.size(); begin += 512) {
    for (std::size_t pass = 0; pass < 2; ++pass) {
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < 64; ++i) {
        std::uint64_t m = 0;
        for (std::size_t byte = 8; byte-- > 0;) {
          const std::size_t at = begin + 8 * i + byte;
          m = m << 8 | (at < bytes.size() ? std::to_integer<std::uint64_t>(bytes[at]) : 0U);
        }
        // Beyond the end there is no NH: the padding reaches to the end of a stripe.
        if (begin + i / 8 * 64 >= bytes.size()) continue;
        const std::uint64_t k = derived(i + 8 * pass);
        sum += std::uint64_t{static_cast<std::uint32_t>(m + (k & 0xFFFFFFFFU))} *
               static_cast<std::uint32_t>((m >> 32) + (k >> 32));
      }
      outer.push_back(sum);
    }
  }
  outer.push_back(tweak);
  outer.push_back(bytes.size());
  const auto message = words(outer);  // all but the top byte of the size
  return siphash({derived(72), derived(73)}, std::span(message).first(message.size() - 1));
}

}  // namespace

TEST_CASE("SipHash: the vectors of the paper (appendix A) and of the authors' reference code") {
  CHECK(siphash(kPaperKey, counting(15)) == 0xA129CA6149BE45E5U);
  CHECK(siphash(kPaperKey, {}) == 0x726FDB47DD0E0E31U);
  CHECK(siphash(kPaperKey, counting(1)) == 0x74F839C593DC67FDU);
  CHECK(siphash(kPaperKey, counting(2)) == 0x0D6C8009D9A94F5AU);
  CHECK(siphash(kPaperKey, counting(8)) == 0x93F5F5799A932462U);
}

TEST_CASE("every backend, any length: what the definition says") {
  const HashSchedule schedule(kPaperKey);
  CHECK(keyed_hash_backends().back() == "portable");
  for (std::size_t size = 0; size < 1200; size += size < 140 ? 1 : 37) {
    const auto bytes = testing::random_bytes(size, static_cast<unsigned>(size));
    const std::uint64_t expected = slow_hash(kPaperKey, size, bytes);
    for (const auto name : keyed_hash_backends()) {
      CAPTURE(name);
      REQUIRE(set_keyed_hash_backend(name));
      REQUIRE(keyed_hash_backend() == name);
      REQUIRE(keyed_hash(schedule, size, bytes) == expected);
    }
  }
  CHECK(set_keyed_hash_backend(keyed_hash_backends().front()));
  CHECK_FALSE(set_keyed_hash_backend("abacus"));
}

TEST_CASE("a row: the hashes one by one, and the copies on the side") {
  const HashSchedule schedule(kPaperKey);
  const auto bytes = testing::random_bytes(8 * 600, 5);
  for (const std::size_t size : {0U, 1U, 64U, 320U, 511U, 512U, 576U}) {
    for (std::size_t count = 0; count <= 8; ++count) {
      std::vector<std::uint64_t> tweaks;
      std::vector<const std::byte*> blocks;
      std::vector<std::byte> copied(8 * size);
      std::vector<BlockCopy> copies;
      for (std::size_t i = 0; i < 8; ++i) {
        if (i < count) tweaks.push_back(i * i << 31);
        if (i < count) blocks.push_back(bytes.data() + (7 - i) * 601 / 2);
        if (i < 8 - count / 2) copies.push_back({bytes.data() + 7 * i, copied.data() + i * size});
      }
      for (const auto name : keyed_hash_backends()) {
        REQUIRE(set_keyed_hash_backend(name));
        std::vector<std::uint64_t> hashes(count);
        std::fill(copied.begin(), copied.end(), std::byte{0});
        keyed_hashes(schedule, tweaks, blocks, size, hashes, copies);
        for (std::size_t i = 0; i < count; ++i) {
          REQUIRE(hashes[i] == keyed_hash(schedule, tweaks[i], {blocks[i], size}));
        }
        for (const BlockCopy& copy : copies) {
          REQUIRE(std::equal(copy.to, copy.to + size, copy.from));
        }
        const auto* const end = copied.data() + copies.size() * size;
        REQUIRE(std::count(end, std::as_const(copied).data() + copied.size(), std::byte{0}) ==
                static_cast<std::ptrdiff_t>((8 - copies.size()) * size));
      }
    }
  }
  CHECK(set_keyed_hash_backend(keyed_hash_backends().front()));
}

TEST_CASE("a value that must not change between machines and versions") {
  CHECK(keyed_hash(HashSchedule(kPaperKey), 7, counting(700)) == 4657721903316251254U);
}

TEST_CASE("tweak, length and zeros at the end count") {
  const HashSchedule schedule(kPaperKey);
  std::vector<std::uint64_t> values;
  for (std::size_t size = 0; size < 130; ++size) {
    const std::vector<std::byte> zeros(size);
    for (std::uint64_t tweak = 0; tweak < 3; ++tweak) {
      values.push_back(keyed_hash(schedule, tweak, zeros));
    }
  }
  std::sort(values.begin(), values.end());
  CHECK(std::adjacent_find(values.begin(), values.end()) == values.end());
}

TEST_CASE("any alignment, and every bit of content and key counts") {
  const HashSchedule schedule(kPaperKey);
  const auto bytes = testing::random_bytes(600, 1);
  const std::uint64_t expected = keyed_hash(schedule, 1, bytes);
  std::vector<std::byte> moved(664);
  for (std::size_t shift = 0; shift < 64; ++shift) {
    std::copy(bytes.begin(), bytes.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    CHECK(keyed_hash(schedule, 1, std::span(moved).subspan(shift, 600)) == expected);
  }
  auto flipped = bytes;
  for (std::size_t bit = 0; bit < 600 * 8; ++bit) {
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK(keyed_hash(schedule, 1, flipped) != expected);
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
  HashSchedule damaged = schedule;
  for (std::size_t bit = 0; bit < damaged.bytes().size() * 8; ++bit) {
    damaged.bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK(keyed_hash(damaged, 1, bytes) != expected);
    damaged.bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
}

TEST_CASE("differences an attacker would try first do not cancel under any of many keys") {
  // Swapped words, swapped halves, moved by a stripe, +1 and -1 in paired words, all top bits.
  const auto bytes = testing::random_bytes(512, 3);
  std::vector<std::vector<std::byte>> variants;
  const auto add = [&](auto change) {
    variants.push_back(bytes);
    change(variants.back());
  };
  add([](auto& b) { std::swap_ranges(b.begin(), b.begin() + 8, b.begin() + 8); });
  add([](auto& b) { std::swap_ranges(b.begin(), b.begin() + 4, b.begin() + 4); });
  add([](auto& b) { std::rotate(b.begin(), b.begin() + 64, b.end()); });
  add([](auto& b) {
    b[0] ^= std::byte{1};
    b[64] ^= std::byte{1};
  });
  add([](auto& b) {
    for (std::size_t i = 3; i < b.size(); i += 4) b[i] ^= std::byte{0x80};
  });
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const HashSchedule schedule({seed, ~seed});
    const std::uint64_t expected = keyed_hash(schedule, 0, bytes);
    for (const auto& variant : variants) REQUIRE(keyed_hash(schedule, 0, variant) != expected);
  }
}

TEST_CASE("a damaged schedule changes no kept hash, is noticed and mended") {
  const HashKey key{1, 2};
  const KeptKey sound(key);
  const auto bytes = testing::random_bytes(512, 2);
  const std::uint64_t expected = sound.hash(3, bytes);
  CHECK(expected == keyed_hash(HashSchedule(key), 3, bytes));
  KeptKey kept(key);
  for (std::size_t bit = 0; bit < kept.schedule().size() * 8; ++bit) {
    kept.schedule()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    REQUIRE_FALSE(kept.is_whole());
    REQUIRE(kept.hash(3, bytes) == expected);
    REQUIRE(kept.hash(3, bytes, [&](std::uint64_t h) { return h == expected; }) == expected);
    if (bit % 2 == 0) {
      REQUIRE(kept.mend());
    } else {
      kept.schedule()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    }
    REQUIRE(kept.is_whole());
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
