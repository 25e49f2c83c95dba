#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/guard/parity.hpp"
#include "selfheal/guard/snapshot_pool.hpp"
#include "selfheal/guard/sweep_order.hpp"
#include "selfheal/guard/weight_image.hpp"

namespace selfheal {

/// What was damaged.
enum class DamagedPart : std::uint8_t {
  kLive,      ///< bytes of the image; `block` counts its blocks
  kTable,     ///< the image's table of seals; `block` counts its blocks
  kKey,       ///< a copy of the key; `block` is 0
  kParity,    ///< parity or its seals; `block` counts parity blocks
  kSnapshot,  ///< a generation's stored copy or its seals; `block` counts the image's blocks
  kList,      ///< a generation's list of blocks; `block` counts the generations held, golden 0
};

/// Where the right bytes came from.
enum class RepairSource : std::uint8_t {
  kNone,      ///< nowhere: it is still damaged
  kContent,   ///< the content was right and says what its table must hold, or the other copies do
  kSnapshot,  ///< a stored copy
  kParity,    ///< the rest of its group
  kLive,      ///< the live bytes
  kOutside,   ///< what the caller brought, and the keyed hash has proven
};

/// Bits of one byte that were wrong.
struct ByteFlip {
  std::uint16_t offset = 0;  // from the start of the block
  std::uint8_t mask = 0;     // damaged xor right
};

/// One damage, and what became of it.
struct Finding {
  static constexpr std::size_t kMaxFlips = 16;

  DamagedPart part = DamagedPart::kLive;
  RepairSource source = RepairSource::kNone;
  std::uint8_t flip_count = 0;
  std::uint32_t block = 0;
  std::uint32_t wrong_bytes = 0;  ///< known once healed, of live bytes only
  std::uint32_t wrong_bits = 0;
  std::array<ByteFlip, kMaxFlips> flips{};  ///< the first flip_count wrong bytes

  bool is_healed() const noexcept { return source != RepairSource::kNone; }
};

/// Finds damage to an image and to all that protects it, and heals it at once.
///
/// Two sweeps go round in secret orders, each under a byte budget: one over live bytes, in rows of
/// blocks that are hashed together, and one over what stands behind them, block by block: parity,
/// golden's and other generations' copies, their lists, and the key. Whatever is
/// damaged is repaired before step() returns, from the first source that verifies by keyed hash: a
/// stored copy (one block to read), else parity (a group to read). What was written is verified
/// again; if it was damaged meanwhile it is written anew, three times at most.
///
/// A visit of the sweep behind takes one block's time, however large the image and however many its
/// generations; a restore checks the generation's list once.
///
/// No allocation, no exception, no clock. Refers to the image, the pool and the parity, which must
/// outlive it; pool and parity may be absent: without a pool no generation is held. Bytes: its own
/// size and one block. One object, one thread; an inference may run meanwhile: repairs write right
/// bytes over wrong ones.
class ImageGuard {
 public:
  /// pool, parity: of this image. seed: the orders; from the operating system in production. Throws
  /// std::invalid_argument for those of another image, and for more blocks than a sweep can order.
  ImageGuard(WeightImage& image, SnapshotPool* pool, Parity* parity, std::uint64_t seed);

  /// Adds to both sweeps' budgets and checks as many whole rows of live blocks, and as many blocks
  /// behind them, as they hold; what is left over counts in the next step, so a small budget makes
  /// a slower sweep. At most one sweep a call. Findings go to `found`; when it is full, the step
  /// ends (at once if it has no room), and the next one goes on there. Returns how many there are.
  std::size_t step(std::uint64_t live_bytes, std::uint64_t behind_bytes,
                   std::span<Finding> found) noexcept;
  /// Goes on with the sweep of live bytes likewise, and repairs nothing.
  std::size_t look(std::uint64_t live_bytes, std::span<Finding> found) noexcept;
  /// Checks every live block now, without touching the sweeps' positions. heals:
  /// what is wrong is repaired at once, else it is only told. Returns how many findings there are,
  /// of which `found` has all: when that is full, it ends. Bytes a second: those of
  /// keyed_hashes_match().
  std::size_t verify(bool heals, std::span<Finding> found) noexcept;
  /// The whole of both sweeps now, without touching their positions. Returns how many findings
  /// there are, of which `found` has the first ones; all are healed where that is possible.
  std::size_t sweep(std::span<Finding> found) noexcept;
  /// A part of it: goes on at `next`, 0 at first, until all is swept (`next` is 0 again) or
  /// `found`, which has room, is full.
  std::size_t sweep(std::size_t& next, std::span<Finding> found) noexcept;
  /// Heals block `block` if it needs it; false if it was sound, or if the image has no such block.
  bool heal(std::size_t block, Finding& finding) noexcept;

