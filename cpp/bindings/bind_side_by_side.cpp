#include <algorithm>
#include <set>

#include "bindings.hpp"
#include "detector.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ddm.hpp"
#include "selfheal/detect/eddm.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/hddm_a.hpp"
#include "selfheal/detect/hddm_w.hpp"
#include "selfheal/detect/kswin.hpp"
#include "selfheal/detect/page_hinkley.hpp"
#include "selfheal/detect/page_hinkley_compat.hpp"
#include "selfheal/detect/side_by_side.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

// A detector that takes its column alone.
template <typename T>
using TakeColumn = std::function<void(std::span<const T>, const std::function<void(std::size_t)>&)>;

template <typename T>
struct Columns {
  // Charts against a fixed reference go side by side, the others one after the other.
  std::vector<SidedChart*> charts;
  std::vector<std::size_t> chart_columns;
  std::vector<TakeColumn<T>> others;
  std::vector<std::size_t> other_columns;

  template <typename Detector>
  bool add_if(py::handle object, std::size_t column) {
    if (!py::isinstance<Detector>(object)) return false;
    auto& detector = object.cast<Detector&>();
    SidedChart* chart = nullptr;
    if constexpr (requires { detector.held; }) {
      chart = detector.visit([](auto& held) -> SidedChart* {
        if constexpr (std::is_base_of_v<SidedChart, std::decay_t<decltype(held)>>) return &held;
        return nullptr;
      });
    }
    if (chart != nullptr) {
      charts.push_back(chart);
      chart_columns.push_back(column);
    } else {
      others.push_back([&detector](std::span<const T> samples, const auto& on_alarm) {
        detector.update_many(samples, on_alarm);
      });
      other_columns.push_back(column);
    }
    return true;
  }

  template <typename... Detectors>
  void add(py::handle object, std::size_t column) {
    if (!(add_if<Detectors>(object, column) || ...)) {
      refuse_type("detectors[" + std::to_string(column) + "]", "a detector of one signal",
                  type_name(object));
    }
  }
};

template <typename T>
std::vector<T> columns_of(std::span<const T> rows, std::size_t stride,
                          const std::vector<std::size_t>& columns) {
  std::vector<T> out;
  out.reserve(rows.size() / stride * columns.size());
  for (std::size_t row = 0; row < rows.size(); row += stride) {
    for (const std::size_t column : columns) out.push_back(rows[row + column]);
  }
  return out;
}

template <typename T>
std::vector<SideAlarm> take(Columns<T>& columns, std::span<const T> rows, std::size_t stride) {
  std::vector<SideAlarm> alarms;
  if (columns.others.empty()) {
    SideBySide<T>::update(columns.charts, rows, alarms);
  } else {
    const std::vector<T> charted = columns_of(rows, stride, columns.chart_columns);
    SideBySide<T>::update(columns.charts, charted, alarms);
    for (SideAlarm& alarm : alarms) alarm.chart = columns.chart_columns[alarm.chart];
    for (std::size_t i = 0; i < columns.others.size(); ++i) {
      const std::size_t column = columns.other_columns[i];
      const std::vector<T> samples = columns_of(rows, stride, {column});
      columns.others[i](samples, [&](std::size_t row) { alarms.push_back({row, column}); });
    }
  }
  std::ranges::sort(alarms, [](const SideAlarm& a, const SideAlarm& b) {
    return a.row != b.row ? a.row < b.row : a.chart < b.chart;
  });
  return alarms;
}

template <typename T>
py::array_t<std::int64_t> update_columns(const py::tuple& detectors, const py::array& samples) {
  Columns<T> columns;
  std::set<PyObject*> seen;
  for (std::size_t i = 0; i < detectors.size(); ++i) {
    const py::handle detector = detectors[i];
    if (!seen.insert(detector.ptr()).second) {
      refuse("detectors", "different objects",
             std::string_view("one twice, again at " + std::to_string(i)));
    }
    columns.template add<AnyOf<Cusum, FrourosChart>,
                         AnyOf<PageHinkley, RiverPageHinkley, FrourosChart>, Ewma, Adwin, Kswin,
                         Ddm, Eddm, HddmA, HddmW>(detector, i);
  }
  std::vector<SideAlarm> alarms;
  if (detectors.size() > 0) {
    const selfheal::python::ReleasedGil released;
    alarms = take(columns, as_span<T>(samples), detectors.size());
  }
  py::array_t<std::int64_t> out({static_cast<py::ssize_t>(alarms.size()), py::ssize_t{2}});
  auto* to = out.mutable_data();
  for (const SideAlarm& alarm : alarms) {
    *to++ = static_cast<std::int64_t>(alarm.row);
    *to++ = static_cast<std::int64_t>(alarm.chart);
  }
  return out;
}

py::array_t<std::int64_t> update_channels(const py::sequence& sequence, py::handle object) {
  const py::tuple detectors(sequence);  // no other thread can take one away meanwhile
  constexpr const char* kExpected = "a 2-D float32 or float64 array";
  const py::array samples = require_array(object, "samples", kExpected);
  const bool is_float = has_dtype<float>(samples);
  if (!is_float && !has_dtype<double>(samples)) {
    refuse_type("samples", kExpected, describe(samples));
  }
  if (samples.ndim() != 2 || static_cast<std::size_t>(samples.shape(1)) != detectors.size()) {
    refuse("samples", "shape (n, " + std::to_string(detectors.size()) + "), a column a detector",
           std::string_view(describe(samples)));
  }
  require_contiguous(samples, "samples");
  return is_float ? update_columns<float>(detectors, samples)
                  : update_columns<double>(detectors, samples);
}

}  // namespace

void bind_side_by_side(py::module_& m) {
  m.def("update_channels", &update_channels, py::arg("detectors"), py::arg("samples"),
        "Give every detector its column of a table; return (row, column) of each alarm.");
}
