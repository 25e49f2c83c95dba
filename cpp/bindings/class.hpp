#pragma once

// pybind11's classes, at half the price. What `def` is given is a template argument of pybind11's:
// a docstring by its length, a lambda by itself. Docstrings become pointers here, and lambdas
// functions, so that what looks alike is compiled once. A property is a plain getset descriptor
// with one line of code of its own, where pybind11 makes a function with overloads of each.

#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "arrays.hpp"

namespace selfheal::python {

/// What a getset descriptor reads.
struct Property {
  PyObject* (*read)(const Property& property, void* held, PyObject* self);
  const std::type_info* type;  // of what `held` points to
  static constexpr std::size_t kCodeBytes = 2 * sizeof(void*);
  alignas(void*) std::byte code[kCodeBytes]{};  // the function, or the pointer to a member
};

/// Adds it to the Python class, for as long as the process lives.
void define_property(py::handle cls, const char* name, const char* doc, const Property& property);

namespace detail {

template <typename T>
const T& plain(const T& extra) {
  return extra;
}
inline const char* plain(const char* text) { return text; }

template <typename F>
decltype(auto) plain_function(F&& f) {
  if constexpr (requires { +f; } && std::is_class_v<std::remove_cvref_t<F>>) {
    return +f;
  } else {
    return std::forward<F>(f);
  }
}

template <typename T, typename F>
PyObject* read_property(const Property& property, void* held, PyObject* self) {
  const F& f = *std::launder(reinterpret_cast<const F*>(property.code));
  const auto result = [&]() -> decltype(auto) {
    if constexpr (std::is_invocable_v<const F&, T&>) {
      return std::invoke(f, *static_cast<T*>(held));
    } else {  // of the object that Python has
      return std::invoke(f, py::reinterpret_borrow<py::object>(self));
    }
  };
  using Result = decltype(result());
  using Caster = py::detail::make_caster<Result>;
  constexpr auto kPolicy = std::is_reference_v<Result> || std::is_pointer_v<Result>
                               ? py::return_value_policy::reference_internal
                               : py::return_value_policy::move;
  return Caster::cast(result(), kPolicy, self).ptr();
}

}  // namespace detail

template <typename T, typename... Options>
class Class : public py::class_<T, Options...> {
 public:
  using Base = py::class_<T, Options...>;

  template <typename... Extra>
  Class(py::handle scope, const char* name, const Extra&... extra)
      : Base(scope, name, detail::plain(extra)...) {}

  template <typename F, typename... Extra>
  Class& def(const char* name, F&& f, const Extra&... extra) {
    Base::def(name, detail::plain_function(std::forward<F>(f)), detail::plain(extra)...);
    return *this;
  }
  /// py::init and py::pickle.
  template <typename Init, typename... Extra>
  requires(!std::is_convertible_v<Init, const char*>) Class& def(Init&& init,
                                                                 const Extra&... extra) {
    Base::def(std::forward<Init>(init), detail::plain(extra)...);
    return *this;
  }
  template <typename F, typename... Extra>
  Class& def_static(const char* name, F&& f, const Extra&... extra) {
    Base::def_static(name, detail::plain_function(std::forward<F>(f)), detail::plain(extra)...);
    return *this;
  }
  template <typename Get, typename Set>
  Class& def_property(const char* name, Get&& get, Set&& set, const char* doc) {
    Base::def_property(name, detail::plain_function(std::forward<Get>(get)),
                       detail::plain_function(std::forward<Set>(set)), doc);
    return *this;
  }
  /// get: called with the object; a lambda without captures, a function, or a member of it.
  template <typename Get>
  Class& def_property_readonly(const char* name, Get&& get, const char* doc) {
    auto f = detail::plain_function(std::forward<Get>(get));
    using F = decltype(f);
    static_assert(sizeof(F) <= Property::kCodeBytes && std::is_trivially_copyable_v<F>);
    Property property{&detail::read_property<T, F>, &typeid(T)};
    new (property.code) F(f);
    define_property(*this, name, doc, property);
    return *this;
  }
};

}  // namespace selfheal::python
