#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace selfheal {

/// A secret order of 0 .. size-1 in which every item comes exactly once: without the seed
/// nothing tells what is checked next, and still no item waits longer than one sweep.
///
/// A generalised Feistel network over the smallest near-square grid that holds `size` items, with
/// cycle walking (Black and Rogaway, 2002): four rounds of a 32-bit mixing function keyed by the
/// seed. Some 10 ns a call; memory: this object, whatever the size.
class SweepOrder {
 public:
  /// size: 1 to 2^32 - 1. Throws std::invalid_argument otherwise.
  SweepOrder(std::uint64_t size, std::uint64_t seed);

  std::size_t size() const noexcept { return size_; }
  /// The item at `position` < size().
  std::size_t at(std::size_t position) const noexcept;

 private:
  struct Round {
    std::uint32_t add;
    std::uint32_t multiply;
  };

  std::uint32_t size_;
  std::uint32_t rows_ = 1;
  std::uint32_t columns_ = 1;
  std::array<Round, 4> rounds_;
};

}  // namespace selfheal
