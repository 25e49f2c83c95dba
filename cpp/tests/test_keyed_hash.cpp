#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <string_view>
#include <vector>

#include "samples.hpp"
#include "selfheal/base/keyed_hash.hpp"

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

std::uint64_t word_at(const std::vector<std::byte>& bytes, std::size_t at) {
  std::uint64_t word = 0;
  for (std::size_t i = 8; i-- > 0;) {
    word = word << 8 | (at + i < bytes.size() ? std::to_integer<std::uint64_t>(bytes[at + i]) : 0U);
  }
  return word;
}

// The chunk that begins at `begin` as the definitions read. Beyond its last stripe there is nothing
// to sum up, not even padding.
using Sums = std::array<std::uint64_t, 2>;
using Derive = std::function<std::uint64_t(std::size_t)>;

Sums slow_nh(const Derive& key, const std::vector<std::byte>& bytes, std::size_t begin) {
  Sums sums{};
  for (std::size_t i = 0; i < 64 && begin + i / 8 * 64 < bytes.size(); ++i) {
    const std::uint64_t m = word_at(bytes, begin + 8 * i);
    for (std::size_t pass = 0; pass < 2; ++pass) {
      const std::uint64_t k = key(i + 8 * pass);
      sums[pass] += std::uint64_t{static_cast<std::uint32_t>(m + (k & 0xFFFFFFFFU))} *
                    static_cast<std::uint32_t>((m >> 32) + (k >> 32));
    }
  }
  return sums;
}

Sums slow_clnh(const Derive& key, const std::vector<std::byte>& bytes, std::size_t begin) {
  Sums sums{};
  for (std::size_t i = 0; i < 64 && begin + i / 8 * 64 < bytes.size(); i += 2) {
    const std::uint64_t a = word_at(bytes, begin + 8 * i) ^ key(i);
    const std::uint64_t b = word_at(bytes, begin + 8 * i + 8) ^ key(i + 1);
    for (std::size_t bit = 0; bit < 64; ++bit) {
      if ((b >> bit & 1) == 0) continue;
      sums[0] ^= a << bit;
      if (bit > 0) sums[1] ^= a >> (64 - bit);
    }
  }
  return sums;
}

bool is_clnh(std::string_view backend) { return backend.substr(0, 4) == "clnh"; }

// AES (FIPS 197) with the keys of the rounds given, byte by byte.
using AesBlock = std::array<std::uint8_t, 16>;

std::uint8_t times(std::uint8_t a, std::uint8_t b) {
  std::uint8_t product = 0;
  for (; b != 0; b = static_cast<std::uint8_t>(b >> 1)) {
    if ((b & 1U) != 0) product ^= a;
    a = static_cast<std::uint8_t>(a << 1 ^ ((a & 0x80U) != 0 ? 0x1B : 0));
  }
  return product;
}

std::uint8_t substitute(std::uint8_t x) {
  std::uint8_t inverse = 1;  // x^254
  for (int i = 0; i < 254; ++i) inverse = times(inverse, x);
  std::uint8_t y = 0x63;
  for (int i = 0; i < 5; ++i) y ^= std::rotl(inverse, i);
  return y;
}

AesBlock slow_aes(AesBlock state, const std::vector<AesBlock>& keys) {
  static const auto box = [] {
    std::array<std::uint8_t, 256> all{};
    for (std::size_t i = 0; i < 256; ++i) all[i] = substitute(static_cast<std::uint8_t>(i));
    return all;
  }();
  for (std::size_t round = 0; round <= 10; ++round) {
    if (round > 0) {
      AesBlock moved{};
      for (std::size_t i = 0; i < 16; ++i) moved[i] = box[state[(i + 4 * (i % 4)) % 16]];
      state = moved;
      for (std::size_t i = 0; i < 16 && round < 10; ++i) {
        const auto in = [&](std::size_t k) { return moved[i / 4 * 4 + (i + k) % 4]; };
        state[i] = static_cast<std::uint8_t>(times(in(0), 2) ^ times(in(1), 3) ^ in(2) ^ in(3));
      }
    }
    for (std::size_t i = 0; i < 16; ++i) state[i] ^= keys[round][i];
  }
  return state;
}

