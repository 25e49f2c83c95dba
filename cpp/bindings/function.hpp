#pragma once

// Python functions over C++ ones. pybind11 makes a dispatcher, a loader and a `def` for each that
// is bound, a quarter of a kilobyte's worth of each. Here one dispatcher takes the arguments of all
// of them; what is compiled for one is the conversion of its arguments, once a signature. Unlike
// pybind11's, they have one overload, tell inspect.signature what they take, and name the argument
// that they refuse. Arguments and results are converted by pybind11, as ever.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace selfheal::python {

/// One thing that is said of a function: an argument, what it is where it is left out, that those
/// after it are given by name, or its docstring.
struct Said {
  enum class Kind : std::uint8_t {
    kRequired,
    kNone,
    kBool,
    kInteger,
    kReal,
    kText,
    kNoItems,
    kByName,
    kDoc
  };

  const char* text = nullptr;  // an argument's name, or the docstring
  union {
    std::int64_t integer = 0;
    double real;
    const char* chars;
  };
  Kind kind = Kind::kRequired;
  bool takes_none = true;
};

/// What a sequence is where none is given.
struct NoItems {};
inline constexpr NoItems kNoItems;

/// An argument: `arg("k") = 0.5` may be left out.
class arg {  // NOLINT(readability-identifier-naming): as pybind11 has it
 public:
  explicit constexpr arg(const char* name) { said_.text = name; }
  /// Whether None gets to the conversion, which takes it for a null pointer or an empty optional.
  constexpr arg none(bool takes_none) const {
    arg result = *this;
    result.said_.takes_none = takes_none;
    return result;
  }
  constexpr Said operator=(std::nullptr_t) const { return with(Said::Kind::kNone); }  // NOLINT
  constexpr Said operator=(NoItems) const { return with(Said::Kind::kNoItems); }      // NOLINT
  constexpr Said operator=(const char* text) const {                                  // NOLINT
    Said said = with(Said::Kind::kText);
    said.chars = text;
    return said;
  }
  template <typename Number>
  requires std::is_arithmetic_v<Number>
  constexpr Said operator=(Number value) const {  // NOLINT
    if constexpr (std::is_floating_point_v<Number>) {
      Said said = with(Said::Kind::kReal);
      said.real = value;
      return said;
    } else {
      Said said = with(std::is_same_v<Number, bool> ? Said::Kind::kBool : Said::Kind::kInteger);
      said.integer = static_cast<std::int64_t>(value);
      return said;
    }
  }
  constexpr operator Said() const { return said_; }  // NOLINT(google-explicit-constructor)

 private:
  constexpr Said with(Said::Kind kind) const {
    Said said = said_;
    said.kind = kind;
    return said;
  }

  Said said_;
};

/// Arguments after it are given by name only.
constexpr Said kw_only() {
  Said said;
  said.kind = Said::Kind::kByName;
  return said;
}

namespace detail {

constexpr Said say(Said said) { return said; }
constexpr Said say(const char* doc) {
  Said said;
  said.text = doc;
  said.kind = Said::Kind::kDoc;
  return said;
}

}  // namespace detail

struct Function;

/// The compiled half of a function.
struct Compiled {
  static constexpr std::size_t kCodeBytes = 2 * sizeof(void*);
  using Invoke = PyObject* (*)(const Function& function, PyObject* const* values);

  Invoke invoke = nullptr;
  alignas(void*) std::byte code[kCodeBytes]{};  // a pointer to a function or a member, or a lambda
  std::uint8_t arity = 0;
  bool takes_rest = false;  // its last argument is a tuple of all others that are given
};

/// Sets the TypeError of an argument that could not be converted; returns null. expected: in words,
/// or null for the class of `type`.
struct Expected {
  const char* words;
  const std::type_info* type;
};
PyObject* refuse_value(const Function& function, std::size_t index, PyObject* value,
                       const Expected& expected);

/// Inside a catch of anything: sets Python's error for it.
void tell_python();

/// The object that an __init__ fills, as pybind11's instances hold it.
py::detail::value_and_holder& blank(PyObject* const* values);

