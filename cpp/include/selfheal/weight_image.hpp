#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace selfheal {

/// One tensor's bytes in an image. Regions may overlap (tensors that share a buffer) and need not
/// cover the image: what lies between them is checked all the same.
struct Region {
  std::string name;
  std::string module;
  std::size_t offset = 0;  // bytes from the start of the image
  std::size_t nbytes = 0;
};

/// Consecutive blocks of an image.
struct BlockRange {
  std::size_t first = 0;
  std::size_t count = 0;
};

/// A stretch of live memory that holds weights, with the CRC-32C that every block should have.
///
/// The image is cut into blocks of block_bytes; the last may be shorter. Every byte is covered. The
/// table of checksums has a checksum of its own, so that a damaged table is not taken for damaged
/// weights (table_ok), and accept() refuses to build upon it.
///
/// The memory is borrowed: it must outlive this object and everything that refers to it. It is only
/// read here. Checking costs what crc32c costs; bytes held: 4 a block, and the regions. One object,
/// one thread; the memory may be read by others meanwhile, and if it is being written during a
/// check, that check may report the block.
class WeightImage {
 public:
  static constexpr std::size_t kDefaultBlockBytes = 512;

  /// live: at least one byte. regions: names unique, each inside the image. block_bytes: a power of
  /// two from 64 to 65536; 512 keeps every pattern of up to 5 flipped bits detectable.
  explicit WeightImage(std::span<std::byte> live, std::vector<Region> regions = {},
                       std::size_t block_bytes = kDefaultBlockBytes);

  std::size_t nbytes() const noexcept { return live_.size(); }
  std::size_t block_bytes() const noexcept { return block_bytes_; }
  std::size_t block_count() const noexcept { return golden_.size(); }
  const std::vector<Region>& regions() const noexcept { return regions_; }
  std::span<std::byte> live() const noexcept { return live_; }

  /// The bytes of block `index` < block_count().
  std::span<std::byte> block(std::size_t index) const noexcept;
  std::uint32_t golden_crc(std::size_t index) const noexcept { return golden_[index]; }

  /// Whether block `index` has its checksum.
  bool check_block(std::size_t index) const noexcept;
  /// Checks blocks first .. first + count, clipped to the image; writes the indices of corrupt ones
  /// to `corrupt` as far as it reaches and returns how many there are.
  std::size_t check(std::size_t first, std::size_t count,
                    std::span<std::uint32_t> corrupt) const noexcept;

  /// Takes blocks first .. first + count, clipped to the image, as they are now for right: after a
  /// legitimate change. False, and nothing changes, if the table itself is damaged.
  bool accept(std::size_t first, std::size_t count) noexcept;
  /// Whether the table of checksums has its own checksum.
  bool table_ok() const noexcept;

  /// Indices of the regions that share bytes with block `index`: written to `found` as far as it
  /// reaches; returns how many there are. O(regions).
  std::size_t regions_of_block(std::size_t index, std::span<std::uint32_t> found) const noexcept;
  /// The blocks that share bytes with region `index` < regions().size(); none if it is empty.
  BlockRange blocks_of_region(std::size_t index) const noexcept;

  std::size_t memory_bytes() const noexcept;

  /// The table of checksums itself, for tests that damage it.
  std::span<std::byte> table_bytes() noexcept { return std::as_writable_bytes(std::span(golden_)); }

 private:
  std::uint32_t table_crc() const noexcept;

  std::span<std::byte> live_;
  std::vector<Region> regions_;
  std::size_t block_bytes_;
  std::vector<std::uint32_t> golden_;
  std::uint32_t table_crc_ = 0;
};

}  // namespace selfheal
