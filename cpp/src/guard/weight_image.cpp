#include "selfheal/guard/weight_image.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <unordered_set>
#include <utility>

#include "selfheal/base/argument_error.hpp"

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

std::size_t block_count_of(std::span<std::byte> live, std::uint64_t block_bytes) {
  if (block_bytes < kSmallestBlock || block_bytes > kLargestBlock ||
      (block_bytes & (block_bytes - 1)) != 0) {
    refuse("block_bytes", "a power of two from 64 to 65536", block_bytes);
  }
  if (live.empty()) refuse("buffer", "at least 1 byte", live.size());
  const std::uint64_t blocks = (live.size() - 1) / block_bytes + 1;
  if (blocks > std::numeric_limits<std::uint32_t>::max() / 4) {
    refuse("buffer", "at most 1073741823 blocks", blocks);
  }
  return static_cast<std::size_t>(blocks);
}

}  // namespace

WeightImage::WeightImage(std::span<std::byte> live, std::vector<Region> regions,
                         std::uint64_t block_bytes, HashKey key)
    : live_(live),
      regions_(std::move(regions)),
      block_bytes_(static_cast<std::size_t>(block_bytes)),
      seals_(block_count_of(live, block_bytes)),
      key_(key),
      scratch_(block_bytes_) {
  check_regions(regions_, live.size());
  const HashSchedule schedule = key_.fresh();
  for (std::size_t i = 0; i < block_count(); ++i) seals_.put(i, keyed_hash(schedule, i, block(i)));
}

BlockState WeightImage::look(std::size_t index) const noexcept {
  const auto is_admitted = [&](std::uint64_t hash) { return seals_.admits(index, hash); };
  if (!is_admitted(key_.hash(index, block(index), is_admitted))) return BlockState::kCorrupt;
  return seals_.agrees(index) ? BlockState::kSound : BlockState::kTableDamaged;
}

std::size_t WeightImage::check(std::size_t first, std::size_t count,
                               std::span<std::uint32_t> corrupt) const noexcept {
  first = std::min(first, block_count());
  const std::size_t end = first + std::min(count, block_count() - first);
  if (are_sound(first, end - first)) return 0;
  std::size_t found = 0;
  for (std::size_t begin = first; begin < end; begin += kRow) {
    const std::size_t size = std::min(kRow, end - begin);
    if (are_sound(begin, size)) continue;
    for (std::size_t i = begin; i < begin + size; ++i) {
      if (check_block(i)) continue;
      if (found < corrupt.size()) corrupt[found] = static_cast<std::uint32_t>(i);
      ++found;
    }
  }
  return found;
}

bool WeightImage::are_sound(std::size_t first, std::size_t count) const noexcept {
  const std::size_t whole = std::min(count, live_.size() / block_bytes_ - first);
  const auto bytes = std::span<const std::byte>(live_).subspan(first * block_bytes_);
  const HashSchedule& schedule = key_.raw_schedule();
  if (!keyed_hashes_match(schedule, first, bytes, block_bytes_, seals_.one(first, whole),
                          seals_.other(first, whole))) {
    return false;
  }
  if (whole == count) return true;
  const std::size_t last = first + whole;  // the image's last block is shorter
  return seals_.agrees(last) && seals_.admits(last, keyed_hash(schedule, last, block(last)));
}

bool WeightImage::is_genuine(std::size_t index, std::span<const std::byte> content) const noexcept {
  const auto is_admitted = [&](std::uint64_t hash) { return seals_.admits(index, hash); };
  return content.size() == block(index).size() &&
         is_admitted(key_.hash(index, content, is_admitted));
}

bool WeightImage::mend(std::size_t index) noexcept {
  // One copy of the content decides: it may be written while we look.
  const auto live = block(index);
  const auto copy = std::span(scratch_).first(live.size());
  std::memcpy(copy.data(), live.data(), live.size());
  const auto is_admitted = [&](std::uint64_t hash) { return seals_.admits(index, hash); };
  const std::uint64_t keyed = key_.hash(index, copy, is_admitted);
  if (!is_admitted(keyed)) return false;
  seals_.put(index, keyed);
  return true;
}

bool WeightImage::write(std::size_t offset, std::span<const std::byte> bytes) noexcept {
  if (offset > live_.size() || bytes.size() > live_.size() - offset) return false;
  if (bytes.empty()) return true;
  const HashSchedule schedule = key_.fresh();
  const std::size_t end = offset + bytes.size();
  const std::size_t first = offset / block_bytes_;
  const std::size_t last = (end - 1) / block_bytes_;
  const auto is_partial = [&](std::size_t i) {
    return i * block_bytes_ < offset || i * block_bytes_ + block(i).size() > end;
  };
  for (const std::size_t i : {first, last}) {
    if (is_partial(i) && !check_block(i)) return false;
  }
  for (std::size_t i = first; i <= last; ++i) {
    const auto live = block(i);
    const auto copy = std::span(scratch_).first(live.size());
    std::memcpy(copy.data(), live.data(), live.size());
    if (is_partial(i) && !is_genuine(i, copy)) return false;  // damaged since it was checked
    const std::size_t from = std::max(offset, i * block_bytes_);
    const std::size_t to = std::min(end, i * block_bytes_ + live.size());
    std::memcpy(copy.data() + (from - i * block_bytes_), bytes.data() + (from - offset), to - from);
    seals_.put(i, keyed_hash(schedule, i, copy));
    std::memcpy(live.data(), copy.data(), live.size());
  }
  return true;
}

bool WeightImage::rebind(std::span<std::byte> live) noexcept {
  if (live.size() != live_.size()) return false;
  const std::span<std::byte> old = live_;
  live_ = live;
  if (check(0, block_count(), {}) == 0) return true;
  live_ = old;
  return false;
}

bool WeightImage::table_ok() const noexcept {
  for (std::size_t i = 0; i < block_count(); ++i) {
    if (!seals_.agrees(i)) return false;
  }
  return key_.is_whole();
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
  std::size_t bytes = sizeof *this + seals_.memory_bytes() + scratch_.capacity() +
                      regions_.capacity() * sizeof(Region);
  for (const Region& region : regions_) bytes += region.name.capacity() + region.module.capacity();
  return bytes;
}

}  // namespace selfheal