AesBlock aes_block(std::uint64_t low, std::uint64_t high) {
  AesBlock block{};
  for (std::size_t i = 0; i < 16; ++i) {
    block[i] = static_cast<std::uint8_t>((i < 8 ? low : high) >> (8 * (i % 8)));
  }
  return block;
}

std::uint64_t slow_hash(std::string_view backend, HashKey key, std::uint64_t tweak,
                        const std::vector<std::byte>& bytes) {
  const auto derived = [&](std::size_t i) { return siphash(key, words({i})); };
  if (!is_clnh(backend)) {
    std::vector<std::uint64_t> outer;
    for (std::size_t begin = 0; begin < bytes.size(); begin += 512) {
      const Sums sums = slow_nh(derived, bytes, begin);
      outer.insert(outer.end(), sums.begin(), sums.end());
    }
    outer.push_back(tweak);
    outer.push_back(bytes.size());
    const auto message = words(outer);  // all but the top byte of the size
    return siphash({derived(72), derived(73)}, std::span(message).first(message.size() - 1));
  }
  std::vector<AesBlock> keys;
  for (std::size_t i = 64; i < 86; i += 2) keys.push_back(aes_block(derived(i), derived(i + 1)));
  AesBlock state = slow_aes(aes_block(tweak, bytes.size()), keys);
  for (std::size_t begin = 0; begin < bytes.size(); begin += 512) {
    const Sums sums = slow_clnh(derived, bytes, begin);
    const AesBlock sum = aes_block(sums[0], sums[1]);
    for (std::size_t i = 0; i < 16; ++i) state[i] ^= sum[i];
    state = slow_aes(state, keys);
  }
  std::uint64_t hash = 0;
  for (std::size_t i = 8; i-- > 0;) hash = hash << 8 | state[i];
  return hash;
}

// Calls work(name) under each backend, and leaves the fastest one behind.
template <typename Work>
void under_each_backend(Work work) {
  for (const auto name : keyed_hash_backends()) {
    CAPTURE(name);
    REQUIRE(set_keyed_hash_backend(name));
    work(name);
  }
  REQUIRE(set_keyed_hash_backend(keyed_hash_backends().front()));
}

}  // namespace

TEST_CASE("SipHash: the vectors of the paper (appendix A) and of the authors' reference code") {
  CHECK(siphash(kPaperKey, counting(15)) == 0xA129CA6149BE45E5U);
  CHECK(siphash(kPaperKey, {}) == 0x726FDB47DD0E0E31U);
  CHECK(siphash(kPaperKey, counting(1)) == 0x74F839C593DC67FDU);
  CHECK(siphash(kPaperKey, counting(2)) == 0x0D6C8009D9A94F5AU);
  CHECK(siphash(kPaperKey, counting(8)) == 0x93F5F5799A932462U);
}

TEST_CASE("AES of the tests: the example vector of FIPS 197, appendix B") {
  const std::vector<std::uint8_t> text = {0x32, 0x43, 0xF6, 0xA8, 0x88, 0x5A, 0x30, 0x8D,
                                          0x31, 0x31, 0x98, 0xA2, 0xE0, 0x37, 0x07, 0x34};
  // The key of the first round, 2B7E…4F3C, expanded.
  std::vector<std::uint8_t> key = {0x2B, 0x7E, 0x15, 0x16, 0x28, 0xAE, 0xD2, 0xA6,
                                   0xAB, 0xF7, 0x15, 0x88, 0x09, 0xCF, 0x4F, 0x3C};
  for (std::uint8_t constant = 1; key.size() < 176;) {
    const std::size_t n = key.size();
    for (std::size_t i = 0; i < 4; ++i) {
      std::uint8_t byte = key[n - 4 + i];
      if (n % 16 == 0) byte = substitute(key[n - 4 + (i + 1) % 4]);
      if (n % 16 == 0 && i == 0) byte ^= constant;
      key.push_back(static_cast<std::uint8_t>(byte ^ key[n - 16 + i]));
    }
    if (n % 16 == 0) constant = times(constant, 2);
  }
  std::vector<AesBlock> keys(11);
  for (std::size_t i = 0; i < 176; ++i) keys[i / 16][i % 16] = key[i];
  AesBlock block{};
  std::copy(text.begin(), text.end(), block.begin());
  const AesBlock expected = {0x39, 0x25, 0x84, 0x1D, 0x02, 0xDC, 0x09, 0xFB,
                             0xDC, 0x11, 0x85, 0x97, 0x19, 0x6A, 0x0B, 0x32};
  CHECK(slow_aes(block, keys) == expected);
}

