#pragma once

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

namespace selfheal::detail {

// The latest copies of one tensor, in slots that are used in turn: what is measured is written to
// the next slot and compared with the latest, and keep() makes it the latest. So the copy that a
// comparison with the previous inference needs anyway is the history as well.
//
// There is one slot more than rows, since the next one is written before it is kept. A single row
// has a single slot, which is compared and overwritten in place: large tensors are held once.
class SampleRing {
 public:
  SampleRing(std::size_t bytes, std::size_t rows)
      : bytes_(bytes),
        rows_(rows),
        stride_(rows > 1 ? (bytes + kAlignment - 1) / kAlignment * kAlignment : bytes),
        memory_((rows > 1 ? rows + 1 : 1) * stride_),
        step_(rows > 1 ? stride_ : 0),
        end_(memory_.data() + memory_.size()),
        latest_(memory_.data()),
        next_(memory_.data()) {}
  // The pointers go with the memory.
  SampleRing(SampleRing&&) noexcept = default;
  SampleRing& operator=(SampleRing&&) noexcept = default;
  SampleRing(const SampleRing&) = delete;
  SampleRing& operator=(const SampleRing&) = delete;
  ~SampleRing() = default;

  std::size_t bytes() const noexcept { return bytes_; }
  std::size_t rows() const noexcept { return rows_; }
  bool is_in_place() const noexcept { return rows_ <= 1; }
  const std::byte* latest() const noexcept { return latest_; }
  std::byte* next() const noexcept { return next_; }

  void keep() noexcept {
    latest_ = next_;
    next_ += step_;
    if (next_ == end_) next_ = memory_.data();
  }
  // What is in the next slot takes the latest one's place.
  void amend() noexcept {
    if (latest_ != next_) std::memcpy(latest_, next_, bytes_);
  }
  // The copy that was kept `age` calls of keep() before the latest; age < rows().
  const std::byte* row(std::size_t age) const noexcept {
    const auto at = static_cast<std::size_t>(latest_ - memory_.data()) / stride_;
    const std::size_t slots = memory_.size() / stride_;
    return memory_.data() + (at + slots - age) % slots * stride_;
  }
  // Copies the latest `count`, oldest first; count <= rows().
  void copy(std::size_t count, std::byte* to) const noexcept {
    for (std::size_t age = count; age-- > 0; to += bytes_) std::memcpy(to, row(age), bytes_);
  }
  std::size_t memory_bytes() const noexcept { return memory_.capacity(); }

 private:
  static constexpr std::size_t kAlignment = 16;  // of what an allocation gives

  std::size_t bytes_;
  std::size_t rows_;
  std::size_t stride_;
  std::vector<std::byte> memory_;
  std::size_t step_;  // 0 in place
  const std::byte* end_;
  std::byte* latest_;
  std::byte* next_;
};

}  // namespace selfheal::detail
