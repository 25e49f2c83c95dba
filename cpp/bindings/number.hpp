#pragma once

// A sample that comes as a Python object.

#include <string>
#include <string_view>

#include "arrays.hpp"

namespace selfheal::python {

/// Whether an object that has a float is no number all the same: NumPy's complex numbers lose a
/// part, and its dates, texts and records become one of their fields.
inline bool is_disguised(PyObject* object) {
  if (PyLong_Check(object)) return false;
  const py::handle given(object);
  if (PyUnicode_Check(object) || PyBytes_Check(object)) return true;
  // Scalars and arrays of NumPy say what they are; other classes with a float are numbers.
  if (!py::hasattr(given, "dtype")) return false;
  const py::object kind = py::getattr(given.attr("dtype"), "kind", py::none());
  if (!py::isinstance<py::str>(kind)) return false;
  return std::string_view("biuf").find(kind.cast<std::string>()) == std::string_view::npos;
}

/// A sample; false, with Python's TypeError set, where the object is no real number.
inline bool read_number(PyObject* object, double& x) {
  if (PyFloat_Check(object)) {  // NumPy's float64 as well
    x = PyFloat_AS_DOUBLE(object);
    return true;
  }
  bool is_number = false;
  try {
    is_number = !is_disguised(object);
  } catch (const py::error_already_set&) {
    is_number = false;
  }
  if (is_number) {
    x = PyFloat_AsDouble(object);
    if (x != -1.0 || PyErr_Occurred() == nullptr) return true;
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) return false;
    PyErr_Clear();
  }
  PyErr_Format(PyExc_TypeError, "x: expected a real number, got %.100s", Py_TYPE(object)->tp_name);
  return false;
}

/// As read_number, with Python's error thrown.
inline double to_number(py::handle object) {
  double x = 0.0;
  if (!read_number(object.ptr(), x)) throw py::error_already_set();
  return x;
}

}  // namespace selfheal::python
