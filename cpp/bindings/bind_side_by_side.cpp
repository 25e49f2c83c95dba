#include <set>

#include "bindings.hpp"
#include "detector.hpp"
#include "initialised.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/columns.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ddm.hpp"
#include "selfheal/detect/eddm.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/hddm_a.hpp"
#include "selfheal/detect/hddm_w.hpp"
#include "selfheal/detect/kswin.hpp"
#include "selfheal/detect/page_hinkley.hpp"
#include "selfheal/detect/page_hinkley_compat.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

template <typename Detector, typename T>
bool add_if(Columns<T>& columns, const std::string& name, py::handle object) {
  if (!py::isinstance<Detector>(object)) return false;
  auto& detector = initialised<Detector>(name.c_str(), object);
  if constexpr (requires { detector.held; }) {
    detector.visit([&](auto& held) { columns.add(held); });
  } else {
    columns.add(detector);
  }
  return true;
}

template <typename... Detectors, typename T>
void add(Columns<T>& columns, py::handle object) {
  const std::string name = "detectors[" + std::to_string(columns.size()) + "]";
  if (!(add_if<Detectors>(columns, name, object) || ...)) {
    refuse_type(name, "a detector of one signal", type_name(object));
  }
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
    add<AnyOf<Cusum, FrourosChart>, AnyOf<PageHinkley, RiverPageHinkley, FrourosChart>, Ewma, Adwin,
        Kswin, Ddm, Eddm, HddmA, HddmW>(columns, detector);
  }
  std::vector<SideAlarm> alarms;
  if (!detectors.empty()) {
    const selfheal::python::ReleasedGil released;
    alarms = columns.update(as_span<T>(samples));
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
  define_function(m, "update_channels", &update_channels, arg("detectors"), arg("samples"),
                  "Give every detector its column of a table; return (row, column) of each alarm.");
}
