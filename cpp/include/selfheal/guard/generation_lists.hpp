#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/base/keyed_hash.hpp"

namespace selfheal {

/// Names a snapshot; never used again after it was dropped.
using Generation = std::uint64_t;

/// Which blocks each generation has beside golden's: a list a generation, with the slot of a stored
/// copy for every block, or kGolden where the generation has golden's.
///
/// Golden itself is generation 0, at place 0; it is always held, always pinned, and needs no list,
/// so that nothing can damage one. Every list is kept twice, in chunks of kChunk blocks, and every
/// chunk has a keyed hash, kept twice, under the number of its generation, which is kept twice as
/// well. A chunk with its hash cannot be made up without the key, so the pair that fits is genuine
/// and the others are written anew from it: damage to a list is never taken for its content, even
/// where an attacker chose it.
///
/// Bytes: 8.25 a block and generation. A chunk is verified in one keyed hash and one comparison of
/// 512 bytes. Nothing allocates after construction. One object, one thread.
class GenerationLists {
 public:
  static constexpr std::uint32_t kGolden = 0xFFFFFFFFU;
  static constexpr std::size_t kChunk = 128;  // blocks

  /// blocks: of the image, at least 1. places: generations that fit, golden included, at least 1.
  /// Throws std::invalid_argument where their lists do not fit into this machine's addresses.
  GenerationLists(std::size_t blocks, std::size_t places);

  /// Generations held, golden included: places 0 .. count() - 1, oldest first.
  std::size_t count() const noexcept { return count_; }
  std::size_t places() const noexcept { return entries_.size() + 1; }
  /// The place of `generation`; count() if it is not held.
  std::size_t find(Generation generation) const noexcept;
  /// The generation at `place` < count().
  Generation at(std::size_t place) const noexcept {
    return place == 0 ? 0 : entries_[place - 1].number[0];
  }
  bool is_pinned(std::size_t place) const noexcept;
  /// place: 1 .. count() - 1.
  void set_pinned(std::size_t place, bool is_pinned) noexcept {
    entries_[place - 1].is_pinned.fill(is_pinned ? 1 : 0);
  }

  /// The list at place 1 .. count() - 1. Verified by mend(), or chunk by chunk.
  std::span<const std::uint32_t> list(std::size_t place) const noexcept { return copy(place, 0); }
  /// Its second copy, as it is.
  std::span<const std::uint32_t> second(std::size_t place) const noexcept { return copy(place, 1); }
  /// The list at place count(), to be written before append(). Only while count() < places().
  std::span<std::uint32_t> draft() noexcept { return copy(count_, 0); }
  /// Makes the draft the list of `generation`, which is not held yet.
  void append(Generation generation, const KeptKey& key) noexcept;
  /// Changes one entry of the list at place 1 .. count() - 1. False, and nothing changes, where the
  /// chunk around it is lost.
  bool set(std::size_t place, std::size_t block, std::uint32_t slot, const KeptKey& key) noexcept;
  /// Forgets the generation at place 1 .. count() - 1.
  void remove(std::size_t place) noexcept;

  /// Chunks of a list.
  std::size_t chunks() const noexcept { return (blocks_ - 1) / kChunk + 1; }
  /// Whether the chunk that has `block` of the list at `place` has its hash, as it is.
  bool is_sound(std::size_t place, std::size_t block, const KeptKey& key) const noexcept;
  /// Mends chunk `chunk` < chunks() of the list at `place`: both copies, both hashes and the
  /// generation's number. False if nothing fits; `changed` says if anything was damaged. A place
  /// that holds no generation, and golden's, are sound.
  bool mend(std::size_t place, std::size_t chunk, const KeptKey& key, bool* changed) noexcept;
  /// Mends the whole list; false if a chunk of it is lost.
  bool mend(std::size_t place, const KeptKey& key) noexcept;

  std::size_t memory_bytes() const noexcept;
  /// The lists, for tests that damage them: of each place but golden's, then all once more.
  std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(lists_)); }
  /// Numbers and pins, and the chunks' hashes, likewise.
  std::span<std::byte> entry_bytes() noexcept {
    return std::as_writable_bytes(std::span(entries_));
  }
  std::span<std::byte> hash_bytes() noexcept { return std::as_writable_bytes(std::span(hashes_)); }

 private:
  struct Entry {
    std::array<Generation, 2> number{};
    std::array<std::uint8_t, 2> is_pinned{};  // held if either says so
  };
  using Hashes = std::array<std::uint64_t, 2>;

  std::span<std::uint32_t> copy(std::size_t place, std::size_t which) noexcept;
  std::span<const std::uint32_t> copy(std::size_t place, std::size_t which) const noexcept;
  std::span<const std::uint32_t> chunk_of(std::size_t place, std::size_t which,
                                          std::size_t chunk) const noexcept;
  const Hashes& hashes(std::size_t place, std::size_t chunk) const noexcept {
    return hashes_[(place - 1) * chunks() + chunk];
  }
  Hashes& hashes(std::size_t place, std::size_t chunk) noexcept {
    return hashes_[(place - 1) * chunks() + chunk];
  }
  bool is_plain(std::size_t place, std::size_t chunk, const KeptKey& key) const noexcept;

  std::size_t blocks_;
  std::size_t count_ = 1;
  std::vector<Entry> entries_;        // of places 1 and above
  std::vector<std::uint32_t> lists_;  // of these, then all once more
  std::vector<Hashes> hashes_;        // of each place, chunk by chunk
};

}  // namespace selfheal
