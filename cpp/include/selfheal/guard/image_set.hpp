#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/guard/image_guard.hpp"

namespace selfheal {

/// A stretch of one image of a set.
struct ImageRange {
  std::size_t image = 0;  ///< its place in the set
  std::size_t offset = 0;
  std::size_t nbytes = 0;
};

/// New bytes for a stretch of one image of a set.
struct ImageChange {
  std::size_t image = 0;
  std::size_t offset = 0;
  std::span<const std::byte> bytes;
};

/// All images of one model as one: what is taken, patched or restored is so in each of them or in
/// none, and a generation has the same number in all.
///
/// A model's weights may lie in two places, in the file's bytes and in what the runtime has packed
/// from them. Half a change would be a model that was never tried. So a change is stored in
/// all pools first, where it can still be forgotten, and then put back from there like any other
/// generation, block by block from verified copies; where a block is damaged in between, the images
/// go back to the generation that was active.
///
/// The set knows which generation the live bytes are meant to be, and which generations were made
/// from another without a change (their origin): those answer alike.
///
/// No exception after construction; bytes: its own, 16 a generation and 16 for each of
/// most_changes. Refers to the guards, which must outlive it. One object, one thread; the caller
/// must stop inferences, which read the live memory, meanwhile.
class ImageSet {
 public:
  static constexpr std::size_t kMaxImages = 8;

  /// guards: 1 to 8 of different images, all with a pool or none, whose pools hold the same
  /// generations. most_changes: stretches that one patch may have, 1 to 2^20. Throws
  /// std::invalid_argument.
  explicit ImageSet(std::span<ImageGuard* const> guards, std::uint64_t most_changes = 4096);

  std::size_t count() const noexcept { return guards_.size(); }
  bool has_snapshots() const noexcept { return guards_.front()->pool() != nullptr; }

  /// Stores the live bytes of all images as one generation. is_changed: they are no longer the
  /// active generation's, on purpose; the new one is its own origin then. The active generation
  /// stays. Its number is the next one or, where that is larger, `at_least`: so that a generation
  /// comes back under the number that it had before a restart.
  TakeResult take(bool is_changed = false, Generation at_least = 0) noexcept;
  /// Makes the changed bytes a new generation, in all images, and the live bytes that generation,
  /// which is the active one now; `at_least` as for take(). Changes of an image come ascending by
  /// offset and do not overlap; images may alternate. Nothing has changed unless the status is kOk:
  /// kBadRange for changes that do not fit, kArenaFull or kTooManyGenerations where there is no
  /// room in one of the pools, kCorrupt where a live block is damaged or was damaged meanwhile.
  TakeResult patch(std::span<const ImageChange> changes, Generation at_least = 0) noexcept;
  /// Makes ranges those of a generation, as ImageGuard::restore; in all images or in none. The
  /// active generation stays: activate() says what the live bytes are meant to be. Status kBadRange
  /// for a range of an image that is not there.
  RestoreResult restore(Generation generation, std::span<const ImageRange> ranges) noexcept;
  /// The live bytes are meant to be this generation from now on.
  SnapshotStatus activate(Generation generation) noexcept;

  /// In all images. The active generation cannot be dropped, nor golden, nor a pinned one.
  SnapshotStatus drop(Generation generation) noexcept;
  SnapshotStatus pin(Generation generation) noexcept;
  SnapshotStatus unpin(Generation generation) noexcept;

  Generation active() const noexcept { return active_; }
  /// The smallest number that no generation has had in any image; 1 without pools.
  Generation next_generation() const noexcept;
  /// The first generation with the same content on purpose; golden's for one that is not held.
  Generation origin(Generation generation) const noexcept;
  /// Generations held, oldest first, as SnapshotPool::generations; none without pools.
  std::size_t generations(std::span<Generation> found) const noexcept;
  bool contains(Generation generation) const noexcept;

  std::size_t memory_bytes() const noexcept;

 private:
  struct Origin {
    Generation generation;
    Generation origin;
  };

  TakeResult store(std::span<const ImageChange> changes, Generation at_least) noexcept;
  RestoreResult put_back(Generation generation, std::span<const ImageRange> ranges) noexcept;
  SnapshotPool& pool(std::size_t image) const noexcept { return *guards_[image]->pool(); }
  void note_origin(Generation generation, Generation origin) noexcept;
  template <typename Action>
  SnapshotStatus in_all(Action action) noexcept;

  std::vector<ImageGuard*> guards_;
  std::vector<Origin> origins_;  // of the generations held but golden; the first origin_count_
  std::size_t origin_count_ = 0;
  std::vector<ByteChange> changes_;  // of one image, while it stores them
  std::vector<ImageRange> ranges_;   // of a patch, while it is put back
  Generation active_ = 0;
};

}  // namespace selfheal
