#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "selfheal/detect/side_by_side.hpp"

namespace selfheal {

/// Detectors of any kinds that each take one column of a table: what a loop over rows and detectors
/// would do, to the bit. Charts against a fixed reference go side by side, in the lanes of vectors;
/// each of the others takes its column alone.
///
/// Refers to the detectors, different objects, which must outlive it. Allocates for the alarms and,
/// where not all are charts, for a copy of the table. One object, one thread.
template <typename T>
class Columns {
 public:
  /// The detector of the next column: anything with update_many().
  template <typename Detector>
  void add(Detector& detector) {
    if constexpr (std::is_base_of_v<SidedChart, Detector>) {
      charts_.push_back(&detector);
      chart_columns_.push_back(count_++);
    } else {
      others_.push_back([&detector](std::span<const T> samples, const OnAlarm& on_alarm) {
        detector.update_many(samples, on_alarm);
      });
      other_columns_.push_back(count_++);
    }
  }
  /// Detectors added.
  std::size_t size() const noexcept { return count_; }

  /// rows: one value a detector and row, row after row; at least one detector. Returns the alarms,
  /// by row and then by column, which SideAlarm calls `chart`.
  std::vector<SideAlarm> update(std::span<const T> rows) const;

 private:
  using OnAlarm = std::function<void(std::size_t)>;
  using TakeColumn = std::function<void(std::span<const T>, const OnAlarm&)>;

  std::size_t count_ = 0;
  std::vector<SidedChart*> charts_;
  std::vector<std::size_t> chart_columns_;
  std::vector<TakeColumn> others_;
  std::vector<std::size_t> other_columns_;
};

extern template class Columns<float>;
extern template class Columns<double>;

}  // namespace selfheal
