#include "measure/detection_signals.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace selfheal::detail {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr float kSure = 0.5F;  // a detection that counts

double area_of(const float* box) noexcept {
  return (static_cast<double>(box[2]) - static_cast<double>(box[0])) *
         (static_cast<double>(box[3]) - static_cast<double>(box[1]));
}

}  // namespace

DetectionSignals::DetectionSignals(const SignalPlan& plan)
    : at_(*plan.detections), most_(plan.outputs[plan.detections->scores]->elements) {}

DetectionSignals::Surest DetectionSignals::measure(std::span<const void* const> outputs,
                                                   double* row) const noexcept {
  std::fill_n(row, kSignals, kNan);
  const auto* const boxes = static_cast<const float*>(outputs[at_.boxes]);
  const auto* const classes = static_cast<const float*>(outputs[at_.classes]);
  const auto* const scores = static_cast<const float*>(outputs[at_.scores]);
  const auto* const count = static_cast<const float*>(outputs[at_.count]);
  Surest surest;
  if (boxes == nullptr || classes == nullptr || scores == nullptr || count == nullptr) {
    return surest;
  }
  surest.is_finite = false;
  if (!std::isfinite(*count)) return surest;
  // What lies behind the count is left over.
  const auto found = static_cast<std::size_t>(
      std::clamp(static_cast<double>(*count), 0.0, static_cast<double>(most_)));
  double top = 0.0;
  std::size_t first = 0;
  std::size_t sure = 0;
  double sum = 0.0;
  double area = 0.0;
  for (std::size_t i = 0; i < found; ++i) {
    const double size = area_of(boxes + 4 * i);
    if (!std::isfinite(scores[i]) || !std::isfinite(classes[i]) || !std::isfinite(size)) {
      return surest;
    }
    if (scores[i] > top) {
      top = static_cast<double>(scores[i]);
      first = i;
    }
    if (!(scores[i] >= kSure)) continue;
    ++sure;
    sum += static_cast<double>(scores[i]);
    area += size;
  }
  surest.is_finite = true;
  row[0] = static_cast<double>(sure);
  row[1] = top;
  if (sure == 0) return surest;
  row[2] = sum / static_cast<double>(sure);
  row[3] = area / static_cast<double>(sure);
  constexpr float kMostClasses = 1 << 24;  // beyond them floats are no whole numbers
  if (classes[first] >= 0.0F && classes[first] < kMostClasses) {
    surest.label = static_cast<std::int64_t>(classes[first]);
    surest.score = top;
  }
  return surest;
}

}  // namespace selfheal::detail
