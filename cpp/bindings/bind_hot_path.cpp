#include <limits>

#include "bindings.hpp"
#include "bound_pass.hpp"
#include "fast_update.hpp"
#include "hot_call.hpp"
#include "joined_method.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;
using selfheal::runtime::FairLock;
using selfheal::runtime::HotPath;
using selfheal::runtime::InputCorrection;

// pybind11's dispatcher takes as long as a small model's layer, so these are bound by hand.
PyObject* predict(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count < 1 || count > 2) {
    PyErr_SetString(PyExc_TypeError, "predict: expected one or two arguments");
    return nullptr;
  }
  return guarded([&] {
    return checked_instance_of<HotCall>(self).predict(arguments[0],
                                                      count == 2 ? arguments[1] : Py_None);
  });
}

PyObject* infer(PyObject* self, PyObject* x) {
  return guarded([&] { return checked_instance_of<HotCall>(self).infer(x); });
}

// A model's methods.
struct ModelPredict {
  static constexpr const char* name = "predict";
  static constexpr const char* signature = "predict($self, x, out=None)\n--\n\n";
  static constexpr const char* second = "out";
  static PyObject* call(PyObject* /*self*/, PyObject* hot, PyObject* const* arguments,
                        Py_ssize_t count) {
    return predict(hot, arguments, count);
  }
};

struct ModelInfer {
  static constexpr const char* name = "infer";
  static constexpr const char* signature = "infer($self, x, context=None)\n--\n\n";
  static constexpr const char* second = nullptr;  // with a context, Python has to look at it
  static PyObject* call(PyObject* /*self*/, PyObject* hot, PyObject* const* arguments,
                        Py_ssize_t /*count*/) {
    return infer(hot, arguments[0]);
  }
};

std::unique_ptr<PythonEngine> make_engine(py::object run, py::object tapped,
                                          const std::vector<OutsideTensor::Description>& inputs,
                                          const std::vector<OutsideTensor::Description>& outputs,
                                          const std::vector<OutsideTensor::Description>& taps) {
  const auto tensors = [](const std::vector<OutsideTensor::Description>& described) {
    std::vector<PythonEngine::Tensor> result;
    result.reserve(described.size());
    for (const auto& one : described) result.push_back({std::get<1>(one), std::get<2>(one)});
    return result;
  };
  return std::make_unique<PythonEngine>(std::move(run), std::move(tapped), tensors(inputs),
                                        tensors(outputs), tensors(taps));
}

std::shared_ptr<InputCorrection> make_correction(const std::string& dtype,
                                                 const std::vector<std::int64_t>& shape,
                                                 std::int64_t nbytes) {
  std::vector<std::size_t> sizes;
  sizes.reserve(shape.size());
  for (const std::int64_t size : shape) sizes.push_back(to_size("shape", size));
  return std::make_shared<InputCorrection>(type_named(dtype), std::move(sizes),
                                           to_size("nbytes", nbytes));
}

py::array corrected(const InputCorrection& self, const py::array& raw) {
  require_contiguous(raw, "raw");
  if (!has_type(raw, self.type()) || static_cast<std::size_t>(raw.size()) != self.elements()) {
    throw std::invalid_argument("raw: expected one input of this type and size");
  }
  if (!self.is_on()) return raw;
  py::array result(raw.dtype(), std::vector<py::ssize_t>(raw.shape(), raw.shape() + raw.ndim()));
  self.apply(static_cast<const std::byte*>(raw.data()),
             static_cast<std::byte*>(result.mutable_data()));
  return result;
}

std::uint64_t due_number(const HotCall& self) { return self.path().due_number; }

}  // namespace

