#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// A fast keyed hash that cannot be predicted or forged without its key. Where CRC-32C finds
/// accidents, this finds what an attacker chose.
///
/// Two layers, as in UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway, 1999), in the form that
/// the CPU has instructions for. Every chunk of 512 bytes, the last one padded with zeros to whole
/// stripes of 64, is summed up under secret words k_i into 128 bits: two different chunks have the
/// same sum with probability 2^-64 at most, whatever they are. A cipher hides the sums. With m_i
/// the chunk's 64-bit little-endian words:
///
/// **CLNH under AES**, with carry-less multiplication and AES. Layer 1 (Lemire and Kaser, 2014):
///
///     CLNH(k, m) = xor over i of (m_2i ^ k_2i) * (m_2i+1 ^ k_2i+1), products of polynomials
///
/// Layer 2 is CBC-MAC (its first block says the length, so no message is the beginning of another:
/// Petrank and Rackoff, 2000), with E the rounds of AES-128 under eleven keys of their own:
///
///     x = E(tweak, length); for each chunk: x = E(x ^ CLNH(chunk)); the hash is x's low 64 bits
///
/// **NH under SipHash**, elsewhere. A pass of NH has 64 bits and 2^-32; the second has the same key
/// moved on by one stripe (a Toeplitz construction, UMAC's theorem 3):
///
///     NH(k, m) = sum over i of (lo(m_i) + lo(k_i) mod 2^32) * (hi(m_i) + hi(k_i) mod 2^32) mod
///     2^64
///
/// Layer 2 is SipHash-2-4 (Aumasson and Bernstein, 2012), under a key of its own, of the chunks'
/// sums, the tweak and the length.
///
/// An attacker who sees all hashes and knows all but the key makes others pass with probability
/// 2^-63 a guess (2^-64 from each layer), as long as AES cannot be told from a random permutation,
/// or SipHash from a random function; SipHash also makes all keys from the 128 bits. Hashes under
/// one key are not meant to last: the bound holds against guesses, and there is no time for 2^40 of
/// them between two reboots. They are never stored, so it does no harm that the two forms differ.
///
/// (What only servers have, wider carry-less multiplication, is left out: integrity.md says why.)
///     name           needs                               ns for 512 bytes, one by one (in a row)
///     "clnh-aesni"   PCLMULQDQ, AES: x86-64 since 2010   13 (12) on a Xeon of 2023
///     "clnh-neon"    AArch64 with PMULL, AES (Pi 5)
///     "nh-neon"      NEON (Pi 4)
///     "nh"           nothing                             75 there
///
/// The fastest is chosen at run time. No allocation, no exceptions; any length, any alignment. Any
/// number of threads may compute.
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

  explicit HashSchedule(HashKey key) noexcept;

  /// Words of layer 1's key: a chunk's, and one stripe more for NH.
  const std::uint64_t* chunk_key() const noexcept { return words_.data(); }
  /// The key of SipHash, after those of NH.
  HashKey sip_key() const noexcept { return {words_[kChunkWords + 8], words_[kChunkWords + 9]}; }
  /// The eleven keys of AES, after those of CLNH; two words each.
  const std::uint64_t* round_keys() const noexcept { return words_.data() + kChunkWords; }

  std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(words_)); }
  std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(words_)); }

  bool operator==(const HashSchedule&) const = default;

 private:
  static constexpr std::size_t kChunkWords = kChunk / 8;

  std::array<std::uint64_t, kChunkWords + 22> words_{};
};

/// The hash of `bytes` in the place that `tweak` names: the same bytes elsewhere have another hash.
std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept;

/// The hashes of up to 8 blocks of `size` bytes each, blocks[i] with the tweak first_tweak + i, to
/// hashes[i]. A row of 5 to 8 takes less time than one by one.
void keyed_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes) noexcept;

/// Name of the backend in use.
std::string_view keyed_hash_backend() noexcept;
/// Names of the backends that this build has and this CPU can run, fastest first.
std::span<const std::string_view> keyed_hash_backends() noexcept;
/// Switches, for tests and measurements. False, and nothing changes, if `name` is not among
/// keyed_hash_backends(). What was hashed by CLNH must not be checked by NH, nor the other way
/// round.
bool set_keyed_hash_backend(std::string_view name) noexcept;

/// A key that damage to memory does not change. The 128 bits are kept three times and read by
/// majority of each bit. What they are expanded to is kept once, as a cache: what it says counts
/// only where something admits it, since no damaged schedule makes anything pass; everything else
/// is asked of a schedule derived afresh, so that nothing rests on a checksum of it, which
/// chosen flips keep.
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
  /// is fresh() asked, since a damaged schedule makes nothing pass.
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
