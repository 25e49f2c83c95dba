#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "selfheal/base/keyed_hash.hpp"
#include "selfheal/guard/seal_table.hpp"

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

/// What looking at a block found.
enum class BlockState : std::uint8_t {
  kSound,
  kTableDamaged,  ///< the content is genuine, its entries in the table are not: mend()
  kCorrupt,       ///< the content is not what it must be
};

/// A stretch of live memory that holds weights, with the keyed hash that every block must have.
///
/// The image is cut into blocks of block_bytes; the last may be shorter. Every byte is covered. The
/// table is kept twice (seal_table.hpp) and its key three times. Nothing is ever taken for right
/// because it is there: what the image expects changes only through write() and expect(), whose
/// callers bring the content or the seal of a verified copy.
///
/// The memory is borrowed: it must outlive this object and everything that refers to it. Checking
/// costs what keyed_hashes_match() costs; bytes held: 16 a block, one block, and the regions.
/// Nothing allocates after construction. One object, one thread; the memory may be read by others
/// meanwhile, and if it is being written during a check, that check may report the block.
class WeightImage {
 public:
  static constexpr std::size_t kDefaultBlockBytes = 512;
  static constexpr std::size_t kRow = 16;  ///< blocks that are hashed together, in less time

  /// live: at least one byte. regions: names unique, each inside the image. block_bytes: a power of
  /// two from 64 to 65536. key: from the operating system in production; without a secret key the
  /// keyed hash is a checksum like others.
  explicit WeightImage(std::span<std::byte> live, std::vector<Region> regions = {},
                       std::uint64_t block_bytes = kDefaultBlockBytes, HashKey key = {});

  std::size_t nbytes() const noexcept { return live_.size(); }
  std::size_t block_bytes() const noexcept { return block_bytes_; }
  std::size_t block_count() const noexcept { return seals_.size(); }
  const std::vector<Region>& regions() const noexcept { return regions_; }
  std::span<std::byte> live() const noexcept { return live_; }

  /// The bytes of block `index` < block_count().
  std::span<std::byte> block(std::size_t index) const noexcept {
    const std::size_t begin = index * block_bytes_;
    return live_.subspan(begin, std::min(block_bytes_, live_.size() - begin));
  }

  /// Looks at block `index`.
  BlockState look(std::size_t index) const noexcept;
  /// Whether the content of block `index` is what it must be; a damaged table alone is no reason
  /// to say no.
  bool check_block(std::size_t index) const noexcept { return look(index) != BlockState::kCorrupt; }
  /// Whether blocks first .. first + count and both entries of each are sound; false also where
  /// that is in doubt: look() at each settles it.
  bool are_sound(std::size_t first, std::size_t count) const noexcept;
  /// Checks blocks first .. first + count, clipped to the image; writes the indices of corrupt ones
  /// to `corrupt` as far as it reaches and returns how many there are.
  std::size_t check(std::size_t first, std::size_t count,
                    std::span<std::uint32_t> corrupt) const noexcept;

  /// Whether `content`, from wherever it comes, is what block `index` must hold.
  bool is_genuine(std::size_t index, std::span<const std::byte> content) const noexcept;
  /// Block `index` must hold from now on what has this keyed hash; the live bytes stay. It comes
  /// from a verified copy, never from live bytes.
  void expect(std::size_t index, std::uint64_t hash) noexcept { seals_.put(index, hash); }
  /// Writes both entries of block `index` anew from its content; false, and nothing changes, unless
  /// that is genuine.
  bool mend(std::size_t index) noexcept;
  /// A legitimate change: `bytes` at `offset`. Bytes around them in the same blocks are verified
  /// first: false, and nothing changes, if those blocks are corrupt or if the bytes do not lie
  /// inside the image.
  bool write(std::size_t offset, std::span<const std::byte> bytes) noexcept;
  /// The same content has moved: watches `live` from now on. False, and nothing changes, unless it
  /// has the same size and every block in it is genuine.
  bool rebind(std::span<std::byte> live) noexcept;

  /// Whether both entries of every block agree, and all copies of the key.
  bool table_ok() const noexcept;
  /// Mends the copies of the key by majority; true if there was damage.
  bool mend_key() noexcept { return key_.mend(); }

  /// Indices of the regions that share bytes with block `index`: written to `found` as far as it
  /// reaches; returns how many there are. O(regions).
  std::size_t regions_of_block(std::size_t index, std::span<std::uint32_t> found) const noexcept;
  /// The blocks that share bytes with region `index` < regions().size(); none if it is empty.
  BlockRange blocks_of_region(std::size_t index) const noexcept;

  std::size_t memory_bytes() const noexcept;

  /// The table and the key themselves, for tests that damage them.
  SealTable& table() noexcept { return seals_; }
  const SealTable& table() const noexcept { return seals_; }
  KeptKey& kept_key() noexcept { return key_; }
  const KeptKey& kept_key() const noexcept { return key_; }

 private:
  std::span<std::byte> live_;
  std::vector<Region> regions_;
  std::size_t block_bytes_;
  SealTable seals_;
  KeptKey key_;
  std::vector<std::byte> scratch_;  // one block
};

}  // namespace selfheal
