#include "bindings.hpp"
#include "bound_pass.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

TensorLayout layout(const std::string& dtype, std::int64_t elements, std::int64_t channels,
                    double scale, std::int32_t zero_point) {
  return {type_named(dtype),
          to_size("elements", elements, 1),
          to_size("channels", channels, 1),
          {scale, zero_point}};
}

std::vector<float> numbers(const py::object& object, const char* name, py::ssize_t ndim,
                           std::size_t& rows) {
  if (object.is_none()) return {};
  const std::string expected = "a " + std::to_string(ndim) + "-D float32 array";
  const py::array array = require_array(object, name, expected.c_str());
  if (!has_dtype<float>(array) || array.ndim() != ndim) {
    refuse(name, expected, std::string_view(describe(array)));
  }
  require_contiguous(array, name);
  rows = static_cast<std::size_t>(array.shape(0));
  const auto values = as_span<float>(array);
  return {values.begin(), values.end()};
}

SignalRole role_of(const std::string& name) {
  for (int role = 0; role <= static_cast<int>(SignalRole::kInnerActive); ++role) {
    if (role_name(static_cast<SignalRole>(role)) == name) return static_cast<SignalRole>(role);
  }
  refuse("left_out", "names of signals", std::string_view(quoted(name)));
}

BoundPass make_pass(std::vector<std::optional<TensorLayout>> inputs,
                    std::vector<std::optional<TensorLayout>> outputs,
                    const std::optional<std::string>& classifier, bool reconstructs,
                    const std::optional<std::array<std::int64_t, 4>>& detections,
                    std::vector<TensorLayout> inner, std::optional<TensorLayout> embedding,
                    const std::vector<std::int64_t>& embedding_part, const py::object& centroids,
                    const py::object& precision, const py::object& class_scales,
                    const std::vector<std::pair<std::string, std::size_t>>& left_out,
                    std::int64_t recent_bytes, const std::optional<std::string>& backend) {
  SignalPlan plan;
  plan.inputs = std::move(inputs);
  plan.outputs = std::move(outputs);
  if (classifier && *classifier != "probabilities" && *classifier != "logits") {
    refuse("classifier", "'probabilities', 'logits' or None",
           std::string_view(quoted(*classifier)));
  }
  if (classifier) {
    plan.classifier = *classifier == "logits" ? OutputKind::kLogits : OutputKind::kProbabilities;
  }
  plan.reconstructs = reconstructs;
  if (detections) {
    plan.detections.emplace(DetectionOutputs{
        to_size("detections", (*detections)[0]), to_size("detections", (*detections)[1]),
        to_size("detections", (*detections)[2]), to_size("detections", (*detections)[3])});
  }
  plan.inner = std::move(inner);
  plan.embedding = embedding;
  for (const std::int64_t start : embedding_part) {
    plan.embedding_part.push_back(to_size("embedding_part", start));
  }
  std::size_t ignored = 0;
  plan.centroids = numbers(centroids, "centroids", 2, plan.classes);
  plan.precision = numbers(precision, "precision", 1, ignored);
  for (const auto& [role, tensor] : left_out) plan.left_out.push_back({role_of(role), tensor});
  plan.recent_bytes = to_size("recent_bytes", recent_bytes);
  plan.class_scales = numbers(class_scales, "class_scales", 1, ignored);
  return {std::move(plan), backend.value_or("")};
}

}  // namespace

void bind_signals(py::module_& m) {
  Class<TensorLayout>(m, "TensorLayout", "What a tensor's elements are.", py::is_final())
      .def(constructor(&layout), arg("dtype"), arg("elements"), arg("channels") = 1,
           arg("scale") = 1.0, arg("zero_point") = 0)
      .def("__repr__", [](const TensorLayout& self) {
        return py::str("TensorLayout('{}', {}, channels={}, scale={}, zero_point={})")
            .format(name_of(self.type), self.elements, self.channels, self.quantization.scale,
                    self.quantization.zero_point);
      });
  Class<BoundPass>(m, "SignalPass", "Measures one inference after the other.", py::is_final())
      .def(constructor(&make_pass), arg("inputs"), arg("outputs"), kw_only(),
           arg("classifier") = nullptr, arg("reconstructs") = false, arg("detections") = nullptr,
           arg("inner") = kNoItems, arg("embedding") = nullptr, arg("embedding_part") = kNoItems,
           arg("centroids") = nullptr, arg("precision") = nullptr, arg("class_scales") = nullptr,
           arg("left_out") = kNoItems, arg("recent_bytes") = SignalPlan{}.recent_bytes,
           arg("backend") = nullptr)
      .def_property_readonly(
          "names",
          [](const BoundPass& self) {
            std::vector<std::pair<std::string, std::size_t>> names;
            for (const SignalName& name : self.pass().names()) {
              names.emplace_back(role_name(name.role), name.tensor);
            }
            return names;
          },
          "Role and tensor of every number of a row.")
      .def_property_readonly(
          "inner", [](const BoundPass& self) { return self.pass().inner(); },
          "How many inner tensors are measured.")
      .def("measure", &BoundPass::measure, arg("inputs"), arg("outputs"), arg("embedding"),
           arg("row"), arg("inner") = kNoItems, "Measure one inference into a row.")
      .def(
          "recent",
          [](const BoundPass& self, std::int64_t most) {
            return self.recent(to_size("most", most));
          },
          arg("most") = std::int64_t{1} << 30, "Copy what is kept of the latest inferences.")
      .def(
          "forget", [](BoundPass& self) { self.pass().forget(); }, "Forget the previous inputs.")
      .def(
          "memory_bytes", [](const BoundPass& self) { return self.pass().memory_bytes(); },
          "Bytes held, fixed at construction.");
  define_function(
      m, "signal_backends",
      [] {
        const auto names = SignalPass::backends();
        return std::vector<std::string>(names.begin(), names.end());
      },
      "Backends of SignalPass that this CPU runs, fastest first.");
}
