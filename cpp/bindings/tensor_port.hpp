#pragma once

// A tensor in a runtime's memory, and the copies between it and NumPy arrays.

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace selfheal::python {

/// Small models take a few microseconds, so this avoids pybind11's comfortable way to make arrays,
/// which takes as long as a layer. The memory is the runtime's and must outlive the port.
struct TensorPort {
  py::dtype dtype;
  std::vector<py::ssize_t> shape;
  std::size_t nbytes = 0;

  TensorPort(py::dtype type, std::vector<py::ssize_t> dimensions)
      : dtype(std::move(type)), shape(std::move(dimensions)) {
    nbytes = static_cast<std::size_t>(dtype.itemsize());
    for (const py::ssize_t n : shape) nbytes *= static_cast<std::size_t>(n);
  }

  /// Copies an array of exactly this dtype and shape to `data`.
  void copy_in(void* data, py::handle object) const {
    const py::array array = require_array(object, "inputs", "arrays");
    const bool has_shape = static_cast<std::size_t>(array.ndim()) == shape.size() &&
                           std::equal(shape.begin(), shape.end(), array.shape());
    if (!has_shape || (!array.dtype().is(dtype) && !array.dtype().equal(dtype))) {
      const py::tuple dimensions = py::cast(shape);
      refuse("inputs",
             std::string(py::str(dtype)) + " of shape " + std::string(py::str(dimensions)),
             std::string_view(describe(array)));
    }
    require_contiguous(array, "inputs");
    std::memcpy(data, array.data(), nbytes);
  }

  /// Returns a new array with a copy of `data`.
  py::array copy_out(const void* data) const {
    const auto& numpy = py::detail::npy_api::get();
    PyObject* const made = numpy.PyArray_NewFromDescr_(
        numpy.PyArray_Type_, py::dtype(dtype).release().ptr(), static_cast<int>(shape.size()),
        shape.data(), nullptr, nullptr, 0, nullptr);
    if (made == nullptr) throw py::error_already_set();
    auto result = py::reinterpret_steal<py::array>(made);
    std::memcpy(result.mutable_data(), data, nbytes);
    return result;
  }
};

}  // namespace selfheal::python
