#pragma once

// pybind11's set-up, and how arguments become spans: checked here, never converted.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gil.hpp"
#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/state_codec.hpp"

namespace py = pybind11;

namespace selfheal::python {

[[noreturn]] inline void refuse_type(const std::string& name, const std::string& expected,
                                     const std::string& got) {
  throw py::type_error(name + ": expected " + expected + ", got " + got);
}

inline std::string type_name(py::handle object) {
  return py::str(py::type::handle_of(object).attr("__qualname__"));
}

inline std::string describe(const py::array& array) {
  return std::string(py::str(array.dtype())) + " of shape " +
         std::string(py::str(array.attr("shape")));
}

/// An integer argument that must not be below `minimum`, and fits in 32 bits where sizes have
/// these.
inline std::size_t to_size(const char* name, std::int64_t value, std::int64_t minimum = 0) {
  if (value < minimum) {
    refuse(name, "an integer >= " + std::to_string(minimum),
           std::string_view(std::to_string(value)));
  }
  if (std::cmp_greater(value, std::numeric_limits<std::size_t>::max())) {
    refuse(name,
           "an integer that fits in this machine's " + std::to_string(8 * sizeof(std::size_t)) +
               "-bit sizes",
           std::string_view(std::to_string(value)));
  }
  return static_cast<std::size_t>(value);
}

inline py::array require_array(py::handle object, const char* name, const char* expected) {
  if (!py::isinstance<py::array>(object)) refuse_type(name, expected, type_name(object));
  return py::reinterpret_borrow<py::array>(object);
}

template <typename T>
bool has_dtype(const py::array& array) {
  return py::isinstance<py::array_t<T>>(array);
}

/// Refuses arrays whose memory is not one aligned run in C order.
inline void require_contiguous(const py::array& array, const char* name) {
  constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & py::array::c_style) == 0 || (array.flags() & kAligned) == 0) {
    refuse(name, "a C-contiguous, aligned array",
           "one with strides " + std::string(py::str(array.attr("strides"))));
  }
}

template <typename T>
std::span<const T> as_span(const py::array& array) {
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

/// Calls f with the span of a one-dimensional float32 or float64 array.
template <typename Function>
auto with_floats(py::handle object, const char* name, Function&& f) {
  constexpr const char* kExpected = "a 1-D float32 or float64 array";
  const py::array array = require_array(object, name, kExpected);
  const bool is_float = has_dtype<float>(array);
  if (!is_float && !has_dtype<double>(array)) refuse_type(name, kExpected, describe(array));
  if (array.ndim() != 1) refuse(name, kExpected, std::string_view(describe(array)));
  require_contiguous(array, name);
  return is_float ? f(as_span<float>(array)) : f(as_span<double>(array));
}

/// A vector as an array, without a copy of its elements.
template <typename T>
py::array_t<T> to_array(std::vector<T>&& values) {
  auto* const owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(static_cast<py::ssize_t>(owned->size()), owned->data(), owner);
}

/// A contiguous buffer of any object that has one, held until destruction.
class HeldBuffer {
 public:
  HeldBuffer(py::handle object, const char* name, bool is_writable) {
    const int flags = PyBUF_SIMPLE | (is_writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
      PyErr_Clear();
      refuse_type(name, is_writable ? "a writable, C-contiguous buffer" : "a C-contiguous buffer",
                  type_name(object));
    }
  }
  HeldBuffer(const HeldBuffer&) = delete;
  HeldBuffer& operator=(const HeldBuffer&) = delete;
  ~HeldBuffer() { PyBuffer_Release(&view_); }

  std::span<std::byte> bytes() const {
    return {static_cast<std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_{};
};

inline std::span<const std::byte> as_bytes(const py::bytes& bytes) {
  const std::string_view view = bytes;
  return std::as_bytes(std::span(view.data(), view.size()));
}

inline py::bytes to_bytes(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace selfheal::python
