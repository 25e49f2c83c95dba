#pragma once

// pybind11's classes, with functions and properties of our own: see function.hpp. A property is a
// plain getset descriptor with one line of code of its own, where pybind11 makes a function with
// overloads of each.

#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "function.hpp"

namespace selfheal::python {

/// What a getset descriptor reads and writes.
struct Property {
  static constexpr std::size_t kCodeBytes = 2 * sizeof(void*);
  /// A function, or a pointer to a member.
  struct Code {
    alignas(void*) std::byte bytes[kCodeBytes]{};
  };

  PyObject* (*read)(const Property& property, void* held, PyObject* self);
  bool (*write)(const Property& property, void* held, PyObject* value);  // null: read-only
  const std::type_info* type;                                            // of what `held` points to
  Code get{};
  Code set{};
  const char* name = nullptr;
  const char* takes = nullptr;  // what can be written, in words
};

/// Adds it to the Python class, for as long as the process lives.
void define_property(py::handle cls, const char* name, const char* doc, const Property& property);

namespace detail {

template <typename F>
void put(Property::Code& code, F f) {
  static_assert(sizeof(F) <= Property::kCodeBytes && std::is_trivially_copyable_v<F>);
  new (code.bytes) F(f);
}
template <typename F>
const F& taken(const Property::Code& code) {
  return *std::launder(reinterpret_cast<const F*>(code.bytes));
}

template <typename T, typename F>
PyObject* read_property(const Property& property, void* held, PyObject* self) {
  const F& f = taken<F>(property.get);
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

template <typename T, typename V>
bool write_property(const Property& property, void* held, PyObject* value) {
  py::detail::make_caster<V> caster;
  if (!caster.load(value, true)) return false;
  taken<void (*)(T&, V)>(property.set)(*static_cast<T*>(held),
                                       py::detail::cast_op<V>(std::move(caster)));
  return true;
}

template <typename T, typename V>
void put_setter(Property& property, void (*set)(T&, V)) {
  put(property.set, set);
  property.write = &write_property<T, V>;
  property.takes = words<V>();
}

}  // namespace detail

namespace detail {

template <typename F>
struct Init {
  F make;
};
template <typename... A>
struct InitFrom {};
template <typename Get, typename Set>
struct Pickle {
  Get get;
  Set set;
};

}  // namespace detail

/// __init__: make returns the object, or a pointer that owns it.
template <typename F>
constexpr auto constructor(F make) {
  return detail::Init<decltype(detail::plain_function(make))>{detail::plain_function(make)};
}
/// __init__ that hands its arguments to the constructor.
template <typename... A>
constexpr detail::InitFrom<A...> constructor() {
  return {};
}
/// Copying and pickling: get gives the state as bytes, set makes an object of these.
template <typename Get, typename Set>
constexpr auto pickled_by(Get get, Set set) {
  auto read = detail::plain_function(get);
  auto make = detail::plain_function(set);
  return detail::Pickle<decltype(read), decltype(make)>{read, make};
}

template <typename T, typename... Options>
class Class : public py::class_<T, Options...> {
 public:
  using Base = py::class_<T, Options...>;

  template <typename... Extra>
  Class(py::handle scope, const char* name, const char* doc, const Extra&... extra)
      : Base(scope, name, doc, extra...) {}

  template <typename F, typename... Extra>
  [[gnu::always_inline]] Class& def(const char* name, F f, Extra... extra) {
    return add(name, detail::compiled_method<T>(detail::plain_function(f)), Binding::kMethod,
               extra...);
  }
  /// Of what has the class as its first argument.
  template <typename F, typename... Extra>
  [[gnu::always_inline]] Class& def_classmethod(const char* name, F f, Extra... extra) {
    return add(name, detail::compiled(detail::plain_function(f)), Binding::kClass, extra...);
  }
  template <typename F, typename... Extra>
  [[gnu::always_inline]] Class& def_static(const char* name, F f, Extra... extra) {
    return add(name, detail::compiled(detail::plain_function(f)), Binding::kStatic, extra...);
  }
  template <typename F, typename... Extra>
  [[gnu::always_inline]] Class& def(detail::Init<F> made, Extra... extra) {
    return add("__init__", detail::compiled_init<T>(made.make), Binding::kInit, extra...);
  }
  template <typename... A, typename... Extra>
  [[gnu::always_inline]] Class& def(detail::InitFrom<A...>, Extra... extra) {
    return def(constructor([](A... given) { return T(std::forward<A>(given)...); }), extra...);
  }
  template <typename Get, typename Set>
  [[gnu::always_inline]] Class& def(detail::Pickle<Get, Set> by) {
    add("__getstate__", detail::compiled_method<T>(by.get), Binding::kMethod);
    return add("__setstate__", detail::compiled_init<T>(by.set), Binding::kInit);
  }
  /// get: called with the object; a lambda without captures, a function, or a member of it. set: a
  /// lambda that takes the object and a value.
  template <typename Get, typename Set>
  Class& def_property(const char* name, Get get, Set set, const char* doc) {
    Property property = readable(detail::plain_function(get));
    detail::put_setter(property, detail::plain_function(set));
    define_property(*this, name, doc, property);
    return *this;
  }
  template <typename Get>
  Class& def_property_readonly(const char* name, Get get, const char* doc) {
    define_property(*this, name, doc, readable(detail::plain_function(get)));
    return *this;
  }

 private:
  template <typename... Extra>
  [[gnu::always_inline]] Class& add(const char* name, const Compiled& compiled, Binding binding,
                                    Extra... extra) {
    const Said said[] = {detail::say(extra)..., Said{}};
    define(*this, name, compiled, binding, {said, sizeof...(Extra)});
    return *this;
  }
  template <typename F>
  static Property readable(F get) {
    Property property{&detail::read_property<T, F>, nullptr, &typeid(T)};
    detail::put(property.get, get);
    return property;
  }
};

}  // namespace selfheal::python
