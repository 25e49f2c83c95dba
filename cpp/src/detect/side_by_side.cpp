#include "selfheal/detect/side_by_side.hpp"

#include <algorithm>
#include <cmath>

#include "detect/sided_scan.hpp"

namespace selfheal {
namespace {

void scan(const float* rows, std::size_t stride, std::size_t count, std::size_t lanes,
          SideLanes& sides) noexcept {
  chosen_scan().float_rows(rows, stride, count, lanes, sides);
}
void scan(const double* rows, std::size_t stride, std::size_t count, std::size_t lanes,
          SideLanes& sides) noexcept {
  chosen_scan().double_rows(rows, stride, count, lanes, sides);
}

double on_grid(double z) noexcept { return (z + kGridShift) - kGridShift; }

}  // namespace

// A few neighbouring charts on their way down the table.
template <typename T>
class SideBySide<T>::Block {
 public:
  Block(std::span<SidedChart* const> charts, const T* first_row, std::size_t stride,
        std::size_t first_chart)
      : charts_(charts), first_row_(first_row), stride_(stride), first_chart_(first_chart) {
    // Lanes without a chart stay at zero.
    for (auto* const values : {&lanes_.mean, &lanes_.reciprocal_std, &lanes_.up_allowance,
                               &lanes_.down_allowance, &lanes_.upper, &lanes_.lower}) {
      values->fill(0.0);
    }
  }

  void take(std::size_t first, std::size_t count, std::vector<SideAlarm>& alarms) {
    for (std::size_t lane = 0; lane < charts_.size(); ++lane) read(lane);
    const T* rows = row(first);
    std::size_t stride = stride_;
    if (charts_.size() < kSideLanes) {  // what is read must not go beyond the table
      for (std::size_t r = 0; r < count; ++r) {
        std::copy_n(row(first + r), charts_.size(), padded_.data() + r * kSideLanes);
      }
      rows = padded_.data();
      stride = kSideLanes;
    }
    scan(rows, stride, count, charts_.size(), lanes_);
    for (std::size_t lane = 0; lane < charts_.size(); ++lane) {
      if (is_calm(lane, count)) {
        commit(lane, count);
      } else {
        take_alone(lane, first, count, alarms);
      }
    }
  }

  // Before the caller looks at the charts: the table's rows up to `end` were taken.
  void finish(std::size_t end) noexcept {
    for (std::size_t lane = 0; lane < charts_.size(); ++lane) refill(lane, end);
  }

 private:
  const T* row(std::size_t r) const noexcept { return first_row_ + r * stride_; }

  void read(std::size_t lane) noexcept {
    SidedChart& chart = *charts_[lane];
    if (chart.drift_detected_) chart.restart();
    // A side that is not in use rises only where a sample would have to be clamped, and then the
    // chart takes it alone.
    const double allowance = on_grid(chart.allowance_);
    lanes_.mean[lane] = chart.mean_;
    lanes_.reciprocal_std[lane] = chart.reciprocal_std_;
    lanes_.up_allowance[lane] = chart.sides_ == Sides::kLower ? SidedChart::kLargest : allowance;
    lanes_.down_allowance[lane] = chart.sides_ == Sides::kUpper ? SidedChart::kLargest : allowance;
    lanes_.upper[lane] = chart.upper_;
    lanes_.lower[lane] = chart.lower_;
  }

  bool is_calm(std::size_t lane, std::size_t count) const noexcept {
    return std::isfinite(lanes_.z_sums[count - 1][lane]) &&
           std::max(lanes_.upper_top[lane], lanes_.lower_top[lane]) <= charts_[lane]->threshold_;
  }

  void commit(std::size_t lane, std::size_t count) noexcept {
    SidedChart& chart = *charts_[lane];
    chart.upper_ = chart.sides_ == Sides::kLower ? 0.0 : lanes_.upper[lane];
    chart.lower_ = chart.sides_ == Sides::kUpper ? 0.0 : lanes_.lower[lane];
    if (chart.tracker_) {
      chart.tracker_->push_run([&](std::size_t i) { return lanes_.z_sums[i][lane]; }, count,
                               chart.count_);
    }
    chart.count_ += count;
    unmarked_[lane] = std::min(unmarked_[lane] + count, OnsetTracker::kFineReach);
  }

  void take_alone(std::size_t lane, std::size_t first, std::size_t count,
                  std::vector<SideAlarm>& alarms) {
    refill(lane, first);
    for (std::size_t r = 0; r < count; ++r) column_[r] = row(first + r)[lane];
    charts_[lane]->update_many(std::span<const T>(column_.data(), count), [&](std::size_t i) {
      alarms.push_back({first + i, first_chart_ + lane});
    });
  }

  void refill(std::size_t lane, std::size_t end) noexcept {
    const std::size_t reach = unmarked_[lane];
    if (reach > 0) charts_[lane]->refill(row(end - reach) + lane, stride_, reach);
    unmarked_[lane] = 0;
  }

  std::span<SidedChart* const> charts_;
  const T* first_row_;
  std::size_t stride_;
  std::size_t first_chart_;
  // Rows since the fine marks of a chart's tracker were last made.
  std::array<std::size_t, kSideLanes> unmarked_{};
  SideLanes lanes_;
  std::array<T, kSideRows> column_;
  std::array<T, kSideRows * kSideLanes> padded_{};
};

template <typename T>
void SideBySide<T>::update(std::span<SidedChart* const> charts, std::span<const T> rows,
                           std::vector<SideAlarm>& alarms) {
  if (charts.empty()) return;
  const std::size_t count = rows.size() / charts.size();
  for (std::size_t first = 0; first < charts.size(); first += kSideLanes) {
    const std::size_t width = std::min(kSideLanes, charts.size() - first);
    Block block(charts.subspan(first, width), rows.data() + first, charts.size(), first);
    for (std::size_t r = 0; r < count; r += kSideRows) {
      block.take(r, std::min(kSideRows, count - r), alarms);
    }
    block.finish(count);
  }
}

template class SideBySide<float>;
template class SideBySide<double>;

}  // namespace selfheal
