#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bindings.hpp"
#include "engine.hpp"
#include "tensor_port.hpp"

namespace {

using namespace selfheal::python;
using selfheal::runtime::TensorEngine;
using selfheal::runtime::TensorMemory;

using Address = std::tuple<std::uintptr_t, py::dtype, std::vector<py::ssize_t>>;

struct FixedPort {
  TensorPort port;
  void* data;
};

std::vector<FixedPort> fixed_ports(const char* name, const std::vector<Address>& tensors) {
  std::vector<FixedPort> ports;
  for (const auto& [address, dtype, shape] : tensors) {
    if (address == 0) selfheal::refuse(name, "addresses of allocated tensors", "0");
    // The caller has the address from the interpreter that it belongs to.
    ports.push_back({TensorPort(dtype, shape),
                     reinterpret_cast<void*>(address)});  // NOLINT(performance-no-int-to-ptr)
  }
  return ports;
}

std::vector<TensorMemory> memory_of(const std::vector<Address>& tensors) {
  std::vector<TensorMemory> memory;
  memory.reserve(tensors.size());
  for (const auto& [address, dtype, shape] : tensors) {
    memory.push_back({reinterpret_cast<std::byte*>(address),  // NOLINT(performance-no-int-to-ptr)
                      TensorPort(dtype, shape).nbytes});
  }
  return memory;
}

// Copy in, invoke, copy out. An interpreter's tensors do not move between invokes, so that the
// addresses taken once after the allocation hold until something reallocates.
class InterpreterCall : public TensorEngine {
 public:
  InterpreterCall(py::object invoke, const std::vector<Address>& inputs,
                  const std::vector<Address>& outputs, const std::vector<Address>& taps,
                  const std::vector<Address>& variables)
      : TensorEngine(memory_of(inputs), memory_of(outputs), memory_of(taps), memory_of(variables)),
        invoke_(std::move(invoke)),
        inputs_(fixed_ports("inputs", inputs)),
        outputs_(fixed_ports("outputs", outputs)) {
    fixed_ports("taps", taps);
    fixed_ports("variables", variables);
  }

  bool needs_interpreter_lock() const noexcept override { return true; }
  // Leaves Python's error as it is where it fails.
  bool run() noexcept override { return invoke(); }

  // Runs no more. The interpreter, whose memory the tensors are, goes with the last that has this.
  void close() noexcept { is_closed_ = true; }

  py::list operator()(const py::sequence& arrays) {
    if (arrays.size() != inputs_.size()) {
      selfheal::refuse("inputs", std::to_string(inputs_.size()) + " arrays",
                       std::string_view(std::to_string(arrays.size())));
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      inputs_[i].port.copy_in(inputs_[i].data, py::object(arrays[i]));
    }
    if (!invoke()) throw py::error_already_set();
    py::list results(outputs_.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      PyList_SET_ITEM(results.ptr(), static_cast<py::ssize_t>(i),
                      outputs_[i].port.copy_out(outputs_[i].data).release().ptr());
    }
    return results;
  }

 private:
  bool invoke() const noexcept {
    if (is_closed_) {
      PyErr_SetString(PyExc_RuntimeError, "engine: expected an open one, got a closed one");
      return false;
    }
    PyObject* const done = selfheal::python::call_no_args(invoke_.ptr());
    Py_XDECREF(done);
    return done != nullptr;
  }

  py::object invoke_;
  bool is_closed_ = false;
  std::vector<FixedPort> inputs_;
  std::vector<FixedPort> outputs_;
};

}  // namespace

void bind_engine(py::module_& m) {
  Class<selfheal::runtime::Engine>(m, "Engine", "What a HotPath runs.");
}

void bind_interpreter_call(py::module_& m) {
  Class<InterpreterCall, selfheal::runtime::Engine>(
      m, "InterpreterCall", "Copy in, invoke and copy out, through fixed addresses.")
      .def(constructor<py::object, const std::vector<Address>&, const std::vector<Address>&,
                       const std::vector<Address>&, const std::vector<Address>&>(),
           kw_only(), arg("invoke"), arg("inputs"), arg("outputs"), arg("taps") = kNoItems,
           arg("variables") = kNoItems)
      .def("__call__", &InterpreterCall::operator(), arg("inputs"),
           "Run once on arrays of the inputs' shapes and dtypes; copies of the outputs.")
      .def("close", &InterpreterCall::close, "Run no more; a second call does nothing.");
}
