#include "measure/measured_tensor.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace selfheal::detail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr std::array kOfIntegers{SignalRole::kInputMean,         SignalRole::kInputStd,
                                 SignalRole::kInputSaturatedLow, SignalRole::kInputSaturatedHigh,
                                 SignalRole::kInputChange,       SignalRole::kInputRoughness};
constexpr std::array kOfFloats{SignalRole::kInputMean, SignalRole::kInputStd,
                               SignalRole::kInputChange, SignalRole::kInputRoughness};

double reciprocal(std::size_t n) noexcept { return 1.0 / static_cast<double>(n); }

Spread spread_of(const Moments& sums, double pivot) noexcept {
  if (sums.finite == 0) return {kNan, kNan};
  const auto n = static_cast<double>(sums.finite);
  const double mean = sums.sum / n;
  return {pivot + mean, std::sqrt(std::max(0.0, sums.squares / n - mean * mean))};
}

double first_finite(const float* x, std::size_t n) noexcept {
  const float* const found = std::find_if(x, x + n, [](float v) { return std::isfinite(v); });
  return found == x + n ? 0.0 : static_cast<double>(*found);
}

// A number near the mean, if elements are finite: so sums of floats lose nothing in a variance.
float pivot_of(const float* x, std::size_t n) noexcept {
  constexpr std::size_t kLooked = 16;
  const std::size_t looked = std::min(n, kLooked);
  double sum = 0.0;
  for (std::size_t i = 0; i < looked; ++i) sum += static_cast<double>(x[i * n / looked]);
  return static_cast<float>(sum / static_cast<double>(looked));
}

// Whether floats could hold all products: none was too large, and few were too small.
bool holds(const FloatSums& sums, const float* x, std::size_t n, float pivot) noexcept {
  constexpr double kLeast = 1e-30;
  if (!std::isfinite(sums.sum) || !std::isfinite(sums.squares)) return false;
  return sums.squares > kLeast * static_cast<double>(n) ||
         std::all_of(x, x + n, [=](float value) { return value == pivot; });
}

// And whether the pivot was near enough to the mean for a variance.
bool holds_spread(const FloatSums& sums, const float* x, std::size_t n, float pivot) noexcept {
  return holds(sums, x, n, pivot) &&
         17.0 * sums.sum * sums.sum <= 16.0 * sums.squares * static_cast<double>(n);
}

// In doubles; elements that are not finite are skipped.
Moments finite_moments(const float* x, std::size_t n, double pivot) noexcept {
  Moments sums;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) continue;
    const double offset = static_cast<double>(x[i]) - pivot;
    sums.sum += offset;
    sums.squares += offset * offset;
    ++sums.finite;
  }
  return sums;
}

double finite_difference(const float* a, const float* b, std::size_t n) noexcept {
  double sum = 0.0;
  std::uint64_t pairs = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) continue;
    sum += std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    ++pairs;
  }
  return pairs > 0 ? sum / static_cast<double>(pairs) : kNan;
}

// Calls f with the elements and the zero point that goes with them.
template <typename Function>
auto with_elements(const TensorLayout& layout, const void* tensor, bool is_flipped, Function&& f) {
  switch (layout.type) {
    case ElementType::kInt8:
      return is_flipped
                 ? f(static_cast<const std::uint8_t*>(tensor), zero_of(layout))
                 : f(static_cast<const std::int8_t*>(tensor), layout.quantization.zero_point);
    case ElementType::kUint8:
      return f(static_cast<const std::uint8_t*>(tensor), layout.quantization.zero_point);
    case ElementType::kInt16:
      return f(static_cast<const std::int16_t*>(tensor), layout.quantization.zero_point);
    case ElementType::kFloat32:
      break;
  }
  return f(static_cast<const float*>(tensor), 0);
}

Spread finite_spread(const float* x, std::size_t n, std::uint64_t& finite) noexcept {
  const double pivot = first_finite(x, n);
  const Moments moments = finite_moments(x, n, pivot);
  finite = moments.finite;
  return spread_of(moments, pivot);
}

// Mean squared difference, over pairs that are both finite.
double imitation_error(const TensorLayout& layout, const void* output,
                       const MeasuredInput& input) noexcept {
  const double scale = layout.quantization.scale;
  const double scale_in = input.layout().quantization.scale;
  return with_elements(layout, output, false, [&](const auto* y, std::int32_t zero) {
    return with_elements(input.layout(), input.values(), true,
                         [&](const auto* x, std::int32_t zero_in) {
                           double sum = 0.0;
                           std::uint64_t pairs = 0;
                           for (std::size_t i = 0; i < layout.elements; ++i) {
                             const double error = scale * (static_cast<double>(y[i]) - zero) -
                                                  scale_in * (static_cast<double>(x[i]) - zero_in);
                             const bool is_pair = std::isfinite(error);
                             pairs += is_pair ? 1 : 0;
                             sum += is_pair ? error * error : 0.0;
                           }
                           return pairs > 0 ? sum / static_cast<double>(pairs) : kNan;
                         });
  });
}

}  // namespace

