#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "selfheal/detect/sided_chart.hpp"

namespace selfheal {

/// An alarm of one of several charts: which row of samples, which chart.
struct SideAlarm {
  std::size_t row;
  std::size_t chart;
};

/// Charts that each take one value of every row of a table: what a loop over rows and charts would
/// do, to the bit, with the charts in the lanes of vectors.
///
/// `charts` are different objects, each of any parameters; `rows` holds one value a chart and row,
/// row after row. Alarms come in no particular order. A chart whose next 128 samples hold an alarm,
/// NaN or infinity takes those by itself, at the cost of single updates (4 ns).
/// Cost: about 11 ns a row for sixteen charts and as much for fewer; below 1 ns a value from 16 to
/// 64 charts, 1.5 at 256. Bytes: 36
/// KiB of stack. Allocates only where `alarms` grows.
template <typename T>
class SideBySide {
 public:
  static void update(std::span<SidedChart* const> charts, std::span<const T> rows,
                     std::vector<SideAlarm>& alarms);

 private:
  class Block;
};

extern template class SideBySide<float>;
extern template class SideBySide<double>;

}  // namespace selfheal
