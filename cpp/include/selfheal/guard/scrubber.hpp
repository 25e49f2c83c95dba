#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "selfheal/guard/sweep_order.hpp"
#include "selfheal/guard/weight_image.hpp"

namespace selfheal {

/// Checks an image in slices: each step checks whole blocks worth `budget_bytes` and the next one
/// continues there, round and round. A full sweep takes at most ceil(image / budget) steps, the
/// budget rounded down to whole blocks, at least one.
///
/// The order is secret (sweep_order.hpp) and the same in every sweep: only the seed tells what is
/// checked when, and no block ever waits longer than one sweep. A second object with `keyed` makes
/// the slower sweep that finds chosen flips too. It finds; image_guard.hpp heals as well.
///
/// Refers to the image, which must outlive it. Bytes: its own size. One object, one thread.
class Scrubber {
 public:
  /// seed: the order; from the operating system in production, fixed in tests. keyed: by keyed hash
  /// as well as by checksum.
  explicit Scrubber(const WeightImage& image, std::uint64_t seed = 0, bool keyed = false);

  /// Checks the next blocks, at most the whole image once, and returns how many were corrupt; their
  /// indices go to `corrupt`. Stops early when `corrupt` is full and another corrupt block comes:
  /// the next step starts with that one, so none is lost. `corrupt` has room for at least one.
  std::size_t step(std::size_t budget_bytes, std::span<std::uint32_t> corrupt) noexcept;

  /// The block that the next step checks first.
  std::size_t position() const noexcept { return order_.at(next_); }
  /// Times every block has been checked.
  std::uint64_t sweeps() const noexcept { return blocks_checked_ / image_->block_count(); }
  std::uint64_t blocks_checked() const noexcept { return blocks_checked_; }
  /// Corrupt blocks found; one that stays corrupt counts once a sweep.
  std::uint64_t corrupt_found() const noexcept { return corrupt_found_; }
  std::size_t memory_bytes() const noexcept { return sizeof *this; }

 private:
  const WeightImage* image_;
  SweepOrder order_;
  bool is_keyed_;
  std::size_t next_ = 0;
  std::uint64_t blocks_checked_ = 0;
  std::uint64_t corrupt_found_ = 0;
};

}  // namespace selfheal
