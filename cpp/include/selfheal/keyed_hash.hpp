#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

/// SipHash-2-4 (Aumasson and Bernstein, 2012): a 64-bit hash that nobody can predict or forge who
/// does not know its key. Where CRC-32C finds accidents, this finds what somebody chose: each guess
/// passes with probability 2^-64.
///
/// About 1 to 2 bytes a nanosecond on 64-bit machines. No allocation, no exceptions; any length,
/// any alignment; the same values on every machine.
namespace selfheal {

/// The secret: 128 bits from the operating system, drawn at boot, never stored.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;

  bool operator==(const HashKey&) const = default;
};

/// SipHash-2-4 of `bytes`.
std::uint64_t keyed_hash(HashKey key, std::span<const std::byte> bytes) noexcept;
/// SipHash-2-4 of `tweak` (8 bytes, little-endian) followed by `bytes`: the same bytes in another
/// place have another hash.
std::uint64_t keyed_hash(HashKey key, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept;

/// A key kept three times, read by majority of each bit: damage to one copy changes no hash.
class KeptKey {
 public:
  explicit KeptKey(HashKey key) noexcept : copies_{key, key, key} {}

  HashKey get() const noexcept;
  /// Whether all copies are equal.
  bool is_whole() const noexcept { return copies_[0] == copies_[1] && copies_[1] == copies_[2]; }
  /// Writes the majority back; true if there was anything to mend.
  bool mend() noexcept;

  /// The copies themselves, for tests that damage them.
  std::span<std::byte> copies() noexcept { return std::as_writable_bytes(std::span(copies_)); }

 private:
  std::array<HashKey, 3> copies_;
};

}  // namespace selfheal