namespace detail {

/// A lambda without captures as a function.
template <typename F>
constexpr auto plain_function(F f) {
  if constexpr (requires { +f; } && std::is_class_v<F>) {
    return +f;
  } else {
    return f;
  }
}

template <typename... A>
struct List {};

template <typename F>
struct Signature : Signature<decltype(&F::operator())> {};
template <typename R, typename... A>
struct Signature<R (*)(A...)> {
  using Result = R;
  using Arguments = List<A...>;
};
template <typename R, typename... A>
struct Signature<R (*)(A...) noexcept> : Signature<R (*)(A...)> {};
template <typename R, typename C, typename... A>
struct Signature<R (C::*)(A...)> : Signature<R (*)(A...)> {};
template <typename R, typename C, typename... A>
struct Signature<R (C::*)(A...) const> : Signature<R (*)(A...)> {};
template <typename R, typename C, typename... A>
struct Signature<R (C::*)(A...) noexcept> : Signature<R (*)(A...)> {};
template <typename R, typename C, typename... A>
struct Signature<R (C::*)(A...) const noexcept> : Signature<R (*)(A...)> {};

template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;

template <typename A>
constexpr const char* words() {
  using T = std::remove_cvref_t<std::remove_pointer_t<std::remove_cvref_t<A>>>;
  if constexpr (kIsOptional<T>) {
    return words<typename T::value_type>();
  } else if constexpr (std::is_same_v<T, bool>) {
    return "a bool";
  } else if constexpr (std::is_integral_v<T>) {
    return "an integer";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view> ||
                       std::is_same_v<T, char>) {
    return "a string";
  } else if constexpr (std::is_same_v<T, py::bytes>) {
    return "bytes";
  } else if constexpr (std::is_base_of_v<py::array, T>) {
    return "an array";
  } else if constexpr (std::is_same_v<T, py::type>) {
    return "a class";
  } else if constexpr (std::is_same_v<T, py::sequence> || kIsVector<T>) {
    return "a sequence of what the signature says";
  } else if constexpr (std::is_base_of_v<py::handle, T>) {
    return "an object of another class";
  } else {
    return nullptr;
  }
}

template <typename A>
constexpr Expected expected() {
  using T = py::detail::intrinsic_t<A>;
  if constexpr (requires { typename T::element_type; }) {
    return {nullptr, &typeid(typename T::element_type)};
  } else if constexpr (words<A>() == nullptr) {
    return {nullptr, &typeid(T)};
  } else {
    return {words<A>(), nullptr};
  }
}

template <typename F>
const F& code_of(const Compiled& compiled) {
  return *std::launder(reinterpret_cast<const F*>(compiled.code));
}

/// Converts the values and calls `use` with them; null, with Python's error set, where that fails.
template <typename... A, typename Use>
PyObject* with_converted(const Function& function, PyObject* const* values, List<A...>, Use use) {
  return [&]<std::size_t... i>(std::index_sequence<i...>)->PyObject* {
    std::tuple<py::detail::make_caster<A>...> casters;
    std::size_t index = 0;
    if (!((std::get<i>(casters).load(values[index], true) && (++index, true)) && ...)) {
      static constexpr Expected kExpected[] = {expected<A>()..., Expected{}};
      return refuse_value(function, index, values[index], kExpected[index]);
    }
    return use(py::detail::cast_op<A>(std::move(std::get<i>(casters)))...);
  }
  (std::index_sequence_for<A...>{});
}

/// What an __init__ makes: a value, or a pointer that owns one.
template <typename T, typename Made>
void fill(py::detail::value_and_holder& blank, Made&& make) {
  using R = decltype(make());
  if constexpr (std::is_same_v<R, T>) {
    blank.value_ptr() = new T(make());
  } else if constexpr (std::is_same_v<R, std::unique_ptr<T>>) {
    blank.value_ptr() = make().release();
  } else {  // a holder, which the object keeps
    R holder = make();
    blank.value_ptr() = holder.get();
    blank.type->init_instance(blank.inst, &holder);
  }
}

template <typename F, typename List>
struct Code;
template <typename F, typename... A>
struct Code<F, List<A...>> {
  static PyObject* call(const Function& function, PyObject* const* values);
  template <typename T>
  static PyObject* init(const Function& function, PyObject* const* values);
};

}  // namespace detail

