#include "bindings.hpp"
#include "fast_update.hpp"
#include "selfheal/cusum.hpp"
#include "selfheal/page_hinkley.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

template <typename Chart>
py::array_t<std::int64_t> update_many(Chart& chart, py::handle samples) {
  return with_floats(samples, "samples", [&](auto span) {
    std::vector<std::int64_t> alarms;
    {
      const py::gil_scoped_release released;
      chart.update_many(span,
                        [&](std::size_t i) { alarms.push_back(static_cast<std::int64_t>(i)); });
    }
    return to_array(std::move(alarms));
  });
}

std::optional<std::int64_t> index_or_none(std::int64_t index) {
  return index < 0 ? std::nullopt : std::optional(index);
}

template <typename Chart>
void define_chart(py::class_<Chart>& cls) {
  define_fast_update<Chart>(cls);
  cls.def("update_many", &update_many<Chart>, py::arg("samples"),
          "Take samples in order; return the int64 positions of those that raised the alarm.")
      .def_property_readonly("mean", &Chart::mean, "Reference mean.")
      .def_property_readonly("std", &Chart::std, "Reference standard deviation.")
      .def_property_readonly(
          "sides", [](const Chart& chart) { return to_string(chart.sides()); },
          "'both', 'upper' or 'lower'.")
      .def_property_readonly("drift_detected", &Chart::drift_detected,
                             "Whether the last update raised the alarm.")
      .def_property_readonly("statistic", &Chart::statistic,
                             "Larger of the sums in use, in standard deviations.")
      .def_property_readonly("upper", &Chart::upper, "Sum that watches for a rise.")
      .def_property_readonly("lower", &Chart::lower, "Sum that watches for a fall.")
      .def_property_readonly("direction", &Chart::direction,
                             "+1 up, -1 down, 0 while both sums are zero.")
      .def_property_readonly("magnitude", &Chart::magnitude,
                             "Estimated size of the shift, in standard deviations.")
      .def_property_readonly(
          "onset", [](const Chart& chart) { return index_or_none(chart.onset().estimate); },
          "Most likely index of the first changed sample, or None.")
      .def_property_readonly(
          "onset_earliest", [](const Chart& chart) { return index_or_none(chart.onset().earliest); },
          "95 % bound: the change did not begin before this index; or None.")
      .def_property_readonly("count", &Chart::count, "Updates, skipped ones included.")
      .def_property_readonly("skipped", &Chart::skipped, "Updates with NaN or infinity.")
      .def("reset", &Chart::reset, "Start as new: sums, counters and alarm.");
  define_state<Chart>(cls);
}

}  // namespace

void bind_detectors(py::module_& m) {
  py::class_<Cusum> cusum(m, "Cusum", "Tabular CUSUM against a fixed reference.");
  cusum
      .def(py::init([](double mean, double std, double k, std::optional<double> h,
                       std::optional<double> arl0, const std::string& sides, bool track_onset) {
             const Sides parsed = parse_sides(sides);
             return Cusum(mean, std, k, choose_threshold("h", h, arl0, k, parsed), parsed, track_onset);
           }),
           py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("k") = 0.5,
           py::arg("h") = py::none(), py::arg("arl0") = py::none(), py::arg("sides") = "both",
           py::arg("track_onset") = true)
      .def_property_readonly("k", &Cusum::k, "Reference value, in standard deviations.")
      .def_property_readonly("h", &Cusum::h, "Decision interval, in standard deviations.");
  define_chart(cusum);

  py::class_<PageHinkley> page_hinkley(m, "PageHinkley",
                                       "Hinkley's test against a fixed reference.");
  page_hinkley
      .def(py::init([](double mean, double std, double delta, std::optional<double> threshold,
                       std::optional<double> arl0, const std::string& sides, bool track_onset) {
             const Sides parsed = parse_sides(sides);
             return PageHinkley(
                 mean, std, delta,
                 choose_threshold("threshold", threshold, arl0, delta, parsed, "delta"), parsed,
                 track_onset);
           }),
           py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("delta") = 0.5,
           py::arg("threshold") = py::none(), py::arg("arl0") = py::none(),
           py::arg("sides") = "both",
           py::arg("track_onset") = true)
      .def_property_readonly("delta", &PageHinkley::delta,
                             "Tolerated shift, in standard deviations.")
      .def_property_readonly("threshold", &PageHinkley::threshold,
                             "Threshold, in standard deviations.");
  define_chart(page_hinkley);
}
