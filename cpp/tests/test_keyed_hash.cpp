#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
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

std::uint32_t word_at(const std::vector<std::byte>& bytes, std::size_t at) {
  std::uint32_t word = 0;
  for (std::size_t i = 4; i-- > 0;) {
    word = word << 8 | (at + i < bytes.size() ? std::to_integer<std::uint32_t>(bytes[at + i]) : 0U);
  }
  return word;
}

// The sums of the chunk that begins at `begin`, as the definition reads.
using Sums = std::array<std::uint64_t, 2>;
using Derive = std::function<std::uint64_t(std::size_t)>;

Sums slow_sums(const Derive& derived, const std::vector<std::byte>& bytes, std::size_t begin) {
  const auto key = [&](std::size_t i) {
    return static_cast<std::uint32_t>(derived(i / 2) >> (32 * (i % 2)));
  };
  const std::size_t size = std::min<std::size_t>(512, bytes.size() - begin);
  const std::size_t n = (size + 63) / 64;
  // Word `i` of half `h` of stripe `s`; x[-1] is stripe 0's here.
  const auto x = [&](std::size_t s, std::size_t i) {
    return s == 0 ? key(i) : word_at(bytes, begin + 64 * (s - 1) + 4 * i) + key(16 * s - 8 + i);
  };
  const auto y = [&](std::size_t s, std::size_t i) {
    const std::uint32_t k = key(16 * s + 16 + i);
    return s == n ? k : word_at(bytes, begin + 64 * s + 32 + 4 * i) + k;
  };
  Sums sums{};
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t s = 0; s < n; ++s) sums[0] += std::uint64_t{x(s + 1, i)} * y(s, i);
    for (std::size_t s = 0; s <= n; ++s) sums[1] += std::uint64_t{x(s, i)} * y(s, i);
  }
  return sums;
}

// a * b, the upper half modulo 2^64, by hand.
std::array<std::uint64_t, 2> slow_product(std::uint64_t low, std::uint64_t high, std::uint64_t b) {
  std::array<std::uint64_t, 2> sum{};
  for (std::size_t bit = 0; bit < 64; ++bit) {
    if ((b >> bit & 1) != 0) {
      sum[0] += low;
      sum[1] += high + (sum[0] < low ? 1 : 0);
    }
    high = high << 1 | low >> 63;
    low <<= 1;
  }
  return sum;
}

std::uint64_t slow_hash(HashKey key, std::uint64_t tweak, const std::vector<std::byte>& bytes) {
  constexpr std::size_t kOuter = 76;  // derived words before layer 2's
  const auto derived = [&](std::size_t i) { return siphash(key, words({i})); };
  if (bytes.size() <= 512) {
    const Sums sums = slow_sums(derived, bytes, 0);
    const std::array<std::uint64_t, 5> x{sums[0], sums[1], tweak, bytes.size(), 1};
    std::array<std::uint64_t, 2> total{};
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto part = slow_product(derived(kOuter + 2 * i), derived(kOuter + 2 * i + 1), x[i]);
      total[0] += part[0];
      total[1] += part[1] + (total[0] < part[0] ? 1 : 0);
    }
    return total[1];
  }
  std::vector<std::uint64_t> outer;
  for (std::size_t begin = 0; begin < bytes.size(); begin += 512) {
    const Sums sums = slow_sums(derived, bytes, begin);
    outer.insert(outer.end(), sums.begin(), sums.end());
  }
  outer.push_back(tweak);
  outer.push_back(bytes.size());
  const auto message = words(outer);  // all but the top byte of the size
  return siphash({derived(kOuter + 10), derived(kOuter + 11)},
                 std::span(message).first(message.size() - 1));
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

