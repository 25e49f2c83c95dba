#pragma once

// NumPy arrays as their memory: a small model takes a few microseconds, and pybind11's comfortable
// way to look at an array takes as long as a layer.

#include "arrays.hpp"

namespace selfheal::python {

using Array = py::detail::PyArray_Proxy;

inline constexpr int kPlain =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

/// The array itself if it is of exactly NumPy's own class, C-contiguous and aligned; else null.
inline const Array* plain_array(py::handle object) {
  if (Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_) return nullptr;
  const Array* const array = py::detail::array_proxy(object.ptr());
  return (array->flags & kPlain) == kPlain ? array : nullptr;
}

/// A new array in C order, its elements not set. The data type is borrowed.
inline py::object new_array(PyObject* dtype, std::size_t rank, const py::ssize_t* shape) {
  const auto& numpy = py::detail::npy_api::get();
  Py_INCREF(dtype);
  PyObject* const made = numpy.PyArray_NewFromDescr_(
      numpy.PyArray_Type_, dtype, static_cast<int>(rank), shape, nullptr, nullptr, 0, nullptr);
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace selfheal::python
