#include "selfheal/scrubber.hpp"

#include <algorithm>

namespace selfheal {
namespace {

// splitmix64 (Steele, Lea and Flood, 2014): neighbouring seeds start far apart.
std::uint64_t mix(std::uint64_t seed) noexcept {
  seed += 0x9E3779B97F4A7C15U;
  seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9U;
  seed = (seed ^ (seed >> 27)) * 0x94D049BB133111EBU;
  return seed ^ (seed >> 31);
}

}  // namespace

Scrubber::Scrubber(const WeightImage& image, std::uint64_t seed) noexcept
    : image_(&image), position_(static_cast<std::size_t>(mix(seed) % image.block_count())) {}

std::size_t Scrubber::step(std::size_t budget_bytes, std::span<std::uint32_t> corrupt) noexcept {
  const std::size_t blocks = image_->block_count();
  const std::size_t wanted =
      std::clamp<std::size_t>(budget_bytes / image_->block_bytes(), 1, blocks);
  std::size_t found = 0;
  for (std::size_t i = 0; i < wanted; ++i) {
    if (!image_->check_block(position_)) {
      if (found == corrupt.size()) break;
      corrupt[found++] = static_cast<std::uint32_t>(position_);
      ++corrupt_found_;
    }
    position_ = position_ + 1 == blocks ? 0 : position_ + 1;
    ++blocks_checked_;
  }
  return found;
}

}  // namespace selfheal
