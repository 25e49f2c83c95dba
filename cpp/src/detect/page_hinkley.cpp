#include "selfheal/detect/page_hinkley.hpp"

#include <utility>

namespace selfheal {
namespace {
constexpr StateTag kTag = state_tag("PGHK");
}  // namespace

PageHinkley::PageHinkley(double mean, double std, double delta, double threshold, Sides sides,
                         bool track_onset)
    : SidedChart(mean, std, delta, threshold, sides, track_onset, "delta", "threshold") {}

std::vector<std::byte> PageHinkley::state() const {
  StateWriter writer(kTag, 1);
  write(writer);
  return std::move(writer).finish();
}

PageHinkley PageHinkley::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
  PageHinkley chart(reader);
  reader.finish();
  return chart;
}

}  // namespace selfheal
