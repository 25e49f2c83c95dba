#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace selfheal {

/// What a block's content must have.
struct Seal {
  std::uint32_t crc = 0;    ///< CRC-32C: fast, finds accidents
  std::uint64_t keyed = 0;  ///< keyed hash: slower, finds what was chosen

  bool operator==(const Seal&) const = default;
};

/// The seals of a row of blocks, every one kept twice, so that a damaged table is not taken for
/// damaged content, nor the other way round.
///
/// Which of two entries that differ is right needs no vote: the one that some content has as its
/// keyed hash. Such a pair cannot be made up without the key, so content that admits() is genuine,
/// and from it both entries can be written anew.
///
/// Bytes: 24 a block. Nothing allocates after construction. One object, one thread.
class SealTable {
 public:
  explicit SealTable(std::size_t blocks) : crc_(2 * blocks), keyed_(2 * blocks) {}

  std::size_t size() const noexcept { return crc_.size() / 2; }
  Seal get(std::size_t index) const noexcept { return {crc_[2 * index], keyed_[2 * index]}; }
  void put(std::size_t index, Seal seal) noexcept {
    crc_[2 * index] = crc_[2 * index + 1] = seal.crc;
    keyed_[2 * index] = keyed_[2 * index + 1] = seal.keyed;
  }

  /// Whether both entries of a block are equal.
  bool agrees(std::size_t index) const noexcept {
    return crc_[2 * index] == crc_[2 * index + 1] && keyed_[2 * index] == keyed_[2 * index + 1];
  }
  /// Whether content with this keyed hash is what the block must hold, by either entry.
  bool admits(std::size_t index, std::uint64_t keyed) const noexcept {
    return keyed_[2 * index] == keyed || keyed_[2 * index + 1] == keyed;
  }

  /// Whether either entry of a block has this checksum.
  bool has_crc(std::size_t index, std::uint32_t crc) const noexcept {
    return crc_[2 * index] == crc || crc_[2 * index + 1] == crc;
  }

  std::size_t memory_bytes() const noexcept {
    return crc_.capacity() * sizeof crc_[0] + keyed_.capacity() * sizeof keyed_[0];
  }

  /// The entries themselves, for tests that damage them: per block 2 checksums, 2 keyed hashes.
  std::span<std::byte> crc_bytes() noexcept { return std::as_writable_bytes(std::span(crc_)); }
  std::span<std::byte> keyed_bytes() noexcept { return std::as_writable_bytes(std::span(keyed_)); }

 private:
  std::vector<std::uint32_t> crc_;
  std::vector<std::uint64_t> keyed_;
};

}  // namespace selfheal
