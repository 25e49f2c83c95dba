#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// A fast keyed hash that nobody can predict or forge who does not know its key. Where CRC-32C
/// finds accidents, this finds what somebody chose.
///
/// Two layers, as in UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway, 1999):
///
/// 1. Every chunk of 512 bytes, the last one padded with zeros, goes through NH twice, under two
///    key streams, into 128 bits:
///
///        NH(k, m) = sum over i of (lo(m_i) + lo(k_i) mod 2^32) * (hi(m_i) + hi(k_i) mod 2^32)
///                   mod 2^64
///
///    with m_i, k_i the 64-bit little-endian words of chunk and key. The second pass has the same
///    key moved on by one stripe of 64 bytes (a Toeplitz construction; theorem 3 there): two
///    different chunks collide in both with probability 2^-64 at most, whatever they are.
/// 2. SipHash-2-4 (Aumasson and Bernstein, 2012), under a key of its own, of the chunks' sums, the
///    tweak and the length. It shows nothing of the sums.
///
/// Who sees all hashes, and knows all bytes but the key, makes other bytes pass with probability
/// 2^-63 a guess (2^-64 from each layer), as long as SipHash cannot be told from a random function;
/// it also makes the NH key from the 128 bits. Hashes under one key are not meant to last: the
/// bound holds against guesses, and nobody has time for 2^40 of them between two reboots.
///
/// Layer 1 runs on the widest multiplications of this CPU, decided at run time:
///
///     name        needs                         one block of 512 bytes
///     "avx512"    AVX-512 of 2019 and later     about 45 ns on a 2.3 GHz Xeon, SipHash included
///     "avx2"      AVX2
///     "sse2"      every x86-64
///     "neon"      every AArch64, ARMv7 with it
///     "portable"  nothing
///
/// All give the same values. No allocation, no exceptions; any length, any alignment. Any number of
/// threads may compute.
namespace selfheal {

/// The secret: 128 bits from the operating system, drawn at boot, never stored.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;

  bool operator==(const HashKey&) const = default;
};

/// SipHash-2-4 of `bytes`: about 2 bytes a nanosecond.
std::uint64_t siphash(HashKey key, std::span<const std::byte> bytes) noexcept;

/// What a key is expanded to, by SipHash in counter mode: 592 bytes, 2 µs to make.
class alignas(64) HashSchedule {
 public:
  static constexpr std::size_t kChunk = 512;
  static constexpr std::size_t kStripe = 64;

  explicit HashSchedule(HashKey key) noexcept;

  /// Words of the NH key: a chunk's and one stripe more.
  const std::uint64_t* nh() const noexcept { return words_.data(); }
  /// The key of layer 2.
  HashKey outer() const noexcept { return {words_[kNhWords], words_[kNhWords + 1]}; }

  std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(words_)); }
  std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(words_)); }

  bool operator==(const HashSchedule&) const = default;

 private:
  static constexpr std::size_t kNhWords = (kChunk + kStripe) / 8;

  std::array<std::uint64_t, kNhWords + 2> words_{};
};

/// The hash of `bytes` in the place that `tweak` names: the same bytes elsewhere have another hash.
std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept;

/// Bytes to copy: `size` of the call that does it; `from` and `to` do not overlap.
struct BlockCopy {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
};

/// The hashes of up to 8 blocks that all have `size` bytes: blocks[i] with tweaks[i] to hashes[i].
/// A row of 5 to 8 takes two thirds of the time of one by one with "avx2", and less than half with
/// "avx512". Up to 8 `copies` of the same size, of blocks that were verified before, are made on
/// the side and cost less there than alone.
void keyed_hashes(const HashSchedule& schedule, std::span<const std::uint64_t> tweaks,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes, std::span<const BlockCopy> copies = {}) noexcept;

/// Name of the backend in use.
std::string_view keyed_hash_backend() noexcept;
/// Names of the backends that this build has and this CPU can run, fastest first.
std::span<const std::string_view> keyed_hash_backends() noexcept;
/// Switches, for tests and measurements. False, and nothing changes, if `name` is not among
/// keyed_hash_backends().
bool set_keyed_hash_backend(std::string_view name) noexcept;

/// A key that damage to memory does not change. The 128 bits are kept three times and read by
/// majority of each bit; their schedule is kept once, with its checksum, and made anew where that
/// does not hold.
class KeptKey {
 public:
  explicit KeptKey(HashKey key) noexcept;

  HashKey get() const noexcept;
  /// Whether all copies are equal and the schedule has its checksum.
  bool is_whole() const noexcept;
  /// Writes the majority and its schedule back; true if there was anything to mend.
  bool mend() noexcept;

  /// The hash to seal something with: the schedule is verified first.
  std::uint64_t hash(std::uint64_t tweak, std::span<const std::byte> bytes) const noexcept;
  /// The hash to check something with: `admits(hash)` says whether it is the right one. Only if not
  /// is the schedule verified, since a damaged one makes nothing pass.
  template <typename Admits>
  std::uint64_t hash(std::uint64_t tweak, std::span<const std::byte> bytes,
                     Admits admits) const noexcept {
    const std::uint64_t value = keyed_hash(schedule_, tweak, bytes);
    return admits(value) ? value : hash(tweak, bytes);
  }

  /// As it is, not verified: to check with, by those who ask hash() before they believe in damage.
  const HashSchedule& raw_schedule() const noexcept { return schedule_; }

  /// The copies and the schedule themselves, for tests that damage them.
  std::span<std::byte> copies() noexcept { return std::as_writable_bytes(std::span(copies_)); }
  std::span<std::byte> schedule() noexcept { return schedule_.bytes(); }

 private:
  bool is_schedule_whole() const noexcept;

  std::array<HashKey, 3> copies_;
  std::uint32_t schedule_crc_ = 0;
  HashSchedule schedule_;
};

}  // namespace selfheal
