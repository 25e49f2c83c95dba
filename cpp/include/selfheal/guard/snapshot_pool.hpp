#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/guard/generation_lists.hpp"
#include "selfheal/guard/weight_image.hpp"

namespace selfheal {

enum class SnapshotStatus : std::uint8_t {
  kOk,
  kUnknownGeneration,
  kGolden,     ///< generation 0 cannot be dropped
  kPinned,     ///< pinned generations cannot be dropped
  kActive,     ///< nor can the generation that the live bytes are
  kArenaFull,  ///< not enough free blocks; nothing was stored
  kTooManyGenerations,
  kCorrupt,      ///< a live block is not what it must be; nothing was stored
  kNoSnapshots,  ///< there is no pool to store anything in
  kBadRange,     ///< bytes that do not lie inside the image, or not in ascending order
};

/// New bytes for a stretch of an image.
struct ByteChange {
  std::size_t offset = 0;
  std::span<const std::byte> bytes;
};

struct TakeResult {
  SnapshotStatus status = SnapshotStatus::kOk;
  Generation generation = 0;
};

struct RestoreResult {
  SnapshotStatus status = SnapshotStatus::kOk;
  std::size_t rewritten = 0;  ///< live blocks that differed and were written
  std::size_t refused = 0;    ///< stored blocks that failed their hash; live bytes untouched
};

/// A stored copy of one block.
struct StoredBlock {
  std::span<const std::byte> bytes;
  bool is_sound = false;    ///< whether it has its keyed hash
  std::uint64_t keyed = 0;  ///< that hash
};

/// Saved states of an image, in memory that is all allocated at construction.
///
/// Generation 0, golden, is a full copy made at construction; nothing writes to it again. Every
/// other generation stores only the blocks that differ from golden, and shares those that an older
/// generation has stored already.
///
/// Without a full copy (`copies_golden` false) golden's blocks are the live ones, held to golden's
/// seals, but for those in which another generation differs, or that are about to be changed on
/// purpose: these are copied into the arena first. That saves the image's size, and damaged live
/// blocks come back from parity or from outside alone.
///
/// Every stored block has a keyed hash, kept twice, and the number of its block, kept twice;
/// generation_lists.hpp says how the lists are kept. All are verified before any byte is written to
/// the live image: a damaged snapshot heals nothing, but it cannot harm either. Which slots are in
/// use is asked of the lists, whatever the slots say of themselves. Restoring tells the image what
/// to expect from now on, by the seal of the stored copy, never by what lies in live memory. take()
/// stores genuine blocks only.
///
/// The pool mends itself (mend_golden, mend_slot, mend_list): each call looks at one block's worth
/// of bytes, however large the image and however many generations there are. Only a slot that is
/// damaged asks the lists.
///
/// Bytes: image + 16 a block (without a copy of golden: 24.25 a block), capacity_blocks *
/// (block_bytes + 24), 8.25 a block and generation, and one block. take: one comparison of the
/// image; restore: a keyed hash and a comparison a block. The image must outlive the pool. One
/// object, one thread; who reads the live memory meanwhile (an inference) must be stopped by the
/// caller.
class SnapshotPool {
 public:
  static constexpr std::size_t kMaxGenerations = 4096;

  /// capacity_blocks: blocks that all generations but golden share, and golden's own where it has
  /// no full copy; 0 keeps golden only. max_generations: golden included, 1 to 4096.
  /// Throws std::invalid_argument, and std::runtime_error if the live bytes do not have the image's
  /// checksums: what is damaged must not become golden.
  SnapshotPool(WeightImage& image, std::uint64_t capacity_blocks,
               std::uint64_t max_generations = 16, bool copies_golden = true);
  bool copies_golden() const noexcept { return golden_list_.places() == 1; }

  /// Stores the live bytes as a new generation, wholly or not at all. Its number is
  /// next_generation() or, where that is larger, `at_least`: so that pools of several images, of
  /// which some may have refused before, give the same one.
  ///
  /// changes: stored instead of the live bytes there, which stay; ascending by offset, not
  /// overlapping.
  TakeResult take(Generation at_least = 0, std::span<const ByteChange> changes = {}) noexcept;
  /// The smallest number that no generation has had.
  Generation next_generation() const noexcept { return next_generation_; }

