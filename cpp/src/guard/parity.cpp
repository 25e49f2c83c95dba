#include "selfheal/guard/parity.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "guard/sizes.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/gf256.hpp"

namespace selfheal {
namespace {

using Square =
    std::array<std::array<std::uint8_t, Parity::kMaxParityBlocks>, Parity::kMaxParityBlocks>;

std::size_t checked(const char* name, std::uint64_t value, std::size_t most) {
  if (value < 1 || value > most) {
    refuse(name, "an integer from 1 to " + std::to_string(most), value);
  }
  return static_cast<std::size_t>(value);
}

// 1 / (x_row + y_i) with x_row = row and y_i = 16 + i, each column divided by its first row.
// Computed where it is needed: a matrix in memory would be one more thing that damage could change.
std::uint8_t coefficient(std::size_t row, std::size_t index) noexcept {
  const auto y = static_cast<unsigned>(Parity::kMaxParityBlocks + index);
  const auto cauchy = gf256::inverse(static_cast<std::uint8_t>(row ^ y));
  return gf256::multiply(cauchy, static_cast<std::uint8_t>(y));
}

// Replaces the top left `size` rows and columns by their inverse (Gauss and Jordan). Every square
// part of a Cauchy matrix has one.
void invert(Square& matrix, std::size_t size) noexcept {
  Square result{};
  for (std::size_t i = 0; i < size; ++i) result[i][i] = 1;
  for (std::size_t column = 0; column < size; ++column) {
    std::size_t pivot = column;
    while (matrix[pivot][column] == 0) ++pivot;
    std::swap(matrix[pivot], matrix[column]);
    std::swap(result[pivot], result[column]);
    const std::uint8_t scale = gf256::inverse(matrix[column][column]);
    for (std::size_t j = 0; j < size; ++j) {
      matrix[column][j] = gf256::multiply(matrix[column][j], scale);
      result[column][j] = gf256::multiply(result[column][j], scale);
    }
    for (std::size_t row = 0; row < size; ++row) {
      const std::uint8_t factor = matrix[row][column];
      if (row == column || factor == 0) continue;
      for (std::size_t j = 0; j < size; ++j) {
        matrix[row][j] ^= gf256::multiply(factor, matrix[column][j]);
        result[row][j] ^= gf256::multiply(factor, result[column][j]);
      }
    }
  }
  matrix = result;
}

}  // namespace

Parity::Parity(const WeightImage& image, std::uint64_t group_blocks, std::uint64_t parity_blocks)
    : image_(&image),
      parity_blocks_(checked("parity_blocks", parity_blocks, kMaxParityBlocks)),
      groups_((image.block_count() - 1) / checked("group_blocks", group_blocks, kMaxGroupBlocks) +
              1),
      bytes_(detail::product("parity_blocks", parity_blocks_,
                             detail::product("image", groups_, image.block_bytes()))),
      scratch_((parity_blocks_ + 1) * image.block_bytes()),
      seals_(groups_ * parity_blocks_) {
  const HashSchedule schedule = image.kept_key().fresh();
  for (std::size_t group = 0; group < groups_; ++group) {
    if (!encode(group, schedule)) {
      throw std::runtime_error("image: expected undamaged bytes to compute parity from, got a " +
                               std::string("corrupt block in group ") + std::to_string(group));
    }
  }
}

std::size_t Parity::member_count(std::size_t group) const noexcept {
  return (image_->block_count() - group - 1) / groups_ + 1;
}

std::span<std::byte> Parity::parity(std::size_t number) noexcept {
  return std::span(bytes_).subspan(number * image_->block_bytes(), image_->block_bytes());
}

std::span<const std::byte> Parity::parity(std::size_t number) const noexcept {
  return std::span(bytes_).subspan(number * image_->block_bytes(), image_->block_bytes());
}

std::span<std::byte> Parity::scratch(std::size_t row) noexcept {
  return std::span(scratch_).subspan(row * image_->block_bytes(), image_->block_bytes());
}

void Parity::compute(std::size_t group, std::size_t row, std::span<std::byte> sum) noexcept {
  std::fill(sum.begin(), sum.end(), std::byte{0});
  for (std::size_t i = 0; i < member_count(group); ++i) {
    gf256::multiply_add(sum, coefficient(row, i), image_->block(member(group, i)));
  }
}

bool Parity::encode(std::size_t group, const HashSchedule& schedule) noexcept {
  const auto is_sound = [&] {
    for (std::size_t i = 0; i < member_count(group); ++i) {
      if (!image_->check_block(member(group, i))) return false;
    }
    return true;
  };
  for (std::size_t row = 0; row < parity_blocks_; ++row) compute(group, row, scratch(row));
  if (!is_sound()) return false;  // asked after reading: nothing damaged went into the sums
  for (std::size_t row = 0; row < parity_blocks_; ++row) {
    const std::size_t number = row * groups_ + group;
    const auto sum = scratch(row);
    seals_.put(number, keyed_hash(schedule, tweak(number), sum));
    std::memcpy(parity(number).data(), sum.data(), sum.size());
  }
  return true;
}

void Parity::invalidate(std::size_t group) noexcept {
  for (std::size_t row = 0; row < parity_blocks_; ++row) {
    const std::size_t number = row * groups_ + group;
    seals_.put(number, ~seals_.get(number));
  }
}

std::uint64_t Parity::hash_of(std::size_t number, std::span<const std::byte> bytes) const noexcept {
  const auto is_admitted = [&](std::uint64_t hash) { return seals_.admits(number, hash); };
  return image_->kept_key().hash(tweak(number), bytes, is_admitted);
}

BlockState Parity::look(std::size_t number) const noexcept {
  if (!seals_.admits(number, hash_of(number, parity(number)))) return BlockState::kCorrupt;
  return seals_.agrees(number) ? BlockState::kSound : BlockState::kTableDamaged;
}

bool Parity::mend(std::size_t number) noexcept {
  if (look(number) == BlockState::kCorrupt) {
    const auto sum = scratch(0);
    compute(number % groups_, number / groups_, sum);
    if (!seals_.admits(number, hash_of(number, sum))) {
      return encode(number % groups_);  // both entries are gone too: from verified data alone
    }
    std::memcpy(parity(number).data(), sum.data(), sum.size());
  }
  const std::uint64_t hash = hash_of(number, parity(number));
  if (!seals_.admits(number, hash)) return false;
  seals_.put(number, hash);
  return true;
}

bool Parity::reconstruct(std::size_t block, std::span<std::byte> content) noexcept {
  const std::size_t group = group_of(block);
  const std::size_t members = member_count(group);
  std::array<std::size_t, kMaxParityBlocks> lost{};
  std::size_t lost_count = 0;
  std::size_t wanted = 0;
  for (std::size_t i = 0; i < members; ++i) {
    const bool is_wanted = member(group, i) == block;
    if (!is_wanted && image_->check_block(member(group, i))) continue;
    if (lost_count == parity_blocks_) return false;
    if (is_wanted) wanted = lost_count;
    lost[lost_count++] = i;
  }
  Square matrix{};
  std::size_t rows = 0;
  for (std::size_t row = 0; row < parity_blocks_ && rows < lost_count; ++row) {
    const std::size_t number = row * groups_ + group;
    if (look(number) == BlockState::kCorrupt) continue;
    for (std::size_t j = 0; j < lost_count; ++j) matrix[rows][j] = coefficient(row, lost[j]);
    const auto sum = scratch(rows);
    std::memcpy(sum.data(), parity(number).data(), sum.size());
    for (std::size_t i = 0; i < members; ++i) {
      if (std::find(lost.begin(), lost.begin() + static_cast<std::ptrdiff_t>(lost_count), i) !=
          lost.begin() + static_cast<std::ptrdiff_t>(lost_count)) {
        continue;
      }
      gf256::multiply_add(sum, coefficient(row, i), image_->block(member(group, i)));
    }
    ++rows;
  }
  if (rows < lost_count) return false;
  invert(matrix, lost_count);
  const auto result = scratch(parity_blocks_);
  std::fill(result.begin(), result.end(), std::byte{0});
  for (std::size_t row = 0; row < lost_count; ++row) {
    gf256::multiply_add(result, matrix[wanted][row], scratch(row));
  }
  std::memcpy(content.data(), result.data(), content.size());
  return image_->is_genuine(block, content);
}

std::size_t Parity::memory_bytes() const noexcept {
  return sizeof *this + bytes_.capacity() + scratch_.capacity() + seals_.memory_bytes();
}

}  // namespace selfheal
