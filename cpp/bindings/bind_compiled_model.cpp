#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "compiled_model.hpp"
#include "engine.hpp"
#include "quiet_stderr.hpp"
#include "refusal.hpp"
#include "tensor_port.hpp"

namespace {

using namespace selfheal::runtime;
using namespace selfheal::python;

// Bytes that Python may view and write; the owner lives as long as any view.
struct Bytes {
  std::shared_ptr<void> owner;
  std::byte* data;
  std::size_t nbytes;
};

// A QuietStderr for each of the blocks that an object is entered for, in one thread.
class QuietPart {
 public:
  void begin() { parts_.push_back(std::make_unique<QuietStderr>()); }
  void end() {
    if (!parts_.empty()) parts_.pop_back();
  }

 private:
  std::vector<std::unique_ptr<QuietStderr>> parts_;
};

// NumPy's code of a LiteRT element type; CompiledModel has refused the others.
const char* dtype_of(std::int32_t element_type) {
  switch (element_type) {
    case 1:
      return "f4";
    case 2:
      return "i4";
    case 3:
      return "u1";
    case 4:
      return "i8";
    case 6:
      return "?";
    case 7:
      return "i2";
    case 9:
      return "i1";
    case 10:
      return "f2";
    case 11:
      return "f8";
    case 13:
      return "u8";
    case 16:
      return "u4";
    default:
      return "u2";
  }
}

std::vector<py::ssize_t> shape_of(const TensorSlot& slot) {
  const LiteRtLayout& layout = slot.type.layout;
  return {layout.dimensions, layout.dimensions + layout.rank()};
}

struct Port : selfheal::python::TensorPort {
  TensorSlot slot;

  explicit Port(const TensorSlot& described)
      : TensorPort(py::dtype(dtype_of(described.type.element_type)), shape_of(described)),
        slot(described) {}
};

[[noreturn]] void raise_python(const char* error, const char* message) {
  const py::object type = py::module_::import("selfheal_edge.errors").attr(error);
  PyErr_SetString(type.ptr(), message);
  throw py::error_already_set();
}

// A compiled model as Python sees it. A hot path that has not let go of it keeps its tensors beyond
// close().
class Held : public TensorEngine {
 public:
  Held(const std::string& library, const std::string& version, const std::string& source_path,
       int num_threads, int own_outputs, const std::vector<std::size_t>& taps) {
    {
      const selfheal::python::ReleasedGil release;
      model_ =
          std::make_shared<CompiledModel>(litert_api(library, version), source_path, num_threads);
    }
    compiled_ = model_.get();
    for (const TensorSlot& slot : model_->inputs()) {
      inputs_.emplace_back(slot);
      inputs_memory_.push_back({model_->data(slot), slot.nbytes});
    }
    for (const TensorSlot& slot : model_->outputs()) outputs_.emplace_back(slot);
    const std::size_t count = outputs_.size();
    own_outputs_ = own_outputs < 0 ? count : std::min(count, static_cast<std::size_t>(own_outputs));
    for (std::size_t i = 0; i < own_outputs_; ++i) outputs_memory_.push_back(memory_of(i));
    for (const std::size_t i : taps) taps_memory_.push_back(memory_of(i));
  }

  const std::vector<Port>& input_ports() const { return inputs_; }
  const std::vector<Port>& output_ports() const { return outputs_; }

  bool needs_interpreter_lock() const noexcept override { return false; }
  // Its caller holds the model's lock, and memory().
  bool run() noexcept override {
    return !is_closed_.load(std::memory_order_relaxed) && !compiled_->forked() &&
           compiled_->run() == 0;
  }
  std::shared_ptr<const void> memory() const override { return model_; }

  // Small models take a few microseconds, and pybind11's scoped release of the GIL takes as long as
  // a layer.
  py::list run_arrays(const py::sequence& arrays) {
    const std::shared_ptr<CompiledModel> model = require_open();
    const std::unique_lock lock = lock_of(*model);
    if (arrays.size() != inputs_.size()) {
      selfheal::refuse("inputs", std::to_string(inputs_.size()) + " arrays",
                       std::string_view(std::to_string(arrays.size())));
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      inputs_[i].copy_in(model->data(inputs_[i].slot), py::object(arrays[i]));
    }
    LiteRtStatus status = 0;
    PyThreadState* const thread = PyEval_SaveThread();
    status = model->run();
    selfheal::python::take_gil(thread);
    if (status != 0) {
      throw std::runtime_error("LiteRT failed to run the model: status " + std::to_string(status));
    }
    py::list results(own_outputs_);
    for (std::size_t i = 0; i < own_outputs_; ++i) {
      PyList_SET_ITEM(results.ptr(), static_cast<py::ssize_t>(i),
                      outputs_[i].copy_out(model->data(outputs_[i].slot)).release().ptr());
    }
    return results;
  }

  py::array read(std::size_t index) {
    const std::shared_ptr<CompiledModel> model = require_open();
    const std::unique_lock lock = lock_of(*model);
    const Port& port = outputs_.at(index);
    return port.copy_out(model->data(port.slot));
  }