TEST_CASE("every backend, any length: what the definition says") {
  const HashSchedule schedule(kPaperKey);
  CHECK(keyed_hash_backends().back() == "nh");
  under_each_backend([&](std::string_view name) {
    REQUIRE(keyed_hash_backend() == name);
    for (std::size_t size = 0; size < 1200; size += size < 140 ? 1 : 37) {
      const auto bytes = testing::random_bytes(size, static_cast<unsigned>(size));
      REQUIRE(keyed_hash(schedule, size, bytes) == slow_hash(name, kPaperKey, size, bytes));
    }
  });
  CHECK_FALSE(set_keyed_hash_backend("abacus"));
}

TEST_CASE("a row: the hashes one by one") {
  const HashSchedule schedule(kPaperKey);
  const auto bytes = testing::random_bytes(8 * 600, 5);
  under_each_backend([&](std::string_view) {
    for (const std::size_t size : {0U, 1U, 64U, 320U, 511U, 512U, 576U}) {
      for (std::size_t count = 0; count <= 8; ++count) {
        std::vector<const std::byte*> blocks;
        for (std::size_t i = 0; i < count; ++i) {
          blocks.push_back(bytes.data() + (7 - i) * 601 / 2);
        }
        std::vector<std::uint64_t> hashes(count);
        const std::uint64_t first = ~std::uint64_t{0} - 2;  // they go round
        keyed_hashes(schedule, first, blocks, size, hashes);
        for (std::size_t i = 0; i < count; ++i) {
          REQUIRE(hashes[i] == keyed_hash(schedule, first + i, {blocks[i], size}));
        }
      }
    }
  });
}

TEST_CASE("values that must not change between machines and versions") {
  under_each_backend([&](std::string_view name) {
    CHECK(keyed_hash(HashSchedule(kPaperKey), 7, counting(700)) ==
          (is_clnh(name) ? 5935113031487872743U : 4657721903316251254U));
  });
}

TEST_CASE("tweak, length and zeros at the end count") {
  const HashSchedule schedule(kPaperKey);
  under_each_backend([&](std::string_view) {
    std::vector<std::uint64_t> values;
    for (std::size_t size = 0; size < 130; ++size) {
      const std::vector<std::byte> zeros(size);
      for (std::uint64_t tweak = 0; tweak < 3; ++tweak) {
        values.push_back(keyed_hash(schedule, tweak, zeros));
      }
    }
    std::sort(values.begin(), values.end());
    CHECK(std::adjacent_find(values.begin(), values.end()) == values.end());
  });
}

TEST_CASE("any alignment, and every bit of content and key counts") {
  const auto bytes = testing::random_bytes(600, 1);
  under_each_backend([&](std::string_view name) {
    const HashSchedule schedule(kPaperKey);
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
      // The keys of AES have more words than those of NH's second pass and SipHash.
      const bool is_used = is_clnh(name) || bit / 64 < 74;
      CHECK((keyed_hash(damaged, 1, bytes) != expected) == is_used);
      damaged.bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    }
  });
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
  under_each_backend([&](std::string_view) {
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
      const HashSchedule schedule({seed, ~seed});
      const std::uint64_t expected = keyed_hash(schedule, 0, bytes);
      for (const auto& variant : variants) REQUIRE(keyed_hash(schedule, 0, variant) != expected);
    }
  });
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