void bind_hot_path(py::module_& m) {
  Class<Flag, std::shared_ptr<Flag>>(m, "Flag", "A truth that any thread may set.")
      .def(constructor<>())
      .def_property(
          "value", [](const Flag& self) { return self.is_set.load(std::memory_order_relaxed); },
          [](Flag& self, bool value) { self.is_set.store(value, std::memory_order_relaxed); },
          "The truth; True at first.");
  Class<PythonEngine, selfheal::runtime::Engine>(m, "PythonEngine",
                                                 "An engine that calls a Python function.")
      .def(constructor(&make_engine), kw_only(), arg("run"), arg("tapped"), arg("inputs"),
           arg("outputs"), arg("taps"));

  Class<InputCorrection, std::shared_ptr<InputCorrection>>(
      m, "InputCorrection", "A correction of one input, feature by feature.")
      .def(constructor(&make_correction), arg("dtype"), arg("shape"), arg("nbytes"))
      .def_property_readonly(
          "memory",
          [](const py::object& self) {
            return writable(self.cast<InputCorrection&>().bytes(), self);
          },
          "Its bytes, writable: all zero at first, which corrects nothing.")
      .def_property_readonly("is_on", &InputCorrection::is_on, "Whether it corrects anything.")
      .def("corrected", &corrected, arg("raw"),
           "Return one input as the hot path corrects it; the array itself where it does not.")
      .def("memory_bytes", &InputCorrection::memory_bytes, "Bytes held.");

  using Tensors = std::vector<OutsideTensor::Description>;
  Class<HotCall> cls(m, "HotPath", "What surrounds an inference, in one call.", py::is_final());
  cls.def(constructor([](std::shared_ptr<FairLock> inference_lock, py::object signals,
                         py::object monitor, py::type measurement, Tensors inputs, Tensors outputs,
                         py::type prediction, py::type predictions, std::shared_ptr<Flag> trusted,
                         std::int64_t first_id, py::object handle, py::object ended,
                         py::object clock, py::object shape, std::int64_t live_bytes,
                         std::int64_t behind_bytes, double live_seconds, double behind_seconds,
                         bool heals) {
            const HotPath::Pace pace{to_size("live_bytes", live_bytes),
                                     to_size("behind_bytes", behind_bytes), live_seconds,
                                     behind_seconds};
            return std::make_unique<HotCall>(HotCall::Parts{
                std::move(inference_lock), std::move(signals), std::move(monitor),
                std::move(measurement), std::move(inputs), std::move(outputs),
                std::move(prediction), std::move(predictions), std::move(trusted), first_id,
                std::move(handle), std::move(ended), std::move(clock), std::move(shape), pace,
                heals ? HotPath::Sweeping::kHeals : HotPath::Sweeping::kLooks});
          }),
          kw_only(), arg("inference_lock").none(false), arg("signals"), arg("monitor"),
          arg("measurement"), arg("inputs"), arg("outputs"), arg("prediction"), arg("predictions"),
          arg("trusted").none(false), arg("first_id"), arg("handle"), arg("ended"), arg("clock"),
          arg("shape"), arg("live_bytes"), arg("behind_bytes"), arg("live_seconds"),
          arg("behind_seconds"), arg("heals"))
      .def("serve", &HotCall::serve, arg("rows"), kw_only(), arg("form"), arg("real"),
           arg("nonfinite"), arg("records"), "Serve n inferences from arrays of shape (n, *shape).")
      .def("again", &HotCall::again, "Inside handle: serve that inference anew.")
      .def("attach", &HotCall::attach, arg("engine"), arg("embedding") = -1, arg("proven") = false,
           "Run this engine from now on; None: no more.")
      .def("correct", &HotCall::correct, arg("correction").none(true),
           "Correct the only input from now on, where its bytes say so; None: never.")
      .def("watch", &HotCall::watch, arg("conditions").none(true),
           "Have the first input of each inference looked at from now on; None: no more.")
      .def("guard", &HotCall::guard, arg("guards"), arg("maintenance_lock") = nullptr,
           arg("executing") = kNoItems, arg("all_watched") = true,
           "Sweep these images from now on, unless another thread has the lock.")
      .def_property_readonly("findings", &HotCall::findings,
                             "What the last sweep found: (index of the image, Finding).")
      .def_property_readonly("has_reals", &HotCall::has_reals,
                             "Whether the core gives real numbers for all quantised outputs.")
      .def_property_readonly(
          "number", [](const HotCall& self) { return self.path().number(); }, "Inferences served.")
      .def_property(
          "due_number", &due_number,
          [](HotCall& self, std::optional<std::uint64_t> number) {
            self.path().due_number = number.value_or(HotPath::kNever);
          },
          "Handle from this inference on; None: never.")
      .def_property(
          "due_seconds", [](const HotCall& self) { return self.path().due_seconds; },
          [](HotCall& self, std::optional<double> seconds) {
            self.path().due_seconds = seconds.value_or(std::numeric_limits<double>::infinity());
          },
          "Handle from this time on; None: never.")
      .def_property(
          "passages_from", [](const HotCall& self) { return self.path().passages_from; },
          [](HotCall& self, std::optional<std::uint64_t> number) {
            self.path().passages_from = number.value_or(HotPath::kNever);
          },
          "Handle, from this inference on, those whose input has come to another condition; None: "
          "never.")
      .def_property(
          "watched", [](const HotCall& self) { return self.path().is_watched; },
          [](HotCall& self, bool watched) { self.path().is_watched = watched; },
          "Handle every inference.")
      .def_property(
          "awaits_calm", [](const HotCall& self) { return self.path().awaits_calm; },
          [](HotCall& self, bool awaits) { self.path().awaits_calm = awaits; },
          "Handle every inference after which the monitor has settled.")
      .def_property(
          "watched_on_record", [](const HotCall& self) { return self.path().is_watched_on_record; },
          [](HotCall& self, bool watched) { self.path().is_watched_on_record = watched; },
          "Handle every inference whose caller is told more than the answer.")
      .def_property(
          "timed", [](const HotCall& self) { return self.path().is_timed; },
          [](HotCall& self, bool timed) { self.path().is_timed = timed; },
          "Whether the parts of each inference are timed.")
      .def_property_readonly(
          "timing",
          [](const HotCall& self) {
            const HotPath::Timing& timing = self.path().timing();
            return py::make_tuple(timing.model, timing.checking, timing.beside);
          },
          "Seconds of the model, of checking and of signals and monitor, in the last one timed.")
      .def_property(
          "suspecting", [](const HotCall& self) { return self.path().is_suspecting; },
          [](HotCall& self, bool suspecting) { self.path().is_suspecting = suspecting; },
          "Whether the latest input is suspect, or all that come are.")
      .def_property(
          "heals",
          [](const HotCall& self) { return self.path().sweeping == HotPath::Sweeping::kHeals; },
          [](HotCall& self, bool heals) {
            self.path().sweeping = heals ? HotPath::Sweeping::kHeals : HotPath::Sweeping::kLooks;
          },
          "Whether sweeps repair what they find, or only report it.")
      .def_property(
          "verifying",
          [](const HotCall& self) -> const char* {
            const runtime::Verified verifying = self.path().verifying;
            if (verifying == runtime::Verified::kNone) return nullptr;
            return verifying == runtime::Verified::kAround ? "around" : "before";
          },
          [](HotCall& self, std::optional<std::string_view> what) {
            self.require_turn();
            if (what && *what != "before" && *what != "around") {
              refuse("verifying", "None, 'before' or 'around'", *what);
            }
            self.path().verifying = !what               ? runtime::Verified::kNone
                                    : *what == "around" ? runtime::Verified::kAround
                                                        : runtime::Verified::kBefore;
          },
          "What is checked whole at each inference: None, 'before' or 'around'.")
      .def("memory_bytes", &HotCall::memory_bytes,
           "Bytes held: fixed after guard but for answers that are kept to be used again.");

  static PyMethodDef predict_method = {
      "predict", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&predict)),
      METH_FASTCALL,
      "predict($self, x, out=None, /)\n--\n\n"
      "Give the answer to arrays; None where this is not the way for them."};
  static PyMethodDef infer_method = {
      "infer", &infer, METH_O,
      "infer($self, x, /)\n--\n\n"
      "Give the answer and what to make of it; None where this is not the way for it."};
  define_method(cls, predict_method);
  define_method(cls, infer_method);
  define_function(
      m, "quick_predict", &JoinedMethod<ModelPredict>::join, arg("cls"), arg("slow"),
      arg("attribute"),
      "Make a method `predict(x, out=None)` of a class that tries the HotPath which its instances "
      "have as `attribute` before it calls `slow`.");
  define_function(m, "quick_infer", &JoinedMethod<ModelInfer>::join, arg("cls"), arg("slow"),
                  arg("attribute"),
                  "Make a method `infer(x, context=None)` likewise, of a single argument.");
  define_function(m, "coarse_seconds", &selfheal::runtime::coarse_seconds,
                  "Seconds of the monotonic clock that a HotPath reads without one of its own.");

  py::dict bits;
  bits["damage"] = static_cast<std::uint32_t>(runtime::kDamage);
  bits["run_failed"] = static_cast<std::uint32_t>(runtime::kRunFailed);
  bits["alarm"] = static_cast<std::uint32_t>(runtime::kAlarm);
  bits["due"] = static_cast<std::uint32_t>(runtime::kDue);
  bits["monitor_failed"] = static_cast<std::uint32_t>(runtime::kMonitorFailed);
  bits["watched"] = static_cast<std::uint32_t>(runtime::kWatched);
  m.attr("ATTENTION") = bits;
}
