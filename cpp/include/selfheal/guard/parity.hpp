#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/guard/weight_image.hpp"

namespace selfheal {

/// An erasure code over an image's blocks: repairs where there is no memory for a copy.
///
/// Every `group_blocks` data blocks get `parity_blocks` of parity: systematic Reed-Solomon over
/// GF(256) with a Cauchy matrix, scaled so that the first parity is a plain xor (Blömer et al.,
/// 1995; Plank and Xu, 2006). Any `parity_blocks` damaged blocks of a group, wherever they are,
/// come back bit for bit. Which ones are damaged need not be guessed: the image's seals tell.
///
/// Groups are interleaved: group g holds blocks g, g + groups(), g + 2 groups() …, so that a burst
/// of b consecutive damaged blocks hits each group at most ceil(b / groups()) times, and the whole
/// image withstands a burst of groups() * parity_blocks blocks.
///
/// What comes back is verified by the image's keyed hash before it is used. Parity blocks have
/// seals of their own; a damaged one is computed again and verified by them.
///
/// Bytes: parity_blocks / group_blocks of the image (1/16 by default), 16 a parity block, and a
/// block of scratch for each of a group. Nothing allocates after construction. reconstruct reads
/// one group. The image must outlive it. One object, one thread.
class Parity {
 public:
  static constexpr std::size_t kMaxParityBlocks = 16;
  static constexpr std::size_t kMaxGroupBlocks = 128;

  /// group_blocks: 1 to 128 data blocks a group. parity_blocks: 1 to 16 a group. Overhead:
  /// parity_blocks / group_blocks of the image's bytes. Throws std::invalid_argument, and
  /// std::runtime_error if the live bytes do not have the image's seals.
  explicit Parity(const WeightImage& image, std::uint64_t group_blocks = 16,
                  std::uint64_t parity_blocks = 1);

  std::size_t groups() const noexcept { return groups_; }
  std::size_t group_of(std::size_t block) const noexcept { return block % groups_; }
  /// Damaged blocks a group that can be repaired.
  std::size_t repairable() const noexcept { return parity_blocks_; }
  /// Parity blocks of all groups; number p belongs to group p % groups().
  std::size_t count() const noexcept { return groups_ * parity_blocks_; }
  const WeightImage& image() const noexcept { return *image_; }

  /// Computes block `block` from the rest of its group into `content`, which has the block's size.
  /// True only if the result is what the image expects.
  bool reconstruct(std::size_t block, std::span<std::byte> content) noexcept;
  /// Computes the parity of a group anew: after a legitimate change. False, and nothing changes, if
  /// a block of the group is not what the image expects.
  /// schedule: the image's kept_key().fresh(), made once for many groups.
  bool encode(std::size_t group, const HashSchedule& schedule) noexcept;
  bool encode(std::size_t group) noexcept { return encode(group, image_->kept_key().fresh()); }
  /// Marks a group's parity as out of date, so that look() says corrupt until it is mended.
  void invalidate(std::size_t group) noexcept;

  /// Whether parity block `number` and its seals are sound.
  BlockState look(std::size_t number) const noexcept;
  /// Mends parity block `number` or its seals. False if a data block of its group is corrupt.
  bool mend(std::size_t number) noexcept;

  std::size_t memory_bytes() const noexcept;

  /// The parity itself and its seals, for tests that damage them.
  std::span<std::byte> stored_bytes() noexcept { return bytes_; }
  SealTable& seals() noexcept { return seals_; }

 private:
  std::size_t member_count(std::size_t group) const noexcept;
  std::size_t member(std::size_t group, std::size_t index) const noexcept {
    return group + index * groups_;
  }
  std::span<std::byte> parity(std::size_t number) noexcept;
  std::span<const std::byte> parity(std::size_t number) const noexcept;
  std::span<std::byte> scratch(std::size_t row) noexcept;
  void compute(std::size_t group, std::size_t row, std::span<std::byte> sum) noexcept;
  std::uint64_t hash_of(std::size_t number, std::span<const std::byte> bytes) const noexcept;
  std::uint64_t tweak(std::size_t number) const noexcept { return image_->block_count() + number; }

  const WeightImage* image_;
  std::size_t parity_blocks_;
  std::size_t groups_;
  std::vector<std::byte> bytes_;    // row by row: parity r of group g is number r * groups_ + g
  std::vector<std::byte> scratch_;  // parity_blocks_ + 1 blocks
  SealTable seals_;
};

}  // namespace selfheal
