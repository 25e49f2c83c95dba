#include <limits>

#include "bindings.hpp"
#include "fast_update.hpp"
#include "hot_call.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;
using selfheal::runtime::HotPath;
using selfheal::runtime::TurnLock;

// pybind11's dispatcher takes as long as a small model's layer, so this is bound by hand.
PyObject* predict(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count < 1 || count > 2) {
    PyErr_SetString(PyExc_TypeError, "predict: expected one or two arguments");
    return nullptr;
  }
  try {
    return checked_instance_of<HotCall>(self)
        .predict(arguments[0], count == 2 ? arguments[1] : Py_None)
        .release()
        .ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::type_error& error) {
    error.set_error();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// What quick_method joins; one class has one.
struct Joined {
  py::object slow;
  py::object hot_name;
  py::object out_name;
  std::string doc;
  PyMethodDef method{};
};

Joined& joined() {
  static auto* const held = new Joined;  // never destroyed: Python may be gone by then
  return *held;
}

// A model's `predict`: the hot path, and the Python function for all that it is not made for.
PyObject* predict_of_model(PyObject* self, PyObject* const* arguments, Py_ssize_t count,
                           PyObject* names) {
  const Joined& way = joined();
  const bool is_named = names != nullptr && PyTuple_GET_SIZE(names) == 1 && count == 1 &&
                        PyTuple_GET_ITEM(names, 0) == way.out_name.ptr();
  if ((names == nullptr && (count == 1 || count == 2)) || is_named) {
    PyObject* const hot = PyObject_GetAttr(self, way.hot_name.ptr());
    if (hot == nullptr) return nullptr;
    const py::object held = py::reinterpret_steal<py::object>(hot);
    if (hot != Py_None) {
      PyObject* const answer = predict(hot, arguments, is_named ? 2 : count);
      if (answer != Py_None) return answer;
      Py_DECREF(answer);
    }
  }
  const std::size_t named =
      names == nullptr ? 0 : static_cast<std::size_t>(PyTuple_GET_SIZE(names));
  std::vector<PyObject*> all{self};
  all.insert(all.end(), arguments, arguments + static_cast<std::size_t>(count) + named);
  return PyObject_Vectorcall(way.slow.ptr(), all.data(), static_cast<std::size_t>(count) + 1,
                             names);
}

py::object quick_method(const py::type& cls, py::object slow, const std::string& attribute) {
  Joined& way = joined();
  way.slow = std::move(slow);
  way.hot_name = py::reinterpret_steal<py::object>(PyUnicode_InternFromString(attribute.c_str()));
  way.out_name = py::reinterpret_steal<py::object>(PyUnicode_InternFromString("out"));
  const py::object text = way.slow.attr("__doc__");  // none under python -OO
  way.doc = "predict($self, x, out=None)\n--\n\n";
  if (!text.is_none()) way.doc += text.cast<std::string>();
  way.method = {"predict",
                reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&predict_of_model)),
                METH_FASTCALL | METH_KEYWORDS, way.doc.c_str()};
  PyObject* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &way.method);
  if (descriptor == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(descriptor);
}

std::uint64_t due_number(const HotCall& self) { return self.path().due_number; }

}  // namespace