  /// Makes live blocks first .. first + count (clipped to the image) those of `generation`, and the
  /// image expect them. Indices of refused blocks go to `refused` as far as it reaches.
  RestoreResult restore(Generation generation, std::size_t first, std::size_t count,
                        std::span<std::uint32_t> refused = {}) noexcept;

  /// The copy of a block in a generation; empty and not sound for a generation that is not held.
  /// Here and below, `block` < the image's block_count().
  StoredBlock stored_block(Generation generation, std::size_t block) const noexcept;
  /// Likewise, of a generation whose list was verified already: find a list once, then ask this for
  /// every block.
  StoredBlock stored_at(std::size_t place, std::size_t block) const noexcept;
  /// The place of a generation, its list mended as far as that is possible; generation_count() if
  /// it is not held or its list is lost.
  std::size_t mended_place(Generation generation) noexcept;
  /// Writes the bytes of a generation to `bytes`, which has the image's size. False if a block is
  /// damaged or the generation is not held.
  bool read(Generation generation, std::span<std::byte> bytes) noexcept;
  /// Any copy of `block` that is what the image expects there, verified; empty if none is.
  std::span<const std::byte> find_genuine(std::size_t block) const noexcept;
  /// Whether golden's copy of `block` is sound by its own hash and equal to `content`, which is
  /// then genuine: the last word where both entries of an image's table are lost.
  bool is_golden(std::size_t block, std::span<const std::byte> content) const noexcept;
  /// Mends golden's copy of `block`, bytes or hashes, from live bytes that have its hash. False if
  /// it is damaged and cannot be mended; `changed` says if it was damaged.
  bool mend_golden(std::size_t block, bool* changed) noexcept;

  /// Likewise slot `index` < capacity_blocks() of the arena, a block of generations other than
  /// golden; *block says of which one. A slot that no generation uses is sound.
  bool mend_slot(std::size_t index, std::size_t* block, bool* changed) noexcept;
  /// Likewise piece `index` < list_pieces() of the generations' lists, from its second copy; *place
  /// says of which one.
  bool mend_list(std::size_t index, std::size_t* place, bool* changed) noexcept;
  /// Pieces of lists, of as many generations as fit.
  std::size_t list_pieces() const noexcept {
    return (lists_.places() - 1 + golden_list_.places() - 1) * lists_.chunks();
  }
  /// Mends all lists, as far as that is possible.
  void mend_lists() noexcept;
  /// Keeps golden's blocks from being lost when `bytes` is written at `offset` on purpose. False,
  /// and nothing is to be written, where one is damaged or the arena is full. Nothing to do where
  /// golden has a full copy.
  bool keep_golden(std::size_t offset, std::span<const std::byte> bytes) noexcept;
  /// Writes golden's damaged copies, and their hashes, anew from `bytes`: the whole image as it was
  /// when the pool was made, which the caller has verified. Returns how many were written; live
  /// blocks that golden shares are not (ImageGuard::heal_from).
  std::size_t renew_golden(std::span<const std::byte> bytes) noexcept;

  SnapshotStatus drop(Generation generation) noexcept;
  /// A pinned generation cannot be dropped. Pins are not counted.
  SnapshotStatus pin(Generation generation) noexcept;
  SnapshotStatus unpin(Generation generation) noexcept;

  /// Writes the indices of blocks of `generation` whose stored copy fails its hash to `damaged`
  /// as far as it reaches; *count says how many there are.
  SnapshotStatus verify(Generation generation, std::span<std::uint32_t> damaged,
                        std::size_t* count) const noexcept;
  /// Likewise for the blocks in which `generation` differs from golden.
  SnapshotStatus changed_blocks(Generation generation, std::span<std::uint32_t> changed,
                                std::size_t* count) const noexcept;

  /// Generations held, oldest first, golden at the front; returns how many there are.
  std::size_t generations(std::span<Generation> found) const noexcept;
  std::size_t generation_count() const noexcept { return lists_.count(); }
  bool contains(Generation generation) const noexcept;
  bool is_pinned(Generation generation) const noexcept;
  std::size_t max_generations() const noexcept { return lists_.places(); }
  std::size_t capacity_blocks() const noexcept { return slots_.size(); }
  std::size_t free_blocks() const noexcept { return free_count_; }
  std::size_t memory_bytes() const noexcept;