Spread spread_of(std::int64_t sum, std::int64_t squares, std::int64_t n, double per_element,
                 double scale, std::int32_t zero) noexcept {
  // Moved, still in integers, to the pivot nearest to the mean: nothing cancels in the variance,
  // and equal elements have none.
  const double mean = static_cast<double>(sum) * per_element;
  const auto pivot = static_cast<std::int64_t>(mean < 0.0 ? mean - 0.5 : mean + 0.5);
  const std::int64_t rest = sum - pivot * n;
  const std::int64_t around = squares - 2 * pivot * sum + pivot * pivot * n;
  const double offset = static_cast<double>(rest) * per_element;
  const double variance =
      std::max(0.0, static_cast<double>(around) * per_element - offset * offset);
  return {scale * (static_cast<double>(pivot - zero) + offset), scale * std::sqrt(variance)};
}

Moments moments_of(const float* x, std::size_t n, const TensorSums& sums) noexcept {
  FloatSums quick;
  sums.float_moments(x, n, 0.0F, quick);
  if (holds(quick, x, n, 0.0F)) [[likely]]
    return {quick.sum, quick.squares, n, quick.active};
  Moments moments = finite_moments(x, n, 0.0);
  moments.active = quick.active;
  return moments;
}

MeasuredInput::MeasuredInput(const TensorLayout& layout, std::size_t index, const TensorSums& sums,
                             std::size_t rows)
    : layout_(layout),
      index_(index),
      sums_(&sums),
      step_(layout.channels < layout.elements ? layout.channels : 1),
      signals_((layout.type == ElementType::kFloat32 ? kOfFloats.size() : kOfIntegers.size()) -
               (layout.elements > 1 ? 0 : 1)),
      per_element_(reciprocal(layout.elements)),
      per_pair_(layout.elements > 1 ? reciprocal(layout.elements - step_) : 0.0),
      ring_(layout.elements * bytes_of(layout.type), rows) {}

std::span<const SignalRole> MeasuredInput::roles() const noexcept {
  return layout_.type == ElementType::kFloat32
             ? std::span<const SignalRole>(kOfFloats).first(signals_)
             : std::span<const SignalRole>(kOfIntegers).first(signals_);
}

InputResult MeasuredInput::measure(const void* tensor, double* row) noexcept {
  return layout_.type == ElementType::kFloat32
             ? measure_floats(static_cast<const float*>(tensor), row)
             : measure_integers(tensor, row);
}

InputResult MeasuredInput::measure_integers(const void* tensor, double* row) noexcept {
  IntegerSums sums;
  const std::size_t n = layout_.elements;
  if (layout_.type == ElementType::kInt16) {
    sums_->input16(static_cast<const std::int16_t*>(tensor), n, step_,
                   reinterpret_cast<const std::int16_t*>(ring_.latest()),
                   reinterpret_cast<std::int16_t*>(ring_.next()), sums);
  } else {
    sums_->input8(static_cast<const std::uint8_t*>(tensor), n, step_, flip_of(layout_.type),
                  reinterpret_cast<const std::uint8_t*>(ring_.latest()),
                  reinterpret_cast<std::uint8_t*>(ring_.next()), sums);
  }
  sum_ = sums.sum;
  squares_ = sums.squares;
  const double scale = layout_.quantization.scale;
  const Spread spread = spread_of(sums.sum, sums.squares, static_cast<std::int64_t>(n),
                                  per_element_, scale, zero_of(layout_));
  row[0] = spread.mean;
  row[1] = spread.std;
  row[2] = static_cast<double>(sums.low) * per_element_;
  row[3] = static_cast<double>(sums.high) * per_element_;
  row[4] = has_previous_ ? scale * static_cast<double>(sums.change) * per_element_ : kNan;
  if (n > 1) row[5] = scale * static_cast<double>(sums.roughness) * per_pair_;
  return {0, has_previous_ && sums.change == 0};
}

InputResult MeasuredInput::measure_floats(const float* tensor, double* row) noexcept {
  const std::size_t n = layout_.elements;
  const auto* const previous = reinterpret_cast<const float*>(ring_.latest());
  auto* const kept = reinterpret_cast<float*>(ring_.next());
  // In place, what the slow way compares with would be gone.
  float* const copied = ring_.is_in_place() ? nullptr : kept;
  FloatSums sums;
  const float pivot = pivot_of(tensor, n);
  sums_->floats(tensor, n, step_, pivot, previous, copied, sums);
  double change = sums.change * per_element_;
  double roughness = sums.roughness * per_pair_;
  std::uint64_t finite = n;
  Spread spread{};
  if (holds_spread(sums, tensor, n, pivot)) [[likely]] {
    spread = spread_of({sums.sum, sums.squares, n, 0}, static_cast<double>(pivot));
  } else {
    spread = finite_spread(tensor, n, finite);
  }
  if (!std::isfinite(change)) change = finite_difference(tensor, previous, n);
  if (n > 1 && !std::isfinite(roughness)) {
    roughness = finite_difference(tensor + step_, tensor, n - step_);
  }
  if (copied == nullptr) std::memcpy(kept, tensor, n * sizeof(float));
  row[0] = spread.mean;
  row[1] = spread.std;
  row[2] = has_previous_ ? change : kNan;
  if (n > 1) row[3] = roughness;
  return {n - finite, has_previous_ && finite == n && change == 0.0};
}