void bind_hot_path(py::module_& m) {
  py::class_<HotCall> cls(m, "HotPath", "What surrounds an inference, in one call.");
  cls.def(py::init([](std::shared_ptr<TurnLock> turn, py::object signals, py::object monitor,
                      const std::vector<HotCall::Tensor>& inputs,
                      const std::vector<HotCall::Tensor>& outputs, py::object attend,
                      py::object ended, py::object clock, std::int64_t fast_bytes,
                      std::int64_t keyed_bytes, double fast_seconds, double keyed_seconds) {
            const HotPath::Pace pace{to_size("fast_bytes", fast_bytes),
                                     to_size("keyed_bytes", keyed_bytes), fast_seconds,
                                     keyed_seconds};
            return std::make_unique<HotCall>(std::move(turn), std::move(signals),
                                             std::move(monitor), inputs, outputs, std::move(attend),
                                             std::move(ended), std::move(clock), pace);
          }),
          py::kw_only(), py::arg("turn"), py::arg("signals"), py::arg("monitor"), py::arg("inputs"),
          py::arg("outputs"), py::arg("attend"), py::arg("ended"), py::arg("clock"),
          py::arg("fast_bytes"), py::arg("keyed_bytes"), py::arg("fast_seconds"),
          py::arg("keyed_seconds"))
      .def("serve", &HotCall::serve, py::arg("rows"), py::arg("results"),
           py::arg("nonfinite") = py::none(),
           "Serve n inferences from arrays of shape (n, *shape) into such arrays.")
      .def("again", &HotCall::again, "Inside attend: serve that inference anew.")
      .def("attach", &HotCall::attach, py::arg("engine"), py::arg("embedding") = -1,
           "Run this engine from now on; None: no more.")
      .def("guard", &HotCall::guard, py::arg("guards"), py::arg("care") = nullptr,
           "Sweep these images from now on, unless somebody has the lock.")
      .def_property_readonly("findings", &HotCall::findings,
                             "What the last sweep found: (index of the image, Finding).")
      .def(
          "count_one", [](HotCall& self) { self.path().count_one(); },
          "Count an inference that was served elsewhere.")
      .def_property_readonly(
          "number", [](const HotCall& self) { return self.path().number(); }, "Inferences served.")
      .def_property(
          "due_number", &due_number,
          [](HotCall& self, std::optional<std::uint64_t> number) {
            self.path().due_number = number.value_or(HotPath::kNever);
          },
          "Attend from this inference on; None: never.")
      .def_property(
          "due_seconds", [](const HotCall& self) { return self.path().due_seconds; },
          [](HotCall& self, std::optional<double> seconds) {
            self.path().due_seconds = seconds.value_or(std::numeric_limits<double>::infinity());
          },
          "Attend from this time on; None: never.")
      .def_property(
          "watched", [](const HotCall& self) { return self.path().is_watched; },
          [](HotCall& self, bool watched) { self.path().is_watched = watched; },
          "Attend to every inference.")
      .def_property_readonly(
          "row",
          [](const HotCall& self) {
            const auto row = self.path().row();
            return to_array(std::vector<double>(row.begin(), row.end()));
          },
          "Signals of the last inference.")
      .def_property_readonly(
          "label",
          [](const HotCall& self) -> std::optional<std::int64_t> {
            const std::int64_t label = self.path().result().label;
            return label < 0 ? std::nullopt : std::optional(label);
          },
          "Most likely class of the last answer, or None.")
      .def_property_readonly(
          "confidence", [](const HotCall& self) { return self.path().result().confidence; },
          "Its probability.")
      .def_property_readonly(
          "nonfinite", [](const HotCall& self) { return self.path().result().nonfinite; },
          "Input values that were NaN or infinite.")
      .def_property_readonly(
          "left_out", [](const HotCall& self) { return self.path().was_left_out(); },
          "Whether the sweep that was due before the last inference was left out.")
      .def_property_readonly(
          "nonfinite_outputs",
          [](const HotCall& self) { return self.path().result().nonfinite_outputs; },
          "Outputs that hold NaN or infinity.")
      .def(
          "memory_bytes", [](const HotCall& self) { return self.path().memory_bytes(); },
          "Bytes held, fixed after guard.");

  static PyMethodDef method = {
      "predict", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&predict)),
      METH_FASTCALL,
      "predict($self, x, out=None, /)\n--\n\n"
      "Give the answer to one array; None where this is not the way for it."};
  PyObject* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &method);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr("predict") = py::reinterpret_steal<py::object>(descriptor);
  m.def(
      "quick_method", &quick_method, py::arg("cls"), py::arg("slow"), py::arg("attribute"),
      "Make a method `predict(x, out=None)` of a class that tries the HotPath which its instances "
      "have as `attribute` before it calls `slow`.");
  m.def("coarse_seconds", &selfheal::runtime::coarse_seconds,
        "Seconds of the monotonic clock that a HotPath reads without one of its own.");

  py::dict bits;
  bits["damage"] = static_cast<std::uint32_t>(runtime::kDamage);
  bits["run_failed"] = static_cast<std::uint32_t>(runtime::kRunFailed);
  bits["alarm"] = static_cast<std::uint32_t>(runtime::kAlarm);
  bits["due"] = static_cast<std::uint32_t>(runtime::kDue);
  bits["watched"] = static_cast<std::uint32_t>(runtime::kWatched);
  m.attr("ATTENTION") = bits;
}
