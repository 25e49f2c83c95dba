#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "samples.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/columns.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/page_hinkley.hpp"

using namespace selfheal;

namespace {

struct Four {
  Cusum cusum{0.0, 1.0, 0.5, 4.0};
  Adwin adwin;
  PageHinkley page_hinkley{0.0, 1.0, 0.5, 4.0};
  Ewma ewma{0.0, 1.0, 0.1, 2.8};

  std::vector<std::vector<std::byte>> states() const {
    return {cusum.state(), adwin.state(), page_hinkley.state(), ewma.state()};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("columns of every kind equal a loop over rows and detectors", T, float, double) {
  constexpr std::size_t kRows = 700;
  const auto normal = testing::normal_samples(4 * kRows, 1);
  std::vector<T> rows(normal.begin(), normal.end());
  for (std::size_t i = 4 * 300; i < rows.size(); ++i) rows[i] += static_cast<T>(1.5);
  Four one;
  std::vector<SideAlarm> expected;
  for (std::size_t row = 0; row < kRows; ++row) {
    const auto value = [&](std::size_t column) {
      return static_cast<double>(rows[4 * row + column]);
    };
    if (one.cusum.update(value(0))) expected.push_back({row, 0});
    if (one.adwin.update(value(1))) expected.push_back({row, 1});
    if (one.page_hinkley.update(value(2))) expected.push_back({row, 2});
    if (one.ewma.update(value(3))) expected.push_back({row, 3});
  }
  Four all;
  Columns<T> columns;
  columns.add(all.cusum);
  columns.add(all.adwin);
  columns.add(all.page_hinkley);
  columns.add(all.ewma);
  REQUIRE(columns.size() == 4);
  const auto found = columns.update(rows);
  REQUIRE(found.size() > 10);
  CHECK(std::ranges::equal(found, expected, [](const SideAlarm& a, const SideAlarm& b) {
    return a.row == b.row && a.chart == b.chart;
  }));
  CHECK(all.states() == one.states());
}

TEST_CASE("charts alone take the table as it lies") {
  const auto rows = testing::normal_samples(300, 2, 0.4);
  Cusum first(0.0, 1.0, 0.5, 4.0);
  Cusum second(0.0, 1.0, 0.25, 4.0);
  Columns<double> columns;
  columns.add(first);
  columns.add(second);
  std::size_t alarms = 0;
  Cusum again(0.0, 1.0, 0.25, 4.0);
  for (std::size_t i = 1; i < rows.size(); i += 2) alarms += again.update(rows[i]) ? 1 : 0;
  const auto found = columns.update(rows);
  CHECK(static_cast<std::size_t>(std::ranges::count(found, std::size_t{1}, &SideAlarm::chart)) ==
        alarms);
  CHECK(second.state() == again.state());
}
