#pragma once

// What a HotPath works with where that is Python: an engine and a monitor.

#include <utility>
#include <vector>

#include "arrays.hpp"
#include "engine.hpp"
#include "monitor.hpp"

namespace selfheal::python {

/// What the C API has made or returned; what it has set instead is thrown.
inline py::object checked(PyObject* made) {
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

/// Where the thread that serves has left the GIL, while it serves without.
struct GilGate {
  PyThreadState* released = nullptr;
};

/// With the GIL for as long as it lives, whether its thread has it or has left it at the gate.
class GilOfGate {
 public:
  explicit GilOfGate(GilGate& gate) noexcept
      : gate_(gate), released_(std::exchange(gate.released, nullptr)) {
    if (released_ != nullptr) take_gil(released_);
  }
  GilOfGate(const GilOfGate&) = delete;
  GilOfGate& operator=(const GilOfGate&) = delete;
  ~GilOfGate() {
    if (released_ != nullptr) gate_.released = PyEval_SaveThread();
  }

 private:
  GilGate& gate_;
  PyThreadState* released_;
};

/// An engine that calls a Python function: `run(arrays) -> arrays`, copies, of which each may have
/// another size every time; and `tapped() -> arrays` for the inner tensors of that run.
class PythonEngine final : public runtime::Engine {
 public:
  struct Tensor {
    py::dtype dtype;
    std::vector<py::ssize_t> shape;

    std::size_t nbytes() const {
      auto total = static_cast<std::size_t>(dtype.itemsize());
      for (const py::ssize_t n : shape) total *= static_cast<std::size_t>(n);
      return total;
    }
  };

  PythonEngine(py::object run, py::object tapped, const std::vector<Tensor>& inputs,
               std::vector<Tensor> outputs, std::vector<Tensor> taps);

  bool needs_interpreter_lock() const noexcept override { return true; }
  std::span<const runtime::TensorMemory> inputs() const noexcept override { return inputs_; }
  std::span<const runtime::TensorMemory> outputs() const noexcept override { return outputs_; }
  std::span<const runtime::TensorMemory> taps() const noexcept override { return taps_; }
  /// Leaves Python's error where it fails.
  bool run() noexcept override;  // NOLINT(bugprone-exception-escape)

  /// The arrays that the last run gave.
  const py::list& results() const noexcept { return results_; }
  std::size_t memory_bytes() const noexcept;

 private:
  bool take(py::handle given, const std::vector<Tensor>& tensors, py::list& arrays,
            std::vector<runtime::TensorMemory>& memory);

  py::object run_;
  py::object tapped_;
  std::vector<Tensor> output_tensors_;
  std::vector<Tensor> tap_tensors_;
  py::list arguments_;
  py::list results_;
  py::list tapped_arrays_;
  std::vector<runtime::TensorMemory> inputs_;
  std::vector<runtime::TensorMemory> outputs_;
  std::vector<runtime::TensorMemory> taps_;
};

/// A monitor that calls a Python function: `update(measurement) -> alarms`.
class PythonMonitor final : public runtime::Monitor {
 public:
  /// measurement: a named tuple of values, repeats_previous, nonfinite, label, confidence,
  /// nonfinite_outputs and same_answer.
  PythonMonitor(py::object update, py::type measurement, GilGate& gate)
      : update_(std::move(update)), measurement_(std::move(measurement)), gate_(gate) {}

  Verdict update(const PassResult& result, std::span<const double> row) noexcept override;
  bool is_foreign() const noexcept override { return true; }
  /// What the last update gave.
  py::object take_alarms() noexcept { return std::move(alarms_); }

 private:
  py::object measurement(const PassResult& result, std::span<const double> row) const;

  py::object update_;
  py::type measurement_;
  GilGate& gate_;
  py::object alarms_;
};

}  // namespace selfheal::python
