#include "python_parts.hpp"

#include <stdexcept>
#include <string>

#include "plain_array.hpp"

namespace selfheal::python {
namespace {

// For noexcept functions: in a process that is ending the call does not return, see gil.hpp.
PyObject* call_one_arg(PyObject* callable, PyObject* argument) noexcept {
  return or_stay([=] { return PyObject_CallOneArg(callable, argument); });
}

py::object own_or_none(bool is_there, py::object value) {
  return is_there ? std::move(value) : py::none();
}

}  // namespace

PythonEngine::PythonEngine(py::object run, py::object tapped, const std::vector<Tensor>& inputs,
                           std::vector<Tensor> outputs, std::vector<Tensor> taps)
    : run_(std::move(run)),
      tapped_(std::move(tapped)),
      output_tensors_(std::move(outputs)),
      tap_tensors_(std::move(taps)),
      outputs_(output_tensors_.size()),
      taps_(tap_tensors_.size()) {
  for (const Tensor& tensor : inputs) {
    py::array array(tensor.dtype, tensor.shape);
    inputs_.push_back(
        {static_cast<std::byte*>(array.mutable_data()), static_cast<std::size_t>(array.nbytes())});
    arguments_.append(std::move(array));
  }
}

// What is not caught here is a thread that ends with the interpreter: see gil.hpp.
// NOLINTNEXTLINE(bugprone-exception-escape)
bool PythonEngine::run() noexcept {
  try {
    const py::object run = run_;
    const py::list arguments = checked(PyList_GetSlice(arguments_.ptr(), 0, PY_SSIZE_T_MAX));
    const auto given = py::reinterpret_steal<py::object>(call_one_arg(run.ptr(), arguments.ptr()));
    if (!given || !take(given, output_tensors_, results_, outputs_)) return false;
    if (tap_tensors_.empty()) return true;
    const auto inner = py::reinterpret_steal<py::object>(call_no_args(tapped_.ptr()));
    return inner && take(inner, tap_tensors_, tapped_arrays_, taps_);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return false;
}

// Arrays of another type or size than usual have no memory here: they measure as NaN.
bool PythonEngine::take(py::handle given, const std::vector<Tensor>& tensors, py::list& arrays,
                        std::vector<runtime::TensorMemory>& memory) {
  py::list taken = checked(PySequence_List(given.ptr()));
  if (taken.size() != tensors.size()) {
    refuse("run", std::to_string(tensors.size()) + " arrays", taken.size());
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto place = static_cast<py::ssize_t>(i);
    if (plain_array(PyList_GET_ITEM(taken.ptr(), place)) == nullptr) {
      py::array plain = py::array::ensure(PyList_GET_ITEM(taken.ptr(), place), py::array::c_style);
      if (!plain) throw py::error_already_set();
      taken[i] = std::move(plain);
    }
    const auto array = py::reinterpret_borrow<py::array>(PyList_GET_ITEM(taken.ptr(), place));
    const Tensor& usual = tensors[i];
    const bool has_type = array.dtype().is(usual.dtype) || array.dtype().equal(usual.dtype);
    memory[i] = {};
    if (has_type && static_cast<std::size_t>(array.nbytes()) == usual.nbytes()) {
      memory[i] = {static_cast<std::byte*>(const_cast<void*>(array.data())), usual.nbytes()};
    }
  }
  arrays = std::move(taken);
  return true;
}

std::size_t PythonEngine::memory_bytes() const noexcept {
  std::size_t total = sizeof *this;
  for (const runtime::TensorMemory& memory : inputs_) total += memory.nbytes;
  return total;
}

py::object PythonMonitor::measurement(const PassResult& result, std::span<const double> row) const {
  const py::object values = checked(PyTuple_New(static_cast<py::ssize_t>(row.size())));
  for (std::size_t i = 0; i < row.size(); ++i) {
    PyTuple_SET_ITEM(values.ptr(), static_cast<py::ssize_t>(i),
                     checked(PyFloat_FromDouble(row[i])).release().ptr());
  }
  const bool has_label = result.label >= 0;
  const py::tuple fields =
      py::make_tuple(values, py::bool_(result.repeats_previous), result.nonfinite,
                     own_or_none(has_label, py::int_(result.label)),
                     own_or_none(has_label, py::float_(result.confidence)),
                     result.nonfinite_outputs, py::bool_(result.same_answer));
  const py::tuple arguments = py::make_tuple(fields);
  // What the class's own __new__ does, without its Python.
  return checked(PyTuple_Type.tp_new(reinterpret_cast<PyTypeObject*>(measurement_.ptr()),
                                     arguments.ptr(), nullptr));
}

runtime::Monitor::Verdict PythonMonitor::update(const PassResult& result,
                                                std::span<const double> row) noexcept {
  const GilOfGate held(gate_);
  try {
    const py::object update = update_;
    alarms_ = py::object();
    auto given = py::reinterpret_steal<py::object>(
        call_one_arg(update.ptr(), measurement(result, row).ptr()));
    if (!given) return Verdict::kFailed;
    const int is_loud = PyObject_IsTrue(given.ptr());
    if (is_loud < 0) return Verdict::kFailed;
    if (is_loud == 0) return Verdict::kQuiet;
    alarms_ = std::move(given);
    return Verdict::kAlarm;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return Verdict::kFailed;
}

}  // namespace selfheal::python
