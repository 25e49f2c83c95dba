#include "bindings.hpp"
#include "number.hpp"
#include "pickled.hpp"
#include "selfheal/base/moments.hpp"

void bind_moments(py::module_& m) {
  using namespace selfheal;
  using namespace selfheal::python;
  Class<Moments> cls(m, "Moments", "Mean and variance, of all samples or of a window.");
  cls.def(constructor([](std::optional<std::int64_t> window) {
            return Moments(window ? to_size("window", *window, 1) : 0);
          }),
          arg("window") = nullptr)
      .def(
          "update", [](Moments& self, py::handle x) { self.update(to_number(x)); }, arg("x"),
          "Take one sample.")
      .def(
          "update_many",
          [](Moments& self, py::handle samples) {
            with_floats(samples, "samples", [&](auto span) {
              const selfheal::python::ReleasedGil released;
              self.update_many(span);
            });
          },
          arg("samples"), "Take samples in order.")
      .def_property_readonly(
          "window",
          [](const Moments& self) {
            return self.window() == 0 ? std::nullopt : std::optional(self.window());
          },
          "Samples that the window holds, or None for all.")
      .def_property_readonly("count", &Moments::count, "Samples that the moments are over.")
      .def_property_readonly("skipped", &Moments::skipped, "Samples that were not usable.")
      .def_property_readonly("mean", &Moments::mean, "Mean; NaN without a sample.")
      .def_property_readonly("variance", &Moments::variance,
                             "Variance, divided by count - 1; NaN with fewer than two samples.")
      .def_property_readonly("std", &Moments::std, "Square root of the variance.")
      .def("reset", &Moments::reset, "Start as new.");
  define_state<Moments>(cls);
  define_pickle<Moments>(cls);
}
