#include "selfheal/detect/columns.hpp"

#include <algorithm>

namespace selfheal {
namespace {

template <typename T>
std::vector<T> columns_of(std::span<const T> rows, std::size_t stride,
                          std::span<const std::size_t> columns) {
  std::vector<T> out;
  out.reserve(rows.size() / stride * columns.size());
  for (std::size_t row = 0; row < rows.size(); row += stride) {
    for (const std::size_t column : columns) out.push_back(rows[row + column]);
  }
  return out;
}

}  // namespace

template <typename T>
std::vector<SideAlarm> Columns<T>::update(std::span<const T> rows) const {
  std::vector<SideAlarm> alarms;
  if (others_.empty()) {
    SideBySide<T>::update(charts_, rows, alarms);
  } else {
    const std::vector<T> charted = columns_of<T>(rows, count_, chart_columns_);
    SideBySide<T>::update(charts_, charted, alarms);
    for (SideAlarm& alarm : alarms) alarm.chart = chart_columns_[alarm.chart];
    for (std::size_t i = 0; i < others_.size(); ++i) {
      const std::size_t column = other_columns_[i];
      const std::vector<T> samples = columns_of<T>(rows, count_, {&column, 1});
      others_[i](samples, [&](std::size_t row) { alarms.push_back({row, column}); });
    }
  }
  std::ranges::sort(alarms, [](const SideAlarm& a, const SideAlarm& b) {
    return a.row != b.row ? a.row < b.row : a.chart < b.chart;
  });
  return alarms;
}

template class Columns<float>;
template class Columns<double>;

}  // namespace selfheal
