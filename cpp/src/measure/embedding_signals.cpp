#include "measure/embedding_signals.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "measure/class_scores.hpp"
#include "measure/measured_tensor.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal::detail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The largest level of a type that is not above zero.
template <typename T>
T level_of_zero(std::int32_t zero) noexcept {
  return static_cast<T>(
      std::clamp<std::int32_t>(zero, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}

}  // namespace

std::size_t measured_width(const SignalPlan& plan) noexcept {
  if (plan.embedding_part.empty()) return plan.embedding->elements;
  return plan.embedding_part.size() * SignalPlan::kPartRun;
}

void check_places(const SignalPlan& plan) {
  for (const std::size_t start : plan.embedding_part) {
    const std::size_t elements = plan.embedding ? plan.embedding->elements : 0;
    if (elements < SignalPlan::kPartRun || start > elements - SignalPlan::kPartRun) {
      refuse("embedding_part",
             "runs of " + std::to_string(SignalPlan::kPartRun) + " of its " +
                 std::to_string(elements) + " elements",
             start);
    }
  }
  if (plan.centroids.empty()) return;
  if (!plan.embedding || !plan.classifier) {
    refuse("centroids", "none without an embedding and classes", plan.centroids.size());
  }
  const std::size_t width = measured_width(plan);
  const std::size_t classes = ClassScores(*plan.outputs[0], *plan.classifier).classes();
  if (plan.classes != classes) refuse("classes", std::to_string(classes), plan.classes);
  if (plan.centroids.size() != std::uint64_t{plan.classes} * width) {
    refuse("centroids", std::to_string(plan.classes) + " x " + std::to_string(width) + " numbers",
           plan.centroids.size());
  }
  if (plan.precision.size() != width) {
    refuse("precision", std::to_string(width) + " numbers", plan.precision.size());
  }
  for (const float value : plan.precision) require_not_negative("precision", value);
  if (!plan.class_scales.empty() && plan.class_scales.size() != plan.classes) {
    refuse("class_scales", std::to_string(plan.classes) + " numbers", plan.class_scales.size());
  }
  for (const float value : plan.class_scales) require_positive("class_scales", value);
  for (std::size_t row = 0; row < plan.classes; ++row) {
    const float* const centroid = &plan.centroids[row * width];
    if (std::isnan(centroid[0])) continue;
    for (std::size_t i = 0; i < width; ++i) require_finite("centroids", centroid[i]);
  }
}

EmbeddingSignals::EmbeddingSignals(const SignalPlan& plan, const TensorSums& sums)
    : layout_(*plan.embedding), sums_(&sums) {
  const std::size_t width = measured_width(plan);
  layout_.elements = width;
  if (!plan.embedding_part.empty()) {
    const std::size_t element = bytes_of(layout_.type);
    for (const std::size_t start : plan.embedding_part) offsets_.push_back(start * element);
    part_.resize(width * element);
  }
  if (plan.centroids.empty()) return;
  const double scale = layout_.quantization.scale;
  const double zero = layout_.quantization.zero_point;
  std::size_t known = 0;
  for (std::size_t row = 0; row < plan.classes; ++row) {
    known += std::isnan(plan.centroids[row * width]) ? 0U : 1U;
  }
  row_of_.assign(plan.classes, -1);
  scales_.reserve(known);
  centroids_.reserve(known * width);
  for (std::size_t row = 0; row < plan.classes; ++row) {
    const float* const centroid = &plan.centroids[row * width];
    if (std::isnan(centroid[0])) continue;
    row_of_[row] = static_cast<std::int32_t>(centroids_.size() / width);
    scales_.push_back(plan.class_scales.empty() ? 1.0F : plan.class_scales[row]);
    for (std::size_t i = 0; i < width; ++i) {
      centroids_.push_back(static_cast<float>(static_cast<double>(centroid[i]) / scale + zero));
    }
  }
  for (const float value : plan.precision) {
    precision_.push_back(static_cast<float>(static_cast<double>(value) * scale * scale));
  }
}

void EmbeddingSignals::measure(const void* embedding, std::int64_t label, double* row) noexcept {
  const std::size_t n = layout_.elements;
  const bool has_distance = !row_of_.empty();
  if (has_distance) row[2] = kNan;
  row[0] = row[1] = kNan;
  if (embedding == nullptr) return;
  if (!offsets_.empty()) embedding = part_of(embedding);
  double squares = 0.0;
  double active = 0.0;
  if (layout_.type == ElementType::kFloat32) {
    const auto* const values = static_cast<const float*>(embedding);
    const Moments moments = moments_of(values, n, *sums_);
    if (moments.finite < n) return;
    squares = moments.squares;
    active = static_cast<double>(moments.active);
  } else {
    IntegerSums sums;
    if (layout_.type == ElementType::kInt16) {
      sums_->output16(static_cast<const std::int16_t*>(embedding), n,
                      level_of_zero<std::int16_t>(layout_.quantization.zero_point), sums);
    } else {
      sums_->output8(static_cast<const std::uint8_t*>(embedding), n, flip_of(layout_.type),
                     level_of_zero<std::uint8_t>(zero_of(layout_)), sums);
    }
    const std::int64_t zero = zero_of(layout_);
    squares = static_cast<double>(sums.squares - 2 * zero * sums.sum +
                                  static_cast<std::int64_t>(n) * zero * zero);
    const std::int64_t least = layout_.type == ElementType::kInt16 ? -32768 : 0;
    active = static_cast<double>(zero < least ? static_cast<std::int64_t>(n) : sums.high);
  }
  row[0] = layout_.quantization.scale * std::sqrt(squares);
  row[1] = active / static_cast<double>(n);
  if (has_distance && label >= 0) row[2] = distance(embedding, label);
}

const void* EmbeddingSignals::part_of(const void* embedding) noexcept {
  const auto* const from = static_cast<const std::byte*>(embedding);
  const std::size_t run = part_.size() / offsets_.size();
  std::byte* to = part_.data();
  for (const std::size_t offset : offsets_) {
    std::memcpy(to, from + offset, run);
    to += run;
  }
  return part_.data();
}

double EmbeddingSignals::distance(const void* embedding, std::int64_t label) const noexcept {
  const std::int32_t known = row_of_[static_cast<std::size_t>(label)];
  if (known < 0) return kNan;
  const std::size_t n = layout_.elements;
  const float* const centroid = &centroids_[static_cast<std::size_t>(known) * n];
  const float* const precision = precision_.data();
  double squared = 0.0;
  switch (layout_.type) {
    case ElementType::kInt8:
      squared =
          sums_->distance_int8(static_cast<const std::int8_t*>(embedding), n, centroid, precision);
      break;
    case ElementType::kUint8:
      squared = sums_->distance_uint8(static_cast<const std::uint8_t*>(embedding), n, centroid,
                                      precision);
      break;
    case ElementType::kInt16:
      squared = sums_->distance_int16(static_cast<const std::int16_t*>(embedding), n, centroid,
                                      precision);
      break;
    case ElementType::kFloat32:
      squared = sums_->distance_float(static_cast<const float*>(embedding), n, centroid, precision);
      break;
  }
  return std::sqrt(squared) * static_cast<double>(scales_[static_cast<std::size_t>(known)]);
}

std::size_t EmbeddingSignals::memory_bytes() const noexcept {
  return row_of_.capacity() * sizeof(std::int32_t) + offsets_.capacity() * sizeof(std::size_t) +
         part_.capacity() +
         (centroids_.capacity() + precision_.capacity() + scales_.capacity()) * sizeof(float);
}

}  // namespace selfheal::detail