/// A function of Python's, for as long as the process lives.
struct Function : Compiled {
  struct Argument {
    PyObject* name = nullptr;   // null: by position only
    PyObject* value = nullptr;  // where it is left out; null: it must be given
    bool takes_none = true;
  };

  const char* name = nullptr;
  std::vector<Argument> arguments;
  std::size_t positional = 0;
  std::string doc;  // a signature for inspect, and the docstring
  PyMethodDef method{};
  PyTypeObject* fills = nullptr;  // the class, of an __init__
};

namespace detail {

template <typename F, typename... A>
PyObject* Code<F, List<A...>>::call(const Function& function, PyObject* const* values) {
  return with_converted(function, values, List<A...>{}, [&](A... converted) -> PyObject* {
    using R = std::invoke_result_t<const F&, A...>;
    if constexpr (std::is_void_v<R>) {
      std::invoke(code_of<F>(function), std::forward<A>(converted)...);
      Py_RETURN_NONE;
    } else {
      const auto policy =
          py::detail::return_value_policy_override<R>::policy(py::return_value_policy::automatic);
      return py::detail::make_caster<R>::cast(
                 std::invoke(code_of<F>(function), std::forward<A>(converted)...), policy,
                 sizeof...(A) == 0 ? nullptr : values[0])
          .ptr();
    }
  });
}

template <typename F, typename... A>
template <typename T>
PyObject* Code<F, List<A...>>::init(const Function& function, PyObject* const* values) {
  return with_converted(function, values + 1, List<A...>{}, [&](A... converted) -> PyObject* {
    fill<T>(blank(values), [&] { return code_of<F>(function)(std::forward<A>(converted)...); });
    Py_RETURN_NONE;
  });
}

template <typename F, typename... A>
Compiled compile(F f, List<A...>, Compiled::Invoke invoke, std::size_t more) {
  static_assert(sizeof(F) <= Compiled::kCodeBytes && std::is_trivially_copyable_v<F>);
  Compiled compiled;
  compiled.invoke = invoke;
  new (compiled.code) F(f);
  compiled.arity = static_cast<std::uint8_t>(sizeof...(A) + more);
  compiled.takes_rest = (std::is_same_v<std::remove_cvref_t<A>, py::args> || ...);
  return compiled;
}

/// Of a function, or a lambda.
template <typename F>
Compiled compiled(F f) {
  using Arguments = typename Signature<F>::Arguments;
  return compile(f, Arguments{}, &Code<F, Arguments>::call, 0);
}

template <typename T, typename... A>
List<T&, A...> with_self(List<A...>);

/// Of a member of T, or what is called with one.
template <typename T, typename F>
Compiled compiled_method(F f) {
  if constexpr (std::is_member_function_pointer_v<F>) {
    using Arguments = decltype(with_self<T>(typename Signature<F>::Arguments{}));
    return compile(f, Arguments{}, &Code<F, Arguments>::call, 0);
  } else {
    return compiled(f);
  }
}

/// Of what makes a T.
template <typename T, typename F>
Compiled compiled_init(F f) {
  using Arguments = typename Signature<F>::Arguments;
  return compile(f, Arguments{}, &Code<F, Arguments>::template init<T>, 1);
}

}  // namespace detail

enum class Binding : std::uint8_t { kModule, kMethod, kInit, kStatic, kClass };

/// Makes it an attribute of a module or a class. said: the arguments but `self`, or none where
/// there are no names for them; the docstring.
void define(py::handle scope, const char* name, const Compiled& compiled, Binding binding,
            std::span<const Said> said);

template <typename F, typename... Extra>
[[gnu::always_inline]] inline void define_function(py::module_& m, const char* name, F f,
                                                   Extra... extra) {
  const Said said[] = {detail::say(extra)..., Said{}};
  define(m, name, detail::compiled(detail::plain_function(f)), Binding::kModule,
         {said, sizeof...(Extra)});
}

}  // namespace selfheal::python
