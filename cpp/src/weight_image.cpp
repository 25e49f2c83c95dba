#include "selfheal/weight_image.hpp"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "selfheal/argument_error.hpp"
#include "selfheal/crc32c.hpp"

namespace selfheal {
namespace {

constexpr std::size_t kSmallestBlock = 64;
constexpr std::size_t kLargestBlock = 65536;

void check_regions(const std::vector<Region>& regions, std::size_t nbytes) {
  std::unordered_set<std::string> names;
  for (const Region& region : regions) {
    if (!names.insert(region.name).second) {
      refuse("regions", "unique names", quoted(region.name) + " twice");
    }
    if (region.offset > nbytes || region.nbytes > nbytes - region.offset) {
      refuse("regions", "offset + nbytes <= " + std::to_string(nbytes) + ", the size of the image",
             "offset " + std::to_string(region.offset) + " and nbytes " +
                 std::to_string(region.nbytes) + " for '" + region.name + "'");
    }
  }
}

}  // namespace

WeightImage::WeightImage(std::span<std::byte> live, std::vector<Region> regions,
                         std::size_t block_bytes)
    : live_(live), regions_(std::move(regions)), block_bytes_(block_bytes) {
  if (block_bytes < kSmallestBlock || block_bytes > kLargestBlock ||
      (block_bytes & (block_bytes - 1)) != 0) {
    refuse("block_bytes", "a power of two from 64 to 65536", block_bytes);
  }
  if (live.empty()) refuse("buffer", "at least 1 byte", live.size());
  const std::size_t blocks = (live.size() - 1) / block_bytes + 1;
  if (blocks > std::numeric_limits<std::uint32_t>::max()) {
    refuse("buffer", "at most 4294967295 blocks", blocks);
  }
  check_regions(regions_, live.size());
  golden_.resize(blocks);
  for (std::size_t i = 0; i < blocks; ++i) golden_[i] = crc32c(block(i));
  table_crc_ = table_crc();
}

std::span<std::byte> WeightImage::block(std::size_t index) const noexcept {
  const std::size_t begin = index * block_bytes_;
  return live_.subspan(begin, std::min(block_bytes_, live_.size() - begin));
}

bool WeightImage::check_block(std::size_t index) const noexcept {
  return crc32c(block(index)) == golden_[index];
}

std::size_t WeightImage::check(std::size_t first, std::size_t count,
                               std::span<std::uint32_t> corrupt) const noexcept {
  first = std::min(first, golden_.size());
  const std::size_t end = first + std::min(count, golden_.size() - first);
  std::size_t found = 0;
  for (std::size_t i = first; i < end; ++i) {
    if (check_block(i)) continue;
    if (found < corrupt.size()) corrupt[found] = static_cast<std::uint32_t>(i);
    ++found;
  }
  return found;
}

bool WeightImage::accept(std::size_t first, std::size_t count) noexcept {
  if (!table_ok()) return false;
  first = std::min(first, golden_.size());
  const std::size_t end = first + std::min(count, golden_.size() - first);
  for (std::size_t i = first; i < end; ++i) golden_[i] = crc32c(block(i));
  table_crc_ = table_crc();
  return true;
}

bool WeightImage::table_ok() const noexcept { return table_crc() == table_crc_; }

std::uint32_t WeightImage::table_crc() const noexcept {
  return crc32c(std::as_bytes(std::span(golden_)));
}

std::size_t WeightImage::regions_of_block(std::size_t index,
                                          std::span<std::uint32_t> found) const noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    const BlockRange blocks = blocks_of_region(i);
    if (index < blocks.first || index >= blocks.first + blocks.count) continue;
    if (count < found.size()) found[count] = static_cast<std::uint32_t>(i);
    ++count;
  }
  return count;
}

BlockRange WeightImage::blocks_of_region(std::size_t index) const noexcept {
  const Region& region = regions_[index];
  const std::size_t first = region.offset / block_bytes_;
  if (region.nbytes == 0) return {first, 0};
  return {first, (region.offset + region.nbytes - 1) / block_bytes_ - first + 1};
}

std::size_t WeightImage::memory_bytes() const noexcept {
  std::size_t bytes = sizeof *this + golden_.capacity() * sizeof(std::uint32_t) +
                      regions_.capacity() * sizeof(Region);
  for (const Region& region : regions_) bytes += region.name.capacity() + region.module.capacity();
  return bytes;
}

}  // namespace selfheal
