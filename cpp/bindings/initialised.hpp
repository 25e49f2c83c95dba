#pragma once

#include "arrays.hpp"

namespace selfheal::python {

/// The C++ object of `object`; TypeError unless that is an instance of T whose __init__ was called.
/// A cast of pybind11's alone gives memory that holds nothing for one that came from __new__.
template <typename T>
T& initialised(const char* name, py::handle object) {
  const std::string expected =
      py::type::of<T>().attr("__qualname__").template cast<std::string>() + ", initialised";
  if (!py::isinstance<T>(object)) refuse_type(name, expected, type_name(object));
  auto* const instance = reinterpret_cast<py::detail::instance*>(object.ptr());
  if (instance->get_value_and_holder().value_ptr() == nullptr) {
    refuse_type(name, expected, "one whose __init__ was not called");
  }
  return object.cast<T&>();
}

}  // namespace selfheal::python
