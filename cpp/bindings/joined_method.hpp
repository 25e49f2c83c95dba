#pragma once

// A method of a Python class that tries a compiled object, which instances have as an attribute,
// before it calls a Python function. pybind11's dispatcher and a Python function around it take as
// long as a small model's layer, so these are bound by hand.

#include <Python.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace selfheal::python {

/// What the function returns, as Python's C API has it: null with an error set where it throws.
template <typename Function>
PyObject* guarded(Function&& function) {
  try {
    return function().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

/// Adds a descriptor of a method to a class of ours.
inline void define_method(py::handle cls, PyMethodDef& method) {
  PyObject* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &method);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr(method.ml_name) = py::reinterpret_steal<py::object>(descriptor);
}

/// Way has `name`, `signature` and `second` (a second argument's name; null: it takes one), and
/// PyObject* call(PyObject* self, PyObject* hot, PyObject* const* arguments, Py_ssize_t count),
/// where None says that this is not the way for them. One class of a process has one of each.
template <typename Way>
class JoinedMethod {
 public:
  static py::object join(const py::type& cls, py::object slow, const std::string& attribute) {
    JoinedMethod& way = held();
    way.slow_ = std::move(slow);
    way.hot_name_ = interned(attribute.c_str());
    if (Way::second != nullptr) way.second_name_ = interned(Way::second);
    const py::object doc = way.slow_.attr("__doc__");  // None where Python was told to drop it
    way.doc_ = Way::signature + (doc.is_none() ? std::string() : doc.cast<std::string>());
    way.method_ = {Way::name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&called)),
                   METH_FASTCALL | METH_KEYWORDS, way.doc_.c_str()};
    PyObject* const descriptor =
        PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &way.method_);
    if (descriptor == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(descriptor);
  }

 private:
  static JoinedMethod& held() {
    static auto* const one = new JoinedMethod;  // never destroyed: Python may be gone by then
    return *one;
  }
  static py::object interned(const char* text) {
    return py::reinterpret_steal<py::object>(PyUnicode_InternFromString(text));
  }

  static PyObject* called(PyObject* self, PyObject* const* arguments, Py_ssize_t count,
                          PyObject* names) {
    const JoinedMethod& way = held();
    const bool is_named = Way::second != nullptr && names != nullptr &&
                          PyTuple_GET_SIZE(names) == 1 && count == 1 &&
                          PyTuple_GET_ITEM(names, 0) == way.second_name_.ptr();
    constexpr Py_ssize_t kMost = Way::second != nullptr ? 2 : 1;
    if ((names == nullptr && count >= 1 && count <= kMost) || is_named) {
      const auto hot =
          py::reinterpret_steal<py::object>(PyObject_GetAttr(self, way.hot_name_.ptr()));
      if (!hot) return nullptr;
      if (!hot.is_none()) {
        PyObject* const answer = Way::call(self, hot.ptr(), arguments, is_named ? 2 : count);
        if (answer != Py_None) return answer;
        Py_DECREF(answer);
      }
    }
    const std::size_t named =
        names == nullptr ? 0 : static_cast<std::size_t>(PyTuple_GET_SIZE(names));
    std::vector<PyObject*> all{self};
    all.insert(all.end(), arguments, arguments + static_cast<std::size_t>(count) + named);
    return PyObject_Vectorcall(way.slow_.ptr(), all.data(), static_cast<std::size_t>(count) + 1,
                               names);
  }

  py::object slow_;
  py::object hot_name_;
  py::object second_name_;
  std::string doc_;
  PyMethodDef method_{};
};

}  // namespace selfheal::python
