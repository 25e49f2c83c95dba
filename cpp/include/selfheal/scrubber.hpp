#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "selfheal/weight_image.hpp"

namespace selfheal {

/// Checks an image in slices: each step checks whole blocks worth `budget_bytes` and the next one
/// continues there, round and round. A full sweep takes at most ceil(image / budget) steps, the
/// budget rounded down to whole blocks, at least one.
///
/// The start is random, so that devices that boot together do not check the same bytes together and
/// nobody knows what is checked when. Finding is all it does; healing is the caller's.
///
/// Refers to the image, which must outlive it. Bytes: its own size. One object, one thread.
class Scrubber {
 public:
  /// seed: where to start; from the operating system in production, fixed in tests.
  explicit Scrubber(const WeightImage& image, std::uint64_t seed = 0) noexcept;

  /// Checks the next blocks, at most the whole image once, and returns how many were corrupt; their
  /// indices go to `corrupt`. Stops early when `corrupt` is full and another corrupt block comes:
  /// the next step starts with that one, so none is lost. `corrupt` has room for at least one.
  std::size_t step(std::size_t budget_bytes, std::span<std::uint32_t> corrupt) noexcept;

  /// The block that the next step checks first.
  std::size_t position() const noexcept { return position_; }
  /// Times every block has been checked.
  std::uint64_t sweeps() const noexcept { return blocks_checked_ / image_->block_count(); }
  std::uint64_t blocks_checked() const noexcept { return blocks_checked_; }
  /// Corrupt blocks found; one that stays corrupt counts once a sweep.
  std::uint64_t corrupt_found() const noexcept { return corrupt_found_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this; }

 private:
  const WeightImage* image_;
  std::size_t position_;
  std::uint64_t blocks_checked_ = 0;
  std::uint64_t corrupt_found_ = 0;
};

}  // namespace selfheal
