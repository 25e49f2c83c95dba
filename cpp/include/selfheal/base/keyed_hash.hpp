#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// A fast keyed hash that cannot be predicted or forged without its key. It finds accidents and
/// what an attacker chose alike, at the speed at which memory is read.
///
/// Layer 1 is NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, UMAC, 1999), in two sums that share
/// their keyed words. A chunk of up to 512 bytes, padded with zeros to n whole stripes of 64, is in
/// little-endian 32-bit words; a secret word is added to each, mod 2^32. With x[s] the 8 words of
/// the first half of stripe s after that, y[s] those of its second half, and secret words alone in
/// x[-1] and y[n]:
///
///     first  = sum of x[s] * y[s],   s = 0 … n-1     (products word by word, added mod 2^64)
///     second = sum of x[s-1] * y[s], s = 0 … n
///
/// Two different chunks differ by any given numbers in both with probability 2^-64 at most,
/// whatever they are: integrity.md has the proof.
///
/// Layer 2 makes 64 bits of the two sums x, the tweak t and the length n, by multiplication and
/// shift (Dietzfelbinger, 1996), under secret 128-bit factors a, which adds at most 2^-64:
///
///     hash = (a0 * x0 + a1 * x1 + a2 * t + a3 * n + a4 mod 2^128) >> 64
///
/// Messages of more than one chunk have SipHash-2-4 (Aumasson and Bernstein, 2012), under a key of
/// its own, of all sums, t and n as their layer 2. SipHash also makes all keys from the 128 bits.
///
/// So a change that does not depend on the key passes with probability 2^-63 at most: of any number
/// of bits, chosen or not, in content, place and length. That is said of an attacker who cannot
/// read the hashes: they lie in memory beside the key, so that who can read them can read it.
/// Flips chosen *together* in content and in the expanded key may cancel; KeptKey compares that
/// with one derived afresh.
///
///     name         needs     bytes a cycle (AMD Zen 4, blocks of 512 bytes in cache, in a row)
///     "avx2"       AVX2      11.4
///     "sse2"       x86-64    5.6
///     "neon"       NEON
///     "portable"   nothing   4.4
///
/// All give the same values; the fastest is chosen at run time. No allocation, no exceptions; any
/// length, any alignment. Any number of threads may compute.
namespace selfheal {

/// The secret: 128 bits from the operating system, drawn at boot, never stored.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;

  bool operator==(const HashKey&) const = default;
};

/// SipHash-2-4 of `bytes`: about 2 bytes a nanosecond.
std::uint64_t siphash(HashKey key, std::span<const std::byte> bytes) noexcept;

/// What a key is expanded to, by SipHash in counter mode: 704 bytes, 2 µs to make.
class alignas(64) HashSchedule {
 public:
  static constexpr std::size_t kChunk = 512;
  static constexpr std::size_t kStripe = 64;
  static constexpr std::size_t kStripes = kChunk / kStripe;  // of a whole chunk

  explicit HashSchedule(HashKey key) noexcept;

  /// NH's key: x[-1], a stripe's words eight times, and those of a ninth, of which y[n] is one
  /// half.
  const std::uint32_t* chunk_key() const noexcept { return words_.data(); }
  /// Layer 2's: five factors, the low word of each first.
  const std::uint64_t* factors() const noexcept { return outer_.data(); }
  HashKey sip_key() const noexcept { return {outer_[10], outer_[11]}; }

  std::span<const std::byte> bytes() const noexcept {
    return std::as_bytes(std::span(this, 1)).first(kBytes);
  }
  std::span<std::byte> bytes() noexcept {
    return std::as_writable_bytes(std::span(this, 1)).first(kBytes);
  }

  bool operator==(const HashSchedule&) const = default;

 private:
  static constexpr std::size_t kWords = (kStripe / 2 + kChunk + kStripe) / sizeof(std::uint32_t);
  static constexpr std::size_t kBytes = kWords * sizeof(std::uint32_t) + 12 * sizeof(std::uint64_t);

  std::array<std::uint32_t, kWords> words_{};
  std::array<std::uint64_t, 12> outer_{};
};

/// The hash of `bytes` in the place that `tweak` names: the same bytes elsewhere have another hash.
std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept;

/// The hashes of any number of blocks of `size` bytes each, blocks[i] with the tweak first_tweak +
/// i, to hashes[i]: in less time than one by one.
void keyed_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes) noexcept;

/// Whether consecutive blocks of `size` bytes each, of which `blocks` holds as many as there are
/// hashes in each list, have the hashes of both: in less time than to compute and to compare them.
bool keyed_hashes_match(const HashSchedule& schedule, std::uint64_t first_tweak,
                        std::span<const std::byte> blocks, std::size_t size,
                        std::span<const std::uint64_t> one,
                        std::span<const std::uint64_t> other) noexcept;

/// Name of the backend in use.
std::string_view keyed_hash_backend() noexcept;
/// Names of the backends that this build has and this CPU can run, fastest first.
std::span<const std::string_view> keyed_hash_backends() noexcept;
/// Switches, for tests and measurements. False, and nothing changes, if `name` is not among
/// keyed_hash_backends().
bool set_keyed_hash_backend(std::string_view name) noexcept;

/// A key that damage to memory does not change. The 128 bits are kept three times and read by
/// majority of each bit. What they are expanded to is kept once, as a cache: what it says counts
/// only where something admits it; everything else is asked of a schedule derived afresh, so that
/// nothing rests on a checksum of it, which chosen flips keep. Damage to the cache by chance makes
/// nothing pass; flips that were chosen to cancel those of one block do, until is_whole() compares.
class KeptKey {
 public:
  explicit KeptKey(HashKey key) noexcept;

  HashKey get() const noexcept;
  /// Whether all copies are equal and the schedule is the one derived afresh. 2 µs.
  bool is_whole() const noexcept;
  /// Writes the majority and its schedule back; true if there was anything to mend.
  bool mend() noexcept;

  /// The schedule derived afresh: to seal things with, many for the 2 µs that it takes.
  HashSchedule fresh() const noexcept { return HashSchedule(get()); }
  /// The hash to seal one thing with, by fresh().
  std::uint64_t hash(std::uint64_t tweak, std::span<const std::byte> bytes) const noexcept;
  /// The hash to check something with: `admits(hash)` says whether it is the right one. Only if not
  /// is fresh() asked.
  template <typename Admits>
  std::uint64_t hash(std::uint64_t tweak, std::span<const std::byte> bytes,
                     Admits admits) const noexcept {
    const std::uint64_t value = keyed_hash(schedule_, tweak, bytes);
    return admits(value) ? value : hash(tweak, bytes);
  }

  /// As it is, not verified: for checks whose callers ask hash() before they report damage.
  const HashSchedule& raw_schedule() const noexcept { return schedule_; }

  /// The copies and the schedule themselves, for tests that damage them.
  std::span<std::byte> copies() noexcept { return std::as_writable_bytes(std::span(copies_)); }
  std::span<std::byte> schedule() noexcept { return schedule_.bytes(); }

 private:
  std::array<HashKey, 3> copies_;
  HashSchedule schedule_;
};

}  // namespace selfheal
