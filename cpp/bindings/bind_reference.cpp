#include "bindings.hpp"
#include "number.hpp"
#include "pickled.hpp"
#include "selfheal/detect/reference.hpp"

void bind_reference(py::module_& m) {
  using namespace selfheal;
  using namespace selfheal::python;
  Class<Reference> cls(m, "Reference", "Frozen distribution that gives normal scores.");
  cls.def(constructor([](py::handle samples) {
            return with_floats(samples, "samples", [](auto span) {
              const selfheal::python::ReleasedGil released;
              return Reference(span);
            });
          }),
          arg("samples"))
      .def(
          "score", [](const Reference& self, py::handle x) { return self.score(to_number(x)); },
          arg("x"), "Give the normal score of one value.")
      .def(
          "score_many",
          [](const Reference& self, py::handle samples) {
            return with_floats(samples, "samples", [&](auto span) {
              std::vector<double> scores(span.size());
              {
                const selfheal::python::ReleasedGil released;
                self.score_many(span, std::span<double>(scores));
              }
              return to_array(std::move(scores));
            });
          },
          arg("samples"), "Give the normal scores of an array, as float64.")
      .def_static("normal", &Reference::normal, arg("mean"), arg("std"),
                  "Make the reference of a normal distribution that is known for certain.")
      .def_property_readonly(
          "phi", [](const Reference& self) { return self.preparation().phi(); },
          "Lag-1 autocorrelation that is taken out.")
      .def_property_readonly(
          "limit", [](const Reference& self) { return self.preparation().limit(); },
          "Where charts clip scores.")
      .def_property_readonly(
          "offset", [](const Reference& self) { return self.preparation().offset(); },
          "What is taken off a whitened score before charts take it.")
      .def_property_readonly(
          "scale", [](const Reference& self) { return self.preparation().scale(); },
          "What it is multiplied by after that.")
      .def_property_readonly("count", &Reference::count, "Calibration samples used.")
      .def_property_readonly("skipped", &Reference::skipped, "Calibration samples not finite.")
      .def_property_readonly("lowest", &Reference::lowest, "Smallest calibration sample.")
      .def_property_readonly("highest", &Reference::highest, "Largest calibration sample.");
  define_state<Reference>(cls);
  define_pickle<Reference>(cls);
}
