#include "selfheal/detect/page_hinkley.hpp"

#include <utility>

namespace selfheal {
namespace {
constexpr StateTag kTag = state_tag("PGHK");
}  // namespace

PageHinkley::PageHinkley(double mean, double std, double delta, double threshold, Sides sides,
                         bool track_onset, bool latch)
    : SidedChart(mean, std, delta, threshold, sides, track_onset, latch, "delta", "threshold") {}

std::vector<std::byte> PageHinkley::state() const {
  StateWriter writer(kTag, 2);
  write(writer);
  return std::move(writer).finish();
}

PageHinkley PageHinkley::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 2);
  PageHinkley chart(reader);
  reader.finish();
  return chart;
}

}  // namespace selfheal
