#pragma once

#include "arrays.hpp"
#include "number.hpp"

namespace selfheal::python {

// pybind11's dispatcher costs ten times what a detector's update does: it builds argument lists and
// walks overloads. `update` takes one number and returns a bool, so it is bound by hand as a METH_O
// method. The descriptor has checked by then that `self` is an instance of the class.
template <typename Chart>
Chart* instance_of(PyObject* self) {
  auto* const instance = reinterpret_cast<py::detail::instance*>(self);
  if (instance->simple_layout) return static_cast<Chart*>(instance->simple_value_holder[0]);
  return py::handle(self).cast<Chart*>();  // a Python class with several C++ bases
}

/// Likewise of any object; py::type_error unless it is an initialised instance of the class.
template <typename T>
T& checked_instance_of(PyObject* object) {
  static auto* const type = reinterpret_cast<PyTypeObject*>(py::type::of<T>().release().ptr());
  T* const held = PyObject_TypeCheck(object, type) != 0 ? instance_of<T>(object) : nullptr;
  if (held == nullptr) {
    throw py::type_error(std::string("expected an initialised ") + type->tp_name + ", got " +
                         (PyObject_TypeCheck(object, type) != 0
                              ? "one whose __init__ was not called"
                              : type_name(object)));
  }
  return *held;
}

template <typename Chart>
PyObject* fast_update(PyObject* self, PyObject* argument) {
  double x = 0.0;
  if (!read_number(argument, x)) return nullptr;
  Chart* chart = nullptr;
  try {
    chart = instance_of<Chart>(self);
  } catch (const std::exception&) {
    chart = nullptr;
  }
  if (chart == nullptr) {
    PyErr_SetString(PyExc_TypeError,
                    "update: expected an initialised object; was __init__ called?");
    return nullptr;
  }
  return PyBool_FromLong(chart->update(x) ? 1 : 0);
}

template <typename Chart, typename Class>
void define_fast_update(Class& cls) {
  static PyMethodDef method = {
      "update", &fast_update<Chart>, METH_O,
      "update($self, x, /)\n--\n\nTake one sample; say whether it raises the alarm."};
  PyObject* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &method);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr("update") = py::reinterpret_steal<py::object>(descriptor);
}

}  // namespace selfheal::python