  /// The stored bytes themselves, for tests that damage them: golden first, then the arena.
  std::span<std::byte> stored_bytes() noexcept { return arena(); }
  /// What is known of the arena's slots, likewise.
  std::span<std::byte> slot_records() noexcept { return std::as_writable_bytes(std::span(slots_)); }
  /// The generations' lists of blocks and golden's seals, likewise.
  std::span<std::byte> list_bytes() noexcept { return lists_.bytes(); }
  std::span<std::byte> golden_list_bytes() noexcept { return golden_list_.bytes(); }
  GenerationLists& lists() noexcept { return lists_; }
  SealTable& golden_seals() noexcept { return golden_seals_; }
  const WeightImage& image() const noexcept { return *image_; }

 private:
  static constexpr std::uint32_t kNone = GenerationLists::kGolden;

  struct Slot {
    std::array<std::uint64_t, 2> keyed{};              // twice, as in seal_table.hpp
    std::array<std::uint32_t, 2> block{kNone, kNone};  // whose copy it is, twice; none: free
  };

  // Golden's bytes: its copy, or the live block that it shares.
  std::span<const std::byte> golden_block(std::size_t block) const noexcept {
    const std::uint32_t slot = golden_slot(block);
    if (slot != kNone) return slot_bytes(slot, block);
    if (!copies_golden()) return image_->block(block);
    return arena().subspan(block * image_->block_bytes(), image_->block(block).size());
  }
  // Where golden's block lies in the slots; kNone where it has a full copy, or shares the live one.
  std::uint32_t golden_slot(std::size_t block) const noexcept {
    if (copies_golden()) return kNone;
    const std::uint32_t slot = golden_list_.list(1)[block];
    return slot < slots_.size() ? slot : kNone;
  }
  std::span<std::byte> slot_bytes(std::size_t slot, std::size_t block) noexcept;
  std::span<const std::byte> slot_bytes(std::size_t slot, std::size_t block) const noexcept;
  bool copy_golden(std::size_t block) noexcept;
  bool mend_shared(std::size_t block, bool* changed) noexcept;
  void release_golden() noexcept;
  void stored_row(std::size_t place, std::size_t first, std::span<StoredBlock> row) const noexcept;
  bool slot_admits(std::size_t slot, std::uint64_t keyed) const noexcept {
    return slots_[slot].keyed[0] == keyed || slots_[slot].keyed[1] == keyed;
  }
  std::uint64_t slot_hash(std::size_t slot, std::size_t block,
                          std::span<const std::byte> content) const noexcept;
  std::uint64_t golden_hash(std::size_t block, std::span<const std::byte> content) const noexcept;
  bool claim(std::size_t slot, std::size_t block) noexcept;
  std::uint32_t owner_of(std::size_t slot, bool* is_known) const noexcept;
  std::uint32_t find_shared(std::size_t block, std::uint64_t keyed,
                            std::span<const std::byte> content) const noexcept;
  std::uint32_t next_free(std::size_t from) const noexcept;
  void recount() noexcept;
  bool are_inside(std::span<const ByteChange> changes) const noexcept;

  // Wide loads that straddle two cache lines take twice as long.
  struct alignas(64) Line {
    std::array<std::byte, 64> bytes;
  };
  std::span<std::byte> arena() noexcept { return std::as_writable_bytes(std::span(arena_)); }
  std::span<const std::byte> arena() const noexcept { return std::as_bytes(std::span(arena_)); }

  WeightImage* image_;
  GenerationLists lists_;
  GenerationLists golden_list_;  // its own slots, at place 1; no place where it has a full copy
  std::size_t golden_blocks_;    // of its full copy, at the front of the arena
  std::vector<Line> arena_;      // golden, padded to whole blocks, then the slots
  SealTable golden_seals_;
  std::vector<Slot> slots_;
  std::vector<std::byte> scratch_;  // one block
  std::vector<bool> is_used_;       // slots that a list names, as recount() found them
  std::size_t free_count_ = 0;
  Generation next_generation_ = 1;
};

}  // namespace selfheal
