#include "bindings.hpp"
#include "selfheal/signals.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

constexpr const char* kExpected = "an int8, uint8, int16 or float32 array";

// Calls f with the span of an array of any shape and of a dtype that tensors have.
template <typename Function>
auto with_tensor(const py::array& array, const char* name, Function&& f) {
  require_contiguous(array, name);
  if (array.size() == 0) refuse(name, "at least 1 element", std::string_view(describe(array)));
  if (has_dtype<std::int8_t>(array)) return f(as_span<std::int8_t>(array));
  if (has_dtype<std::uint8_t>(array)) return f(as_span<std::uint8_t>(array));
  if (has_dtype<std::int16_t>(array)) return f(as_span<std::int16_t>(array));
  if (has_dtype<float>(array)) return f(as_span<float>(array));
  refuse_type(name, kExpected, describe(array));
}

Quantization quantization(double scale, std::int32_t zero_point) {
  require_positive("scale", scale);
  return {scale, zero_point};
}

struct MeasuredInput : InputSignals {
  bool has_previous = false;
};

MeasuredInput input(py::handle tensor, double scale, std::int32_t zero_point,
                    const py::object& previous) {
  const Quantization q = quantization(scale, zero_point);
  const py::array array = require_array(tensor, "array", kExpected);
  const bool has_previous = !previous.is_none();
  const py::array before = has_previous ? require_array(previous, "previous", kExpected) : array;
  if (!before.dtype().equal(array.dtype()) || before.size() != array.size()) {
    refuse("previous", describe(array) + ", like array", describe(before));
  }
  require_contiguous(before, "previous");
  return with_tensor(array, "array", [&]<typename T>(std::span<const T> values) {
    const auto other = has_previous ? as_span<T>(before) : std::span<const T>();
    return MeasuredInput{measure_input<T>(values, q, other), has_previous};
  });
}

OutputSignals output(py::handle tensor, double scale, std::int32_t zero_point,
                     const std::string& kind) {
  const Quantization q = quantization(scale, zero_point);
  if (kind != "probabilities" && kind != "logits") {
    refuse("kind", "'probabilities' or 'logits'", quoted(kind));
  }
  const OutputKind parsed = kind == "logits" ? OutputKind::kLogits : OutputKind::kProbabilities;
  const py::array array = require_array(tensor, "array", kExpected);
  return with_tensor(array, "array", [&]<typename T>(std::span<const T> values) {
    return measure_output<T>(values, q, parsed);
  });
}

}  // namespace

void bind_signals(py::module_& m) {
  py::class_<MeasuredInput>(m, "InputSignals", "What is measured on one input.", py::is_final())
      .def_readonly("mean", &MeasuredInput::mean, "Mean of the finite elements, dequantised.")
      .def_readonly("std", &MeasuredInput::std, "Standard deviation of the finite elements.")
      .def_readonly("saturated", &MeasuredInput::saturated,
                    "Share of elements at the limits of an integer dtype.")
      .def_readonly("nonfinite", &MeasuredInput::nonfinite, "Elements that are NaN or infinite.")
      .def_property_readonly(
          "change",
          [](const MeasuredInput& self) {
            return self.has_previous ? std::optional(self.change) : std::nullopt;
          },
          "Mean absolute difference from the previous input, or None without one.")
      .def("__repr__", [](const MeasuredInput& self) {
        return py::str("InputSignals(mean={}, std={}, saturated={}, nonfinite={}, change={})")
            .format(self.mean, self.std, self.saturated, self.nonfinite,
                    self.has_previous ? py::cast(self.change) : py::none());
      });
  py::class_<OutputSignals>(m, "OutputSignals", "What is measured on a classifier's output.",
                            py::is_final())
      .def_readonly("confidence", &OutputSignals::confidence, "Largest probability.")
      .def_readonly("margin", &OutputSignals::margin, "Lead over the second largest.")
      .def_readonly("entropy", &OutputSignals::entropy, "Entropy in nats.")
      .def_readonly("label", &OutputSignals::label, "Index of the largest value, or -1.")
      .def("__repr__", [](const OutputSignals& self) {
        return py::str("OutputSignals(confidence={}, margin={}, entropy={}, label={})")
            .format(self.confidence, self.margin, self.entropy, self.label);
      });
  m.def("measure_input", &input, py::arg("array"), py::arg("scale") = 1.0,
        py::arg("zero_point") = 0, py::arg("previous") = py::none(),
        "Measure one input tensor in one pass.");
  m.def("measure_output", &output, py::arg("array"), py::arg("scale") = 1.0,
        py::arg("zero_point") = 0, py::arg("kind") = "probabilities",
        "Measure one output tensor of a classifier.");
}
