#include "bindings.hpp"
#include "selfheal/version.hpp"

namespace {

using namespace selfheal::python;

// pybind11 gives memory that is no object yet to an instance without one, made by __new__ alone, as
// soon as a function asks for it: an __init__ of its own would fill it. Ours have none of the kind.
void* refuse_blank(std::size_t /*bytes*/) {
  throw py::type_error("expected an initialised object; was __init__ called?");
}

void refuse_blanks(const py::module_& m) {
  for (const auto& [name, held] : m.attr("__dict__").cast<py::dict>()) {
    if (PyType_Check(held.ptr()) == 0) continue;
    auto* const type = reinterpret_cast<PyTypeObject*>(held.ptr());
    if (auto* const bound = py::detail::get_type_info(type)) bound->operator_new = &refuse_blank;
  }
}

newfunc make_of_a_class = nullptr;

// The class that all bound ones come from has nothing to make: pybind11 ends the process there, and
// pickle's protocols 0 and 1 ask for one.
PyObject* make_unless_base(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  if (py::detail::all_type_info(type).empty()) {
    PyErr_SetString(PyExc_TypeError,
                    "expected a class of the core, got what they all come from; pickle takes them "
                    "from protocol 2 on");
    return nullptr;
  }
  return make_of_a_class(type, args, kwargs);
}

void refuse_the_base() {
  auto* const base = reinterpret_cast<PyTypeObject*>(py::detail::get_internals().instance_base);
  if (base->tp_new == &make_unless_base) return;
  make_of_a_class = base->tp_new;
  base->tp_new = &make_unless_base;
}

}  // namespace

// Objects belong to one thread at a time and the module's only global is atomic, so the
// free-threaded interpreter may go without its lock.
PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "The C++ core of selfheal-edge.";
  m.attr("__version__") = SELFHEAL_VERSION;
  refuse_the_base();
  bind_errors(m);
  bind_ring_buffer(m);
  bind_moments(m);
  bind_run_length(m);
  bind_detectors(m);
  bind_learning_detectors(m);
  bind_reference(m);
  bind_monitor_bank(m);
  bind_side_by_side(m);
  bind_signals(m);
  bind_crc32c(m);
  bind_weight_image(m);
  bind_snapshot_pool(m);
  bind_image_guard(m);
  bind_image_set(m);
  bind_engine(m);
  bind_interpreter_call(m);
  bind_compiled_model(m);
  bind_fair_lock(m);
  bind_label_mix(m);
  bind_inference_monitor(m);
  bind_conditions(m);
  bind_hot_path(m);
  bind_softmax_head(m);
  bind_float_graph(m);
  bind_fixed_share(m);
  bind_committee(m);
  bind_code_pages(m);
  define_function(
      m, "keep_for_ever", [](py::object object) { (void)object.release(); }, arg("object"),
      "Never let go of an object.");
  refuse_blanks(m);
}
