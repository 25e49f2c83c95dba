#include "selfheal/guard/scrubber.hpp"

#include <algorithm>

namespace selfheal {

Scrubber::Scrubber(const WeightImage& image, std::uint64_t seed, bool keyed)
    : image_(&image), order_(image.block_count(), seed), is_keyed_(keyed) {}

std::size_t Scrubber::step(std::size_t budget_bytes, std::span<std::uint32_t> corrupt) noexcept {
  const std::size_t blocks = image_->block_count();
  const std::size_t wanted =
      std::clamp<std::size_t>(budget_bytes / image_->block_bytes(), 1, blocks);
  std::size_t found = 0;
  for (std::size_t i = 0; i < wanted; ++i) {
    const std::size_t block = order_.at(next_);
    if (!image_->check_block(block, is_keyed_)) {
      if (found == corrupt.size()) break;
      corrupt[found++] = static_cast<std::uint32_t>(block);
      ++corrupt_found_;
    }
    next_ = next_ + 1 == blocks ? 0 : next_ + 1;
    ++blocks_checked_;
  }
  return found;
}

}  // namespace selfheal
