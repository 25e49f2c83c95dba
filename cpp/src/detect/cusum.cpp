#include "selfheal/detect/cusum.hpp"

#include <utility>

namespace selfheal {
namespace {
constexpr StateTag kTag = state_tag("CUSM");
}  // namespace

Cusum::Cusum(double mean, double std, double k, double h, Sides sides, bool track_onset, bool latch)
    : SidedChart(mean, std, k, h, sides, track_onset, latch, "k", "h") {}

std::vector<std::byte> Cusum::state() const {
  StateWriter writer(kTag, 2);
  write(writer);
  return std::move(writer).finish();
}

Cusum Cusum::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 2);
  Cusum chart(reader);
  reader.finish();
  return chart;
}

}  // namespace selfheal
