#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::runtime {

/// A correction of one input, feature by feature, applied to every inference: gain times the value,
/// plus an offset. It is one stretch of bytes, so that it is swept, saved and rolled back like
/// weights:
///
/// | bytes | content |
/// | --- | --- |
/// | 0 | 0: inputs go in as they come. Otherwise 1 + the axis that counts features |
/// | 1 to 63 | zero |
/// | from 64 | int8, uint8: 256 bytes a feature, the new level at the place of the old one, both as
/// unsigned bytes. float32: the gains of all features, then their offsets |
///
/// Bytes that say what cannot be, which only damage does, correct nothing.
///
/// Memory: the bytes, allocated at construction. apply() takes about 0.5 ns an element of 8 bits,
/// which it looks up, and less for float32. The thread that writes the bytes holds the inference
/// lock.
class InputCorrection {
 public:
  static constexpr std::size_t kHeaderBytes = 64;
  static constexpr std::size_t kLevels = 256;

  /// The shape is that of one sample, 1 to 8 axes of at least one element; nbytes: room for the
  /// correction, kHeaderBytes and a feature at least. Throws std::invalid_argument.
  InputCorrection(ElementType type, std::vector<std::size_t> shape, std::size_t nbytes);

  std::span<std::byte> bytes() noexcept { return bytes_; }
  ElementType type() const noexcept { return type_; }
  /// Of one input.
  std::size_t elements() const noexcept { return elements_; }
  bool is_on() const noexcept { return bytes_[0] != std::byte{0}; }
  /// Writes a corrected input, of this type and size; `from` and `to` do not overlap.
  void apply(const std::byte* from, std::byte* to) const noexcept;

  std::size_t memory_bytes() const noexcept {
    return sizeof *this + bytes_.capacity() + shape_.capacity() * sizeof(std::size_t);
  }

 private:
  ElementType type_;
  std::vector<std::size_t> shape_;
  std::size_t elements_ = 1;
  std::vector<std::byte> bytes_;
};

}  // namespace selfheal::runtime
