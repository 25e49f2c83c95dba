#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"

namespace selfheal {

/// A window over the last `capacity` rows of `width` numbers, the oldest overwritten first.
///
/// Values are kept as they are, NaN included. One allocation, at construction:
/// capacity * width * sizeof(T) bytes. push: O(width); push_many: O(rows kept).
/// One object, one thread.
template <typename T>
class RingBuffer {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);

 public:
  /// Most values a buffer may hold: 2^28, or what one vector of a 32-bit machine can.
  static constexpr std::size_t kMaxValues =
      std::min(std::size_t{1} << 28,
               static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T));

  /// The rows held, oldest first: all of `older`, then all of `newer` (empty until the window
  /// wraps). Valid until the next push or clear changes what they show.
  struct Spans {
    std::span<const T> older;
    std::span<const T> newer;
  };

  /// A buffer of scalars: rows of one number. capacity: 1 to kMaxValues.
  explicit RingBuffer(std::uint64_t capacity) : RingBuffer(capacity, 1) { is_scalar_ = true; }

  /// capacity: rows, >= 1. width: numbers a row, >= 1. Together at most kMaxValues.
  RingBuffer(std::uint64_t capacity, std::uint64_t width) {
    if (capacity < 1) refuse("capacity", "an integer >= 1", capacity);
    if (width < 1) refuse("width", "an integer >= 1", width);
    if (capacity > kMaxValues / width) {
      refuse("capacity", "capacity * width <= " + std::to_string(kMaxValues), capacity);
    }
    capacity_ = static_cast<std::size_t>(capacity);
    width_ = static_cast<std::size_t>(width);
    values_.resize(capacity_ * width_);
  }

  std::size_t capacity() const noexcept { return capacity_; }
  /// Numbers a row; 1 for scalars.
  std::size_t width() const noexcept { return width_; }
  /// Made without a width; it differs from width 1 only in how Python shows it.
  bool is_scalar() const noexcept { return is_scalar_; }
  /// Rows held, 0 to capacity.
  std::size_t size() const noexcept {
    return total_ < capacity_ ? static_cast<std::size_t>(total_) : capacity_;
  }
  /// Rows ever pushed since construction or clear().
  std::uint64_t total() const noexcept { return total_; }

  /// For width 1.
  void push(T value) noexcept { push_many(std::span<const T>(&value, 1)); }
  /// `row` has exactly `width` values.
  void push(std::span<const T> row) noexcept { push_many(row); }

  /// `rows` is row-major and holds a whole number of rows; of more than `capacity` rows the last
  /// `capacity` stay, and all are counted.
  void push_many(std::span<const T> rows) noexcept {
    std::size_t count = rows.size() / width_;
    total_ += count;
    if (count > capacity_) {
      const std::size_t surplus = count - capacity_;
      next_ = (next_ + surplus % capacity_) % capacity_;
      rows = rows.subspan(surplus * width_);
      count = capacity_;
    }
    const std::size_t until_end = std::min(count, capacity_ - next_);
    const auto middle = rows.begin() + static_cast<std::ptrdiff_t>(until_end * width_);
    const auto end = rows.begin() + static_cast<std::ptrdiff_t>(count * width_);
    std::copy(rows.begin(), middle, values_.begin() + static_cast<std::ptrdiff_t>(next_ * width_));
    std::copy(middle, end, values_.begin());
    next_ = (next_ + count) % capacity_;
  }

  Spans spans() const noexcept {
    const std::span<const T> all(values_);
    if (total_ < capacity_) return {all.first(next_ * width_), all.first(0)};
    return {all.subspan(next_ * width_), all.first(next_ * width_)};
  }

  void clear() noexcept {
    next_ = 0;
    total_ = 0;
  }

  std::size_t memory_bytes() const noexcept {
    return sizeof *this + values_.capacity() * sizeof(T);
  }

  std::vector<std::byte> state() const {
    StateWriter writer(kTag, 1);
    writer.u64(capacity_);
    writer.u64(is_scalar_ ? 0 : width_);
    writer.u64(total_);
    const Spans held = spans();
    for (const T value : held.older) writer.number(value);
    for (const T value : held.newer) writer.number(value);
    return std::move(writer).finish();
  }

  /// The window restarts at another place of its memory; what it shows is the same. most_bytes:
  /// what the buffer may take beside four times its state.
  static RingBuffer from_state(std::span<const std::byte> blob,
                               std::size_t most_bytes = kStateBytes) {
    StateReader reader(blob, kTag, 1, most_bytes);
    const std::uint64_t capacity = reader.u64();
    const std::uint64_t stored_width = reader.u64();
    const std::uint64_t width = std::max<std::uint64_t>(stored_width, 1);
    const std::uint64_t total = reader.u64();
    StateReader::require(capacity >= 1 && capacity <= kMaxValues && width <= kMaxValues &&
                             capacity * width <= kMaxValues,
                         "a capacity or width out of range");
    reader.require_exactly(std::min(capacity, total) * width, sizeof(T));
    reader.claim(capacity * width, sizeof(T));
    RingBuffer buffer(capacity, width);
    buffer.is_scalar_ = stored_width == 0;
    const auto rows = static_cast<std::size_t>(std::min(capacity, total));
    for (std::size_t i = 0; i < rows * buffer.width_; ++i) reader.number(buffer.values_[i]);
    buffer.next_ = rows % buffer.capacity_;
    buffer.total_ = total;
    reader.finish();
    return buffer;
  }

 private:
  static constexpr StateTag kTag = std::is_same_v<T, float> ? state_tag("RNGF") : state_tag("RNGD");

  std::size_t capacity_ = 0;
  std::size_t width_ = 0;
  std::vector<T> values_;
  std::size_t next_ = 0;
  std::uint64_t total_ = 0;
  bool is_scalar_ = false;
};

}  // namespace selfheal
