#include "measure/inner_signals.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "measure/measured_tensor.hpp"

namespace selfheal::detail {

InnerSignals::InnerSignals(const TensorLayout& layout, const TensorSums& sums)
    : layout_(layout), sums_(&sums) {}

void InnerSignals::measure(const void* tensor, double* row) const noexcept {
  row[0] = row[1] = std::numeric_limits<double>::quiet_NaN();
  if (tensor == nullptr) return;
  const std::size_t n = layout_.elements;
  const auto count = static_cast<double>(n);
  if (layout_.type == ElementType::kFloat32) {
    const auto* const values = static_cast<const float*>(tensor);
    const Moments moments = moments_of(values, n, *sums_);
    if (moments.finite < n) return;
    row[0] = moments.sum / count;
    row[1] = static_cast<double>(moments.active) / count;
    return;
  }
  // Active is above the largest level that is not above zero; a type all of whose levels are above
  // it has a zero point below its least.
  const std::int32_t zero = zero_of(layout_);
  IntegerSums sums;
  bool is_all_above = false;
  if (layout_.type == ElementType::kInt16) {
    is_all_above = zero < std::numeric_limits<std::int16_t>::min();
    const auto level = static_cast<std::int16_t>(std::clamp<std::int32_t>(
        zero, std::numeric_limits<std::int16_t>::min(), std::numeric_limits<std::int16_t>::max()));
    sums_->output16(static_cast<const std::int16_t*>(tensor), n, level, sums);
  } else {
    is_all_above = zero < 0;
    const auto level = static_cast<std::uint8_t>(std::clamp<std::int32_t>(zero, 0, 255));
    sums_->output8(static_cast<const std::uint8_t*>(tensor), n, flip_of(layout_.type), level, sums);
  }
  row[0] = layout_.quantization.scale * (static_cast<double>(sums.sum) / count - zero);
  row[1] = is_all_above ? 1.0 : static_cast<double>(sums.high) / count;
}

}  // namespace selfheal::detail
