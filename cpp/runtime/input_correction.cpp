#include "input_correction.hpp"

#include <cstdint>
#include <cstring>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal::runtime {
namespace {

constexpr std::size_t kMostAxes = 8;

std::size_t bytes_of(ElementType type) { return type == ElementType::kFloat32 ? 4 : 1; }

// Rows of `features` blocks of `inner` elements: each block goes through the table of its feature.
void look_up(const std::uint8_t* from, std::uint8_t* to, std::size_t rows, std::size_t features,
             std::size_t inner, const std::uint8_t* tables) noexcept {
  for (std::size_t row = 0; row < rows; ++row) {
    const std::uint8_t* table = tables;
    for (std::size_t feature = 0; feature < features; ++feature) {
      for (std::size_t i = 0; i < inner; ++i) to[i] = table[from[i]];
      from += inner;
      to += inner;
      table += InputCorrection::kLevels;
    }
  }
}

void scale(const float* from, float* to, std::size_t rows, std::size_t features, std::size_t inner,
           const float* gains) noexcept {
  const float* const offsets = gains + features;
  for (std::size_t row = 0; row < rows; ++row) {
    if (inner == 1) {
      for (std::size_t i = 0; i < features; ++i) to[i] = gains[i] * from[i] + offsets[i];
      from += features;
      to += features;
      continue;
    }
    for (std::size_t feature = 0; feature < features; ++feature) {
      const float gain = gains[feature];
      const float offset = offsets[feature];
      for (std::size_t i = 0; i < inner; ++i) to[i] = gain * from[i] + offset;
      from += inner;
      to += inner;
    }
  }
}

}  // namespace

InputCorrection::InputCorrection(ElementType type, std::vector<std::size_t> shape,
                                 std::size_t nbytes)
    : type_(type), shape_(std::move(shape)) {
  if (type == ElementType::kInt16) refuse("type", "int8, uint8 or float32", "int16");
  if (shape_.empty() || shape_.size() > kMostAxes) refuse("shape", "1 to 8 axes", shape_.size());
  for (const std::size_t size : shape_) {
    if (size == 0) refuse("shape", "axes of at least one element", "an empty one");
    elements_ *= size;
  }
  const std::size_t feature = type == ElementType::kFloat32 ? 2 * sizeof(float) : kLevels;
  if (nbytes < kHeaderBytes + feature) {
    refuse("nbytes", "room for one feature at least", nbytes);
  }
  bytes_.resize(nbytes);
}

void InputCorrection::apply(const std::byte* from, std::byte* to) const noexcept {
  const std::size_t axis = std::to_integer<std::size_t>(bytes_[0]) - 1;
  const bool is_real = type_ == ElementType::kFloat32;
  const std::size_t feature = is_real ? 2 * sizeof(float) : kLevels;
  if (axis >= shape_.size() || kHeaderBytes + shape_[axis] * feature > bytes_.size()) {
    std::memcpy(to, from, elements_ * bytes_of(type_));
    return;
  }
  const std::size_t features = shape_[axis];
  std::size_t rows = 1;
  for (std::size_t i = 0; i < axis; ++i) rows *= shape_[i];
  const std::size_t inner = elements_ / (rows * features);
  const std::byte* const content = bytes_.data() + kHeaderBytes;
  if (is_real) {
    scale(reinterpret_cast<const float*>(from), reinterpret_cast<float*>(to), rows, features, inner,
          reinterpret_cast<const float*>(content));
  } else {
    look_up(reinterpret_cast<const std::uint8_t*>(from), reinterpret_cast<std::uint8_t*>(to), rows,
            features, inner, reinterpret_cast<const std::uint8_t*>(content));
  }
}

}  // namespace selfheal::runtime