  py::object packed() const {
    const std::shared_ptr<CompiledModel> model = require_open();
    const std::shared_ptr<Mapping> mapping = model->packed();
    if (!mapping) return py::none();
    const std::span<std::byte> bytes = mapping->bytes();
    return py::memoryview(py::cast(Bytes{mapping, bytes.data(), bytes.size()}));
  }

  void close() {
    is_closed_.store(true, std::memory_order_relaxed);
    std::shared_ptr<CompiledModel> last = std::move(model_);
    model_ = nullptr;
    if (!last) return;
    const selfheal::python::ReleasedGil release;  // another thread may be inside run: wait for it
    if (!last->forked()) {
      const std::lock_guard lock(last->mutex());
    }
    last.reset();
  }

  bool closed() const { return model_ == nullptr; }
  std::size_t memory_bytes() const { return model_ ? model_->memory_bytes() : 0; }

 private:
  std::shared_ptr<CompiledModel> require_open() const {
    if (!model_)
      raise_python("ModelClosedError", "model: expected an open model, got a closed one");
    if (model_->forked()) {
      raise_python("ForkedProcessError",
                   "model: belongs to the process that built it, not to a fork; build it there");
    }
    return model_;
  }

  // A thread waits for the model without the GIL, or the model's owner could not finish.
  static std::unique_lock<std::mutex> lock_of(CompiledModel& model) {
    std::unique_lock lock(model.mutex(), std::try_to_lock);
    if (!lock.owns_lock()) {
      const selfheal::python::ReleasedGil release;
      lock.lock();
    }
    return lock;
  }

  TensorMemory memory_of(std::size_t output) const {
    const Port& port = outputs_.at(output);
    return {model_->data(port.slot), port.slot.nbytes};
  }

  std::shared_ptr<CompiledModel> model_;  // null once it is closed
  CompiledModel* compiled_ = nullptr;
  std::atomic<bool> is_closed_{false};
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  std::size_t own_outputs_ = 0;
};

py::list describe_ports(const std::vector<Port>& ports) {
  py::list list;
  for (const Port& port : ports) {
    list.append(py::make_tuple(port.dtype, py::tuple(py::cast(port.shape))));
  }
  return list;
}

}  // namespace

void bind_compiled_model(py::module_& m) {
  py::register_exception<Refusal>(m, "RuntimeRefusedError", PyExc_RuntimeError);

  Class<Bytes>(m, "_PackedBytes",
               "Live packed weights; memoryview() of it is writable and keeps them mapped.",
               py::buffer_protocol())
      .def_buffer([](Bytes& self) {
        return py::buffer_info(reinterpret_cast<std::uint8_t*>(self.data),
                               static_cast<py::ssize_t>(self.nbytes));
      });

  Class<Held, Engine>(m, "CompiledModel", "A model compiled by LiteRT, its packed weights ours.")
      .def(constructor<const std::string&, const std::string&, const std::string&, int, int,
                       const std::vector<std::size_t>&>(),
           kw_only(), arg("library"), arg("version"), arg("source_path"), arg("num_threads") = 1,
           arg("own_outputs") = -1, arg("taps") = kNoItems)
      .def("run", &Held::run_arrays, arg("inputs"),
           "Run once on arrays of the inputs' shapes and dtypes; copies of the own outputs.")
      .def("read", &Held::read, arg("output"), "Copy one output of the last run.")
      .def("close", &Held::close, "Release the runtime's memory; a second call does nothing.")
      .def_property_readonly("closed", &Held::closed, "Whether its memory was released.")
      .def_property_readonly("packed", &Held::packed, "The packed image, or None.")
      .def_property_readonly(
          "inputs", [](const Held& h) { return describe_ports(h.input_ports()); },
          "Dtype and shape of each input.")
      .def_property_readonly(
          "outputs", [](const Held& h) { return describe_ports(h.output_ports()); },
          "Dtype and shape of each output.")
      .def("memory_bytes", &Held::memory_bytes, "Bytes of tensors and packed weights.");

  Class<QuietPart>(m, "QuietStderr", R"doc(
Hold back what a runtime's own logger notifies of in this thread, within a ``with`` block.

Lines that are no notices follow when it ends. No file descriptor is touched, so neither other
threads nor other processes lose anything.
)doc")
      .def(constructor<>())
      .def("__enter__", [](QuietPart& part) { part.begin(); })
      .def("__exit__", [](QuietPart& part, const py::args&) { part.end(); });

  define_function(
      m, "require_litert",
      [](const std::string& library, const std::string& version) {
        litert_api(library, version);
        const MemoryFile needed("selfheal-packed");
      },
      kw_only(), arg("library"), arg("version"),
      "Raise RuntimeRefusedError unless this LiteRT can be used, and files in memory.");
  define_function(
      m, "pack_weights",
      [](const std::string& library, const std::string& version, py::handle source,
         int num_threads) {
        const selfheal::python::HeldBuffer held(source, "source", false);
        std::vector<std::byte> image;
        {
          const selfheal::python::ReleasedGil release;
          image = pack_weights(litert_api(library, version), held.bytes(), num_threads);
        }
        return selfheal::python::to_bytes(image);
      },
      kw_only(), arg("library"), arg("version"), arg("source"), arg("num_threads") = 1,
      "Pack a model's weights once; a copy of the image.");
}