  /// As heal(), and where nothing here verifies, from `content`: the block's bytes as the caller
  /// has them from elsewhere, which are written only if they are genuine. Whether it is healed now.
  bool heal_from(std::size_t block, std::span<const std::byte> content, Finding& finding) noexcept;

  /// Makes bytes offset .. offset + nbytes (clipped to the image) those of a generation, to the
  /// byte, and the image and the parity expect them. Corrupt blocks that it touches are healed
  /// first. Wholly or not at all: if a stored block is damaged, or a touched block cannot be
  /// healed, `refused` counts them and nothing changes but what was healed.
  RestoreResult restore(Generation generation, std::size_t offset, std::size_t nbytes) noexcept;
  /// The first half of it: heals what restore() would touch, and counts the blocks that it would
  /// refuse; changes nothing else.
  RestoreResult examine(Generation generation, std::size_t offset, std::size_t nbytes) noexcept;
  /// The second half, right after examine() has refused nothing. What is refused all the same was
  /// damaged between the two.
  RestoreResult put_back(Generation generation, std::size_t offset, std::size_t nbytes) noexcept;
  /// A legitimate change, as WeightImage::write, followed up in the parity. Corrupt blocks that it
  /// touches in part are healed first.
  bool write(std::size_t offset, std::span<const std::byte> bytes) noexcept;

  /// Times the sweep of live bytes has been all round, and the one behind them.
  std::uint64_t sweeps() const noexcept { return live_.visited / image_->block_count(); }
  std::uint64_t sweeps_behind() const noexcept { return behind_.visited / behind_.order.size(); }
  /// Bytes that the next step() or look() has to bring for it to check a row of live blocks; 0: it
  /// checks one whatever it brings. Some 10 ns.
  std::uint64_t missing_live_bytes() const noexcept;
  /// Blocks in one round of the sweep of live bytes, and of the one behind them.
  std::size_t live_blocks() const noexcept { return image_->block_count(); }
  std::size_t blocks_behind() const noexcept { return behind_.order.size(); }
  std::size_t block_bytes() const noexcept { return image_->block_bytes(); }
  const WeightImage& image() const noexcept { return *image_; }
  /// The pool, or null.
  SnapshotPool* pool() const noexcept { return pool_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this + scratch_.capacity(); }

 private:
  std::uint64_t next_row_bytes() const noexcept;
  struct Sweep {
    SweepOrder order;  // of rows, or of blocks
    std::size_t next = 0;
    std::uint64_t credit = 0;   // bytes; a round of all copies may have more than 32 bits count
    std::uint64_t visited = 0;  // blocks
  };

  void add(Sweep& sweep, std::uint64_t budget, std::size_t blocks) const noexcept;
  std::size_t sweep_live(std::uint64_t budget, bool heals, std::span<Finding> found) noexcept;
  std::size_t sweep_behind(std::uint64_t budget, std::span<Finding> found) noexcept;
  std::size_t visit_row(std::size_t first, std::size_t end, bool heals, std::span<Finding> found,
                        bool& is_done) noexcept;
  bool visit_live(std::size_t block, Finding& finding) noexcept;
  bool visit(std::size_t item, Finding& finding) noexcept;
  bool visit_behind(std::size_t item, Finding& finding) noexcept;
  bool visit_key(Finding& finding) noexcept;
  bool visit_parity(std::size_t number, Finding& finding) noexcept;
  bool visit_golden(std::size_t block, Finding& finding) noexcept;
  bool visit_slot(std::size_t slot, Finding& finding) noexcept;
  bool visit_list(std::size_t piece, Finding& finding) noexcept;
  RepairSource rewrite(std::size_t block, Finding& finding) noexcept;
  void describe(std::span<const std::byte> wrong, std::span<const std::byte> right,
                Finding& finding) const noexcept;
  struct Span {  // of bytes, and of the blocks that they touch
    std::size_t begin;
    std::size_t end;
    std::size_t first;
    std::size_t last;
  };
  Span clipped(std::size_t offset, std::size_t nbytes) const noexcept;
  template <typename Action>
  void for_groups(std::size_t first, std::size_t last, Action action) noexcept;
  void heal_group(std::size_t group) noexcept;
  void prepare(std::size_t first, std::size_t last) noexcept;
  void follow(std::size_t first, std::size_t last) noexcept;

  WeightImage* image_;
  SnapshotPool* pool_;
  Parity* parity_;
  Sweep live_;
  std::size_t within_ = 0;  // blocks of the next row that were visited
  Sweep behind_;
  std::uint64_t unproven_ = 0;      // bytes that were checked since the key was
  std::vector<std::byte> scratch_;  // one block
};

}  // namespace selfheal
