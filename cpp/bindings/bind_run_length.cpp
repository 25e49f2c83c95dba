#include "bindings.hpp"
#include "selfheal/detect/run_length.hpp"

void bind_run_length(py::module_& m) {
  using namespace selfheal;
  using namespace selfheal::python;
  define_function(
      m, "average_run_length",
      [](double h, double k, double shift, const std::string& sides, const std::string& method) {
        const Sides parsed = parse_sides(sides);
        if (method == "siegmund") return siegmund_average_run_length(h, k, shift, parsed);
        if (method != "integral") refuse("method", "'integral' or 'siegmund'", quoted(method));
        const selfheal::python::ReleasedGil released;
        return average_run_length(h, k, shift, parsed);
      },
      arg("h"), arg("k"), arg("shift") = 0.0, arg("sides") = "both", arg("method") = "integral",
      "Compute the mean number of samples until a CUSUM on N(shift, 1) raises the alarm.");
  define_function(
      m, "cusum_threshold",
      [](double arl0, double k, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return cusum_threshold(arl0, k, parsed);
      },
      arg("arl0"), arg("k"), arg("sides") = "both",
      "Solve for the h that gives a wanted mean number of samples between false alarms.");
  define_function(
      m, "ewma_average_run_length",
      [](double limit, double weight, double shift, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return ewma_average_run_length(limit, weight, shift, parsed);
      },
      arg("limit"), arg("weight"), arg("shift") = 0.0, arg("sides") = "both",
      "Compute the mean number of samples until an EWMA chart on N(shift, 1) raises the alarm.");
  define_function(
      m, "ewma_limit",
      [](double arl0, double weight, const std::string& sides) {
        const Sides parsed = parse_sides(sides);
        const selfheal::python::ReleasedGil released;
        return ewma_limit(arl0, weight, parsed);
      },
      arg("arl0"), arg("weight"), arg("sides") = "both",
      "Solve for the limit, in asymptotic standard deviations of the EWMA.");
  define_function(
      m, "shewhart_average_run_length",
      [](double limit, double shift, const std::string& sides) {
        return shewhart_average_run_length(limit, shift, parse_sides(sides));
      },
      arg("limit"), arg("shift") = 0.0, arg("sides") = "both",
      "Compute the mean number of samples until one lies beyond the limit.");
  define_function(
      m, "shewhart_limit",
      [](double arl0, const std::string& sides) {
        return shewhart_limit(arl0, parse_sides(sides));
      },
      arg("arl0"), arg("sides") = "both", "Solve for the limit, in standard deviations.");
}
