#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "bound_pass.hpp"
#include "condition_watch.hpp"
#include "selfheal/detect/condition_gate.hpp"
#include "selfheal/measure/channel_numbers.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;
using runtime::ConditionWatch;

constexpr const char* kRows = "a C-contiguous float64 array of shape (n, numbers)";

std::shared_ptr<ChannelNumbers> make_numbers(const std::vector<std::int64_t>& shape,
                                             std::optional<std::int64_t> channel,
                                             const std::vector<std::int64_t>& smooth, double scale,
                                             double zero_point) {
  InputAxes axes;
  for (const std::int64_t size : shape) axes.shape.push_back(to_size("shape", size));
  for (const std::int64_t axis : smooth) axes.smooth.push_back(to_size("smooth", axis));
  if (channel)
    axes.channel = static_cast<int>(std::min<std::size_t>(to_size("channel", *channel), 64));
  if (!(scale > 0.0)) refuse("scale", "above 0", scale);
  if (!(std::abs(zero_point) <= 32768.0)) refuse("zero_point", "-32768 to 32768", zero_point);
  return std::make_shared<ChannelNumbers>(
      std::move(axes), Quantization{scale, static_cast<std::int32_t>(zero_point)});
}

py::array_t<double> measure(ChannelNumbers& self, const py::array& inputs) {
  require_contiguous(inputs, "inputs");
  const ElementType type = type_named(py::str(inputs.dtype()));
  const auto count = inputs.ndim() == 0 ? 0 : static_cast<std::size_t>(inputs.shape(0));
  if (count * self.elements() != static_cast<std::size_t>(inputs.size())) {
    refuse("inputs", std::to_string(self.elements()) + " elements each",
           std::string_view(describe(inputs)));
  }
  py::array_t<double> found(std::vector<py::ssize_t>{static_cast<py::ssize_t>(count),
                                                     static_cast<py::ssize_t>(self.size())});
  const std::size_t bytes = self.elements() * static_cast<std::size_t>(inputs.itemsize());
  const auto* from = static_cast<const std::byte*>(inputs.data());
  double* to = found.mutable_data();
  for (std::size_t i = 0; i < count; ++i) {
    self.measure(from + i * bytes, type, {to + i * self.size(), self.size()});
  }
  return found;
}

using RivalParts = std::tuple<std::vector<double>, std::vector<double>, std::vector<double>, double,
                              double, std::int64_t>;

std::shared_ptr<ConditionGate> make_gate(std::int64_t numbers, const std::vector<RivalParts>& parts,
                                         double height) {
  std::vector<ConditionGate::Rival> rivals;
  rivals.reserve(parts.size());
  for (const auto& [direction, mean, spread, centre, factor, examples] : parts) {
    rivals.push_back({direction, mean, spread, centre, factor, to_size("examples", examples, 1)});
  }
  return std::make_shared<ConditionGate>(to_size("numbers", numbers, 1), std::move(rivals), height);
}

py::array require_rows(const ConditionGate& self, const py::array& rows) {
  if (!has_dtype<double>(rows) || rows.ndim() != 2 ||
      static_cast<std::size_t>(rows.shape(1)) != self.numbers()) {
    refuse_type("rows", kRows, describe(rows));
  }
  require_contiguous(rows, "rows");
  return rows;
}

py::tuple judge(const ConditionGate& self, const py::array& given) {
  const py::array rows = require_rows(self, given);
  const auto count = static_cast<std::size_t>(rows.shape(0));
  if (count == 0) return py::make_tuple(py::none(), false);
  const auto all = as_span<double>(rows);
  std::vector<std::vector<double>> logs(self.rivals(), std::vector<double>(count));
  std::vector<const double*> stretch(self.rivals());
  for (std::size_t k = 0; k < self.rivals(); ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      logs[k][i] = self.log_ratio(k, all.subspan(i * self.numbers(), self.numbers()));
    }
    stretch[k] = logs[k].data();
  }
  const ConditionGate::Passage found = self.judge(all, stretch, count, true);
  return py::make_tuple(found.to < 0 ? py::object(py::none()) : py::int_(found.to), found.is_open);
}

}  // namespace

void bind_conditions(py::module_& m) {
  Class<ChannelNumbers, std::shared_ptr<ChannelNumbers>>(
      m, "ChannelNumbers", "Mean, spread and roughness of each channel of inputs.")
      .def(constructor(&make_numbers), arg("shape"), kw_only(), arg("channel"), arg("smooth"),
           arg("scale"), arg("zero_point"))
      .def("measure", &measure, arg("inputs"), "Return the numbers of raw inputs, (n, size).")
      .def_property_readonly("size", &ChannelNumbers::size, "Numbers of an input.")
      .def("memory_bytes", &ChannelNumbers::memory_bytes, "Bytes held.");
  Class<ConditionGate, std::shared_ptr<ConditionGate>>(
      m, "ConditionGate", "Tells whether inputs have come to another condition.")
      .def(constructor(&make_gate), arg("numbers"), arg("rivals"), arg("height"))
      .def("judge", &judge, arg("rows"),
           "Return the rival that a stretch has come to, or None, and whether it may yet be one.")
      .def(
          "first_passage",
          [](const ConditionGate& self, const py::array& rows) {
            return self.first_passage(as_span<double>(require_rows(self, rows)));
          },
          arg("rows"), "Return how many inputs come until one is seen; 0: never.")
      .def("memory_bytes", &ConditionGate::memory_bytes, "Bytes held.");
  Class<ConditionWatch, std::shared_ptr<ConditionWatch>>(
      m, "ConditionWatch", "Looks at every input that a HotPath serves.")
      .def(constructor([](const std::shared_ptr<ChannelNumbers>& numbers,
                          std::shared_ptr<ConditionGate> gate, const std::string& dtype,
                          std::int64_t step) {
             return std::make_shared<ConditionWatch>(*numbers, std::move(gate), type_named(dtype),
                                                     to_size("step", step, 1));
           }),
           arg("numbers").none(false), arg("gate").none(false), arg("dtype"), arg("step") = 1)
      .def_property_readonly(
          "to",
          [](const ConditionWatch& self) {
            return self.to() < 0 ? std::optional<int>() : std::optional<int>(self.to());
          },
          "The rival that inputs have come to, or None.")
      .def("reset", &ConditionWatch::reset, "Begin anew.")
      .def("memory_bytes", &ConditionWatch::memory_bytes, "Bytes held.");
}
