#include "bindings.hpp"
#include "selfheal/detect/run_length.hpp"

void bind_run_length(py::module_& m) {
  using namespace selfheal;
  m.def(
      "average_run_length",
      [](double h, double k, double shift, const std::string& sides, const std::string& method) {
        const Sides parsed = parse_sides(sides);
        if (method == "siegmund") return siegmund_average_run_length(h, k, shift, parsed);
        if (method != "integral") refuse("method", "'integral' or 'siegmund'", quoted(method));
        const selfheal::python::ReleasedGil released;
        return average_run_length(h, k, shift, parsed);
      },
      py::arg("h"), py::arg("k"), py::arg("shift") = 0.0, py::arg("sides") = "both",
      py::arg("method") = "integral",
      "Compute the mean number of samples until a CUSUM on N(shift, 1) raises the alarm.");
  m.def(
      "cusum_threshold",
      [](double arl0, double k, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return cusum_threshold(arl0, k, parsed);
      },
      py::arg("arl0"), py::arg("k"), py::arg("sides") = "both",
      "Solve for the h that gives a wanted mean number of samples between false alarms.");
  m.def(
      "ewma_average_run_length",
      [](double limit, double weight, double shift, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return ewma_average_run_length(limit, weight, shift, parsed);
      },
      py::arg("limit"), py::arg("weight"), py::arg("shift") = 0.0, py::arg("sides") = "both",
      "Compute the mean number of samples until an EWMA chart on N(shift, 1) raises the alarm.");
  m.def(
      "ewma_limit",
      [](double arl0, double weight, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return ewma_limit(arl0, weight, parsed);
      },
      py::arg("arl0"), py::arg("weight"), py::arg("sides") = "both",
      "Solve for the limit, in asymptotic standard deviations of the EWMA.");
  m.def(
      "shewhart_average_run_length",
      [](double limit, double shift, const std::string& sides) {
        return shewhart_average_run_length(limit, shift, parse_sides(sides));
      },
      py::arg("limit"), py::arg("shift") = 0.0, py::arg("sides") = "both",
      "Compute the mean number of samples until one lies beyond the limit.");
  m.def(
      "shewhart_limit",
      [](double arl0, const std::string& sides) {
        return shewhart_limit(arl0, parse_sides(sides));
      },
      py::arg("arl0"), py::arg("sides") = "both", "Solve for the limit, in standard deviations.");
}