void MeasuredInput::copy_recent(std::size_t count, std::byte* to) const noexcept {
  const auto flip = static_cast<std::byte>(flip_of(layout_.type));
  for (std::size_t age = count; age-- > 0; to += ring_.bytes()) {
    const std::byte* const from = ring_.row(age);
    std::transform(from, from + ring_.bytes(), to, [&](std::byte b) { return b ^ flip; });
  }
}

MeasuredOutput::MeasuredOutput(const TensorLayout& layout, std::size_t index,
                               const TensorSums& sums)
    : layout_(layout), index_(index), sums_(&sums), per_element_(reciprocal(layout.elements)) {}

bool MeasuredOutput::measure(const void* tensor, const MeasuredInput* input, double* row,
                             double* error) const noexcept {
  if (tensor == nullptr) {
    row[0] = row[1] = kNan;
    return true;
  }
  if (input != nullptr && is_byte(layout_.type) && is_byte(input->layout().type)) {
    measure_bytes(static_cast<const std::uint8_t*>(tensor), *input, row, error);
    return true;
  }
  if (input != nullptr) *error = error_against(*input, tensor);
  const std::size_t n = layout_.elements;
  if (layout_.type == ElementType::kFloat32) {
    const auto* const values = static_cast<const float*>(tensor);
    FloatSums sums;
    const float pivot = pivot_of(values, n);
    sums_->float_moments(values, n, pivot, sums);
    std::uint64_t finite = n;
    const Spread spread =
        holds_spread(sums, values, n, pivot)
            ? spread_of({sums.sum, sums.squares, n, 0}, static_cast<double>(pivot))
            : finite_spread(values, n, finite);
    row[0] = spread.mean;
    row[1] = spread.std;
    return finite == n;
  }
  IntegerSums sums;
  if (layout_.type == ElementType::kInt16) {
    const auto* const values = static_cast<const std::int16_t*>(tensor);
    sums_->output16(values, n, 0, sums);
  } else {
    sums_->output8(static_cast<const std::uint8_t*>(tensor), n, flip_of(layout_.type), 255, sums);
  }
  const Spread spread = spread_of(sums.sum, sums.squares, static_cast<std::int64_t>(n),
                                  per_element_, layout_.quantization.scale, zero_of(layout_));
  row[0] = spread.mean;
  row[1] = spread.std;
  return true;
}

double MeasuredOutput::error_against(const MeasuredInput& input,
                                     const void* tensor) const noexcept {
  if (layout_.type == ElementType::kFloat32 && input.layout().type == ElementType::kFloat32) {
    const double sum =
        sums_->float_errors(static_cast<const float*>(tensor),
                            static_cast<const float*>(input.values()), layout_.elements);
    if (std::isfinite(sum)) [[likely]]
      return sum * per_element_;
  }
  return imitation_error(layout_, tensor, input);
}

void MeasuredOutput::measure_bytes(const std::uint8_t* tensor, const MeasuredInput& input,
                                   double* row, double* error) const noexcept {
  const auto n = static_cast<std::int64_t>(layout_.elements);
  PairSums sums;
  sums_->pair8(tensor, static_cast<const std::uint8_t*>(input.values()), layout_.elements,
               flip_of(layout_.type), sums);
  const double scale = layout_.quantization.scale;
  const double scale_in = input.layout().quantization.scale;
  const std::int64_t zero = zero_of(layout_);
  const std::int64_t zero_in = zero_of(input.layout());
  const Spread spread = spread_of(sums.sum, sums.squares, n, per_element_, scale, zero_of(layout_));
  row[0] = spread.mean;
  row[1] = spread.std;
  // In steps from the zero points, still exact.
  const std::int64_t own = sums.squares - 2 * zero * sums.sum + n * zero * zero;
  const std::int64_t others = input.squares() - 2 * zero_in * input.sum() + n * zero_in * zero_in;
  const std::int64_t products =
      sums.products - zero_in * sums.sum - zero * input.sum() + n * zero * zero_in;
  const double squared = scale * scale * static_cast<double>(own) -
                         2.0 * scale * scale_in * static_cast<double>(products) +
                         scale_in * scale_in * static_cast<double>(others);
  *error = std::max(0.0, squared) * per_element_;
}

}  // namespace selfheal::detail