TEST_CASE("every backend, any length: what the definition says") {
  const HashSchedule schedule(kPaperKey);
  CHECK(keyed_hash_backends().back() == "portable");
  under_each_backend([&](std::string_view name) {
    REQUIRE(keyed_hash_backend() == name);
    for (std::size_t size = 0; size < 1200; size += size < 140 ? 1 : 37) {
      const auto bytes = testing::random_bytes(size, static_cast<unsigned>(size));
      REQUIRE(keyed_hash(schedule, size, bytes) == slow_hash(kPaperKey, size, bytes));
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

TEST_CASE(
    "blocks that lie together match the hashes that they have, in both lists, and no others") {
  const HashSchedule schedule(kPaperKey);
  auto bytes = testing::random_bytes(5 * 576, 5);
  under_each_backend([&](std::string_view) {
    for (const std::size_t size : {1U, 64U, 320U, 511U, 512U, 576U}) {
      for (std::size_t count = 0; count <= 5; ++count) {
        std::vector<std::uint64_t> one;
        for (std::size_t i = 0; i < count; ++i) {
          one.push_back(keyed_hash(schedule, 9 + i, std::span(bytes).subspan(i * size, size)));
        }
        std::vector<std::uint64_t> other = one;
        const auto match = [&] { return keyed_hashes_match(schedule, 9, bytes, size, one, other); };
        REQUIRE(match());
        for (std::size_t i = 0; i < count; ++i) {
          for (std::uint64_t* const entry : {&one[i], &other[i]}) {
            *entry ^= std::uint64_t{1} << (11 * i);
            REQUIRE_FALSE(match());
            *entry ^= std::uint64_t{1} << (11 * i);
          }
          bytes[i * size + size / 2] ^= std::byte{4};
          REQUIRE_FALSE(match());
          bytes[i * size + size / 2] ^= std::byte{4};
        }
      }
    }
  });
}

TEST_CASE("values that must not change between machines and versions") {
  under_each_backend([&](std::string_view) {
    CHECK(keyed_hash(HashSchedule(kPaperKey), 7, counting(512)) == 15879063207832332938U);
    CHECK(keyed_hash(HashSchedule(kPaperKey), 7, counting(700)) == 15888738551512585406U);
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
  under_each_backend([&](std::string_view) {
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
    // Of NH's key, all but the half of the last stripe that no chunk has.
    HashSchedule damaged = schedule;
    for (std::size_t bit = 0; bit < 4 * 136 * 8; ++bit) {
      damaged.bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      const auto block = std::span(bytes).first(512);
      const bool is_used = bit / 32 < 136;
      CHECK((keyed_hash(damaged, 1, block) != keyed_hash(schedule, 1, block)) == is_used);
      damaged.bytes()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    }
  });
}

TEST_CASE("layer 1 alone misses no small change: sums differ where a hash could hide it") {
  // With the tweak's and the sums' factors 1 << 64 the hash is x0 + x1 without a carry: changes
  // that a pass must notice are then seen in its sum. Opposite changes in neighbouring words, which
  // a second pass over other pairs of the same words would miss, are among them.
  const auto bytes = testing::random_bytes(512, 9);
  under_each_backend([&](std::string_view) {
    for (const std::size_t pass : {0U, 1U}) {
      HashSchedule plain(kPaperKey);
      std::array<std::uint64_t, 12> factors{};
      factors[2 * pass + 1] = 1;
      std::memcpy(plain.bytes().data() + 608, factors.data(), sizeof factors);
      const std::uint64_t expected = keyed_hash(plain, 0, bytes);
      for (std::size_t word = 0; word < 128; ++word) {
        auto changed = bytes;
        changed[4 * word] ^= std::byte{1};
        REQUIRE(keyed_hash(plain, 0, changed) != expected);
        const std::size_t other = (word + 1) % 128;
        changed[4 * other] ^= std::byte{1};
        REQUIRE(keyed_hash(plain, 0, changed) != expected);
      }
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
  // Opposite steps of the same size in words that lie beside each other, or a stripe apart.
  for (const std::size_t apart : {4U, 16U, 32U, 64U}) {
    add([apart](auto& b) {
      std::fill_n(b.begin() + 128, 4, std::byte{0});
      std::copy_n(b.begin() + 128, 4, b.begin() + 128 + static_cast<std::ptrdiff_t>(apart));
      b[128] = std::byte{1};
    });
  }
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
