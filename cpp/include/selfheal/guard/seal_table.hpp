#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace selfheal {

/// The keyed hashes that a row of blocks must have, every one kept twice and far from its double,
/// so that a damaged table is not taken for damaged content, nor the other way round.
///
/// Which of two entries that differ is right needs no vote: the one that some content has as its
/// keyed hash. Such a pair cannot be made up without the key, so content that admits() is genuine,
/// and from it both entries can be written anew.
///
/// Bytes: 16 a block. Nothing allocates after construction. One object, one thread.
class SealTable {
 public:
  explicit SealTable(std::size_t blocks) : size_(blocks), hashes_(2 * blocks) {}

  std::size_t size() const noexcept { return size_; }
  std::uint64_t get(std::size_t index) const noexcept { return hashes_[index]; }
  void put(std::size_t index, std::uint64_t hash) noexcept {
    hashes_[index] = hashes_[size_ + index] = hash;
  }

  /// Whether both entries of a block are equal.
  bool agrees(std::size_t index) const noexcept { return hashes_[index] == hashes_[size_ + index]; }
  /// Whether content with this keyed hash is what the block must hold, by either entry.
  bool admits(std::size_t index, std::uint64_t hash) const noexcept {
    return hashes_[index] == hash || hashes_[size_ + index] == hash;
  }
  /// The first entries of blocks first .. first + count, and the second ones.
  std::span<const std::uint64_t> one(std::size_t first, std::size_t count) const noexcept {
    return std::span(hashes_).subspan(first, count);
  }
  std::span<const std::uint64_t> other(std::size_t first, std::size_t count) const noexcept {
    return std::span(hashes_).subspan(size_ + first, count);
  }

  std::size_t memory_bytes() const noexcept { return hashes_.capacity() * sizeof hashes_[0]; }

  /// The entries themselves, for tests that damage them: all first ones, then all second ones.
  std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(hashes_)); }

 private:
  std::size_t size_;
  std::vector<std::uint64_t> hashes_;
};

}  // namespace selfheal
