#include "bindings.hpp"
#include "selfheal/run_length.hpp"

void bind_run_length(py::module_& m) {
  using namespace selfheal;
  m.def(
      "average_run_length",
      [](double h, double k, double shift, const std::string& sides, const std::string& method) {
        const Sides parsed = parse_sides(sides);
        if (method == "siegmund") return siegmund_average_run_length(h, k, shift, parsed);
        if (method != "integral") refuse("method", "'integral' or 'siegmund'", quoted(method));
        const py::gil_scoped_release released;
        return average_run_length(h, k, shift, parsed);
      },
      py::arg("h"), py::arg("k"), py::arg("shift") = 0.0, py::arg("sides") = "both",
      py::arg("method") = "integral",
      "Compute the mean number of samples until a CUSUM on N(shift, 1) raises the alarm.");
  m.def(
      "cusum_threshold",
      [](double arl0, double k, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const py::gil_scoped_release released;
        return cusum_threshold(arl0, k, parsed);
      },
      py::arg("arl0"), py::arg("k"), py::arg("sides") = "both",
      "Solve for the h that gives a wanted mean number of samples between false alarms.");
}
