#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "measure/measured_tensor.hpp"
#include "measure/sample_ring.hpp"

namespace selfheal::detail {

// One output as it was in the latest inferences that were kept.
class AnswerMemory {
 public:
  AnswerMemory(const TensorLayout& layout, std::size_t index, std::size_t rows)
      : index_(index), ring_(layout.elements * bytes_of(layout.type), rows) {}

  std::size_t index() const noexcept { return index_; }
  const SampleRing& ring() const noexcept { return ring_; }

  // Whether `tensor` equals the previous answer, to the bit. nullptr: it was not there, and its row
  // holds zeros.
  bool repeats(const void* tensor) noexcept {
    is_there_ = tensor != nullptr;
    const std::byte* const previous = ring_.latest();
    std::byte* const to = ring_.next();
    const std::size_t n = ring_.bytes();
    if (tensor == nullptr) {
      std::memset(to, 0, n);
      return false;
    }
    const auto* const now = static_cast<const std::byte*>(tensor);
    // Answers differ early, as a rule; the C library copies the rest in vectors.
    if (n > kFewBytes) {
      const bool is_same = std::memcmp(now, previous, n) == 0;
      if (!is_same || !ring_.is_in_place()) std::memcpy(to, now, n);
      return has_previous_ && is_same;
    }
    std::uint64_t difference = 0;
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) difference |= copy<std::uint64_t>(now + i, previous + i, to + i);
    // The rest overlaps what was done, where it can: of that nothing new is found, or where words
    // were overwritten in place, nothing.
    if (i < n && n >= 8) {
      difference |= copy<std::uint64_t>(now + n - 8, previous + n - 8, to + n - 8);
    } else {
      for (; i < n; ++i) difference |= copy<std::uint8_t>(now + i, previous + i, to + i);
    }
    return has_previous_ && difference == 0;
  }
  // What was compared is the previous answer from now on.
  void keep() noexcept {
    ring_.keep();
    has_previous_ = is_there_;
  }
  // What was compared takes the previous answer's place.
  void amend() noexcept {
    ring_.amend();
    has_previous_ = is_there_;
  }
  void forget() noexcept { has_previous_ = false; }
  std::size_t memory_bytes() const noexcept { return sizeof *this + ring_.memory_bytes(); }

 private:
  static constexpr std::size_t kFewBytes = 64;  // a call into the C library takes as long

  // Copies a word; returns the bits that differ from the previous one.
  template <typename Word>
  static Word copy(const std::byte* now, const std::byte* previous, std::byte* to) noexcept {
    Word a;
    Word b;
    std::memcpy(&a, now, sizeof a);
    std::memcpy(&b, previous, sizeof b);
    std::memcpy(to, &a, sizeof a);
    return static_cast<Word>(a ^ b);
  }

  std::size_t index_;
  SampleRing ring_;
  bool is_there_ = false;
  bool has_previous_ = false;
};

}  // namespace selfheal::detail
