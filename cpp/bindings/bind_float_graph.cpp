#include <cstdint>
#include <vector>

#include "bindings.hpp"
#include "selfheal/learn/float_graph.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

constexpr py::ssize_t kFields = 16;

py::array floats_of(py::handle object, const char* name, py::ssize_t ndim) {
  constexpr const char* kExpected = "a float32 array";
  py::array array = require_array(object, name, kExpected);
  if (!has_dtype<float>(array) || array.ndim() != ndim) {
    refuse_type(name, kExpected, describe(array));
  }
  require_contiguous(array, name);
  return array;
}

std::vector<FloatGraph::Layer> layers_of(py::handle object, const py::array& limits) {
  constexpr const char* kExpected = "a uint32 array of 16 columns";
  const py::array rows = require_array(object, "layers", kExpected);
  if (!has_dtype<std::uint32_t>(rows) || rows.ndim() != 2 || rows.shape(1) != kFields) {
    refuse_type("layers", kExpected, describe(rows));
  }
  require_contiguous(rows, "layers");
  if (limits.shape(0) != rows.shape(0) || limits.shape(1) != 2) {
    refuse_type("limits", "a row of 2 for each layer", describe(limits));
  }
  std::vector<FloatGraph::Layer> layers;
  const auto* at = static_cast<const std::uint32_t*>(rows.data());
  const float* limit = as_span<float>(limits).data();
  for (py::ssize_t n = 0; n < rows.shape(0); ++n, at += kFields, limit += 2) {
    if (at[0] > static_cast<std::uint32_t>(FloatGraph::Kind::kMaxPool)) {
      refuse("layers", "kinds from 0 to 4", std::size_t{at[0]});
    }
    layers.push_back({static_cast<FloatGraph::Kind>(at[0]), at[1] != 0, at[2], at[3], at[4], at[5],
                      at[6], at[7], at[8], at[9], at[10], at[11], at[12], at[13], at[14], at[15],
                      limit[0], limit[1]});
  }
  return layers;
}

FloatGraph make(py::handle layers, py::handle limits, py::handle weights, py::handle biases,
                std::int64_t max_bytes) {
  const py::array bounds = floats_of(limits, "limits", 2);
  const py::array w = floats_of(weights, "weights", 1);
  const py::array b = floats_of(biases, "biases", 1);
  return {layers_of(layers, bounds), as_span<float>(w), as_span<float>(b),
          to_size("max_bytes", max_bytes)};
}

py::array_t<float> logits(FloatGraph& self, py::handle inputs) {
  const py::array x = floats_of(inputs, "inputs", 2);
  py::array_t<float> out({x.shape(0), static_cast<py::ssize_t>(self.classes())});
  const std::span<float> to(out.mutable_data(), static_cast<std::size_t>(out.size()));
  const ReleasedGil released;
  self.logits(as_span<float>(x), to);
  return out;
}

double step(FloatGraph& self, py::handle inputs, py::handle targets, py::handle weights,
            double rate) {
  const py::array x = floats_of(inputs, "inputs", 2);
  const py::array t = floats_of(targets, "targets", 2);
  const py::array w = floats_of(weights, "sample_weights", 1);
  const ReleasedGil released;
  return self.step(as_span<float>(x), as_span<float>(t), as_span<float>(w), rate);
}

py::array_t<float> copied(std::span<const float> values) {
  return to_array(std::vector<float>(values.begin(), values.end()));
}

}  // namespace

void bind_float_graph(py::module_& m) {
  Class<FloatGraph>(m, "FloatGraph",
                    "A float shadow of a quantised classifier, forward and backward.")
      .def(constructor(&make), arg("layers"), arg("limits"), arg("weights"), arg("biases"),
           kw_only(), arg("max_bytes"))
      .def("logits", &logits, arg("inputs"), "Logits of samples.")
      .def("step", &step, arg("inputs"), arg("targets"), arg("sample_weights"), arg("rate"),
           "One step of Adam; returns the loss before it.")
      .def(
          "set_parameters",
          [](FloatGraph& self, py::handle values) {
            const py::array v = floats_of(values, "values", 1);
            self.set_parameters(as_span<float>(v));
          },
          arg("values"), "Set what is learned, and begin anew with Adam's moments.")
      .def(
          "set_rates",
          [](FloatGraph& self, py::handle rates) {
            const py::array v = floats_of(rates, "rates", 1);
            self.set_rates(as_span<float>(v));
          },
          arg("rates"), "Set how far each number may go in one step of rate 1.")
      .def_property_readonly(
          "parameters", [](const FloatGraph& self) { return copied(self.parameters()); },
          "Of each layer gains, biases and, where it learns them, weights.")
      .def_property_readonly(
          "gradient", [](const FloatGraph& self) { return copied(self.gradient()); },
          "That of the latest step, before it.")
      .def_property_readonly("inputs", &FloatGraph::inputs, "Numbers of a sample.")
      .def_property_readonly("classes", &FloatGraph::classes, "Logits of a sample.")
      .def("memory_bytes", &FloatGraph::memory_bytes, "Bytes held, fixed at construction.");
}
