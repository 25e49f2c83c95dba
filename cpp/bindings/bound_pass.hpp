#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::python {

inline constexpr std::array<std::pair<std::string_view, ElementType>, 4> kTypes{
    {{"int8", ElementType::kInt8},
     {"uint8", ElementType::kUint8},
     {"int16", ElementType::kInt16},
     {"float32", ElementType::kFloat32}}};

inline std::string name_of(ElementType type) {
  const auto* const found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& e) { return e.second == type; });
  return std::string(found->first);
}

inline ElementType type_named(const std::string& dtype) {
  const auto* const found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& e) { return e.first == dtype; });
  if (found == kTypes.end()) {
    refuse("dtype", "'int8', 'uint8', 'int16' or 'float32'", std::string_view(quoted(dtype)));
  }
  return found->second;
}

inline bool has_type(const py::array& array, ElementType type) {
  switch (type) {
    case ElementType::kInt8:
      return has_dtype<std::int8_t>(array);
    case ElementType::kUint8:
      return has_dtype<std::uint8_t>(array);
    case ElementType::kInt16:
      return has_dtype<std::int16_t>(array);
    case ElementType::kFloat32:
      break;
  }
  return has_dtype<float>(array);
}

/// A pass, and what its tensors must look like.
class BoundPass {
 public:
  BoundPass(SignalPlan plan, std::string_view backend)
      : inputs_(plan.inputs),
        outputs_(plan.outputs),
        inner_(plan.inner),
        embedding_(plan.embedding),
        input_pointers_(inputs_.size()),
        output_pointers_(outputs_.size()),
        inner_pointers_(inner_.size()),
        pass_(std::move(plan), backend) {}

  py::tuple measure(const py::sequence& inputs, const py::sequence& outputs,
                    const py::object& embedding, const py::array& row, const py::sequence& inner) {
    require_count("inputs", inputs, inputs_.size());
    require_count("outputs", outputs, outputs_.size());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      input_pointers_[i] = inputs_[i] ? address("inputs", inputs[i], *inputs_[i], false) : nullptr;
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      output_pointers_[i] =
          outputs_[i] ? address("outputs", outputs[i], *outputs_[i], true) : nullptr;
    }
    require_count("inner", inner, inner_.size());
    for (std::size_t i = 0; i < inner_.size(); ++i) {
      inner_pointers_[i] = address("inner", inner[i], inner_[i], true);
    }
    const void* const embedded =
        embedding_ ? address("embedding", embedding, *embedding_, true) : nullptr;
    if (!has_dtype<double>(row) || row.ndim() != 1 || !row.writeable() ||
        static_cast<std::size_t>(row.size()) != pass_.signals()) {
      refuse("row", "a writable float64 array of " + std::to_string(pass_.signals()) + " numbers",
             std::string_view(describe(row)));
    }
    require_contiguous(row, "row");
    const std::span<double> to(static_cast<double*>(const_cast<void*>(row.data())),
                               pass_.signals());
    const PassResult result =
        pass_.measure(input_pointers_, output_pointers_, embedded, to, inner_pointers_);
    return py::make_tuple(result.repeats_previous, result.nonfinite, result.label,
                          result.confidence, result.nonfinite_outputs, result.same_answer);
  }
  // (inputs, output 0, embeddings, labels), oldest first.
  py::tuple recent(std::size_t most) const {
    const std::size_t count = std::min(most, pass_.recent());
    const std::size_t with_input = std::min(most, pass_.recent_inputs());
    py::list inputs;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i]) continue;
      py::array rows = blank(*inputs_[i], with_input);
      pass_.copy_recent_input(i, bytes_of(rows));
      inputs.append(std::move(rows));
    }
    py::object output = py::none();
    if (pass_.has_recent_output()) {
      py::array rows = blank(*outputs_[0], count);
      pass_.copy_recent_output(bytes_of(rows));
      output = std::move(rows);
    }
    py::object embedding = py::none();
    if (pass_.has_recent_embedding()) {
      py::array rows = blank(*embedding_, count);
      pass_.copy_recent_embedding(bytes_of(rows));
      embedding = std::move(rows);
    }
    py::array_t<std::int64_t> labels(static_cast<py::ssize_t>(count));
    pass_.copy_recent_labels({labels.mutable_data(), count});
    return py::make_tuple(inputs, output, embedding, labels);
  }
  SignalPass& pass() { return pass_; }
  const SignalPass& pass() const { return pass_; }

 private:
  static void require_count(const char* name, const py::sequence& tensors, std::size_t count) {
    if (tensors.size() != count) {
      refuse(name, std::to_string(count) + " arrays", tensors.size());
    }
  }

  static py::array blank(const TensorLayout& layout, std::size_t rows) {
    return py::array(py::dtype(name_of(layout.type)),
                     std::vector<py::ssize_t>{static_cast<py::ssize_t>(rows),
                                              static_cast<py::ssize_t>(layout.elements)});
  }
  static std::span<std::byte> bytes_of(py::array& array) {
    return {static_cast<std::byte*>(array.mutable_data()),
            static_cast<std::size_t>(array.nbytes())};
  }

  static const void* address(const char* name, const py::object& tensor, const TensorLayout& layout,
                             bool may_lack) {
    if (may_lack && tensor.is_none()) return nullptr;
    const std::string expected =
        name_of(layout.type) + " arrays of " + std::to_string(layout.elements) + " elements";
    const py::array array = require_array(tensor, name, expected.c_str());
    if (!has_type(array, layout.type)) refuse_type(name, expected, describe(array));
    if (static_cast<std::size_t>(array.size()) != layout.elements) {
      refuse(name, expected, std::string_view(describe(array)));
    }
    require_contiguous(array, name);
    return array.data();
  }

  std::vector<std::optional<TensorLayout>> inputs_;
  std::vector<std::optional<TensorLayout>> outputs_;
  std::vector<TensorLayout> inner_;
  std::optional<TensorLayout> embedding_;
  std::vector<const void*> input_pointers_;
  std::vector<const void*> output_pointers_;
  std::vector<const void*> inner_pointers_;
  SignalPass pass_;
};

}  // namespace selfheal::python
