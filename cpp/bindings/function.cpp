#include "function.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace selfheal::python {
namespace {

constexpr std::size_t kMostArguments = 24;

py::object default_of(const Said& said) {
  switch (said.kind) {
    case Said::Kind::kBool:
      return py::bool_(said.integer != 0);
    case Said::Kind::kInteger:
      return py::int_(said.integer);
    case Said::Kind::kReal:
      return py::float_(said.real);
    case Said::Kind::kText:
      return py::str(said.chars);
    case Said::Kind::kNoItems:
      return py::tuple();
    default:
      return py::none();
  }
}

// TypeError that names the function.
PyObject* refuse_call(const Function& function, const char* expected, PyObject* name = nullptr) {
  if (name == nullptr) {
    PyErr_Format(PyExc_TypeError, "%s: expected %s", function.name, expected);
  } else {
    PyErr_Format(PyExc_TypeError, "%s: expected %s %R", function.name, expected, name);
  }
  return nullptr;
}

PyObject* unnamed(const Function& function) {
  PyErr_Format(PyExc_TypeError, "%s: expected %zd argument(s) at most by position", function.name,
               static_cast<Py_ssize_t>(function.positional));
  return nullptr;
}

// Converts, calls, and turns C++'s exceptions into Python's.
PyObject* invoke(const Function& function, PyObject* const* values) {
  const py::detail::loader_life_support kept;  // what a conversion makes lives as long as the call
  try {
    return function.invoke(function, values);
  } catch (const py::reference_cast_error&) {
    PyErr_Format(PyExc_TypeError, "%s: expected objects, got None", function.name);
  } catch (...) {
    tell_python();
  }
  return nullptr;
}

// Of an __init__: pybind11's instance holds what it makes.
PyObject* initialise(const Function& function, PyObject** values) {
  if (PyObject_TypeCheck(values[0], function.fills) == 0) {
    PyErr_Format(PyExc_TypeError, "self: expected %s, got %.100s", function.fills->tp_name,
                 Py_TYPE(values[0])->tp_name);
    return nullptr;
  }
  auto* const instance = reinterpret_cast<py::detail::instance*>(values[0]);
  const auto* const type = py::detail::get_type_info(function.fills);
  py::detail::value_and_holder held = instance->get_value_and_holder(type, true);
  if (held.instance_registered()) Py_RETURN_NONE;  // made already
  values[0] = reinterpret_cast<PyObject*>(&held);
  PyObject* const result = invoke(function, values);
  if (result != nullptr && !held.holder_constructed()) type->init_instance(instance, nullptr);
  return result;
}

PyObject* dispatch(PyObject* self, PyObject* const* given, Py_ssize_t count, PyObject* names) {
  const auto& function = *static_cast<const Function*>(PyCapsule_GetPointer(self, nullptr));
  const auto& arguments = function.arguments;
  PyObject* values[kMostArguments];
  std::fill_n(values, arguments.size(), nullptr);
  py::object rest;
  const auto by_position = static_cast<std::size_t>(count);
  std::copy_n(given, std::min(by_position, function.positional), values);
  if (function.takes_rest) {
    rest = py::reinterpret_steal<py::object>(
        PyTuple_New(std::max<Py_ssize_t>(0, count - static_cast<Py_ssize_t>(function.positional))));
    if (!rest) return nullptr;
    for (std::size_t i = function.positional; i < by_position; ++i) {
      Py_INCREF(given[i]);
      PyTuple_SET_ITEM(rest.ptr(), static_cast<Py_ssize_t>(i - function.positional), given[i]);
    }
    values[function.positional] = rest.ptr();
  } else if (by_position > function.positional) {
    return unnamed(function);
  }
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* const name = PyTuple_GET_ITEM(names, i);
    std::size_t at = 0;
    while (at < arguments.size() && arguments[at].name != name) ++at;
    if (at == arguments.size()) {  // a name that is not interned, or none of these
      for (at = 0; at < arguments.size(); ++at) {
        if (arguments[at].name != nullptr && PyUnicode_Compare(arguments[at].name, name) == 0) {
          break;
        }
      }
    }
    if (at == arguments.size()) return refuse_call(function, "no argument", name);
    if (values[at] != nullptr) return refuse_call(function, "one value of", name);
    values[at] = given[count + i];
  }
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (values[i] == nullptr) values[i] = arguments[i].value;
    if (values[i] == nullptr) {
      return arguments[i].name == nullptr ? refuse_call(function, "more arguments")
                                          : refuse_call(function, "argument", arguments[i].name);
    }
    if (values[i] == Py_None && !arguments[i].takes_none) {
      PyErr_Format(PyExc_TypeError, "%U: expected an object, got None", arguments[i].name);
      return nullptr;
    }
  }
  return function.fills == nullptr ? invoke(function, values) : initialise(function, values);
}

// name(self, a, b=1, *, c=None)
std::string signature(const Function& function, Binding binding) {
  std::string text = std::string(function.name) + "(";
  std::size_t i = 0;
  bool is_positional = false;  // and cannot be given by name
  const auto separate = [&] {
    if (text.back() != '(') text += ", ";
  };
  for (const Function::Argument& one : function.arguments) {
    const bool is_rest = function.takes_rest && i + 1 == function.arguments.size();
    const bool is_self = i == 0 && (binding == Binding::kMethod || binding == Binding::kInit);
    const bool is_class = i == 0 && binding == Binding::kClass;
    if (is_positional && (one.name != nullptr || is_rest)) {
      separate();
      text += "/";
      is_positional = false;
    }
    if (i == function.positional && !is_rest) {
      separate();
      text += "*";
    }
    separate();
    if (is_self || is_class) {
      text += is_self ? "self" : "type";
    } else if (is_rest) {
      text += "*args";
    } else if (one.name == nullptr) {
      text += "x" + std::to_string(i);
      is_positional = true;
    } else {
      text += py::str(one.name).cast<std::string>();
    }
    if (one.value != nullptr) text += "=" + py::repr(one.value).cast<std::string>();
    ++i;
  }
  if (is_positional) text += ", /";
  return text + ")\n--\n\n";
}

}  // namespace

void tell_python() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
#if defined(__GLIBCXX__)
  } catch (abi::__forced_unwind&) {  // a thread that ends with the interpreter: see gil.hpp
    throw;
#endif
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
}

PyObject* refuse_value(const Function& function, std::size_t index, PyObject* value,
                       const Expected& expected) {
  if (function.fills != nullptr) ++index;
  const Function::Argument& argument = function.arguments[index];
  std::string name = "self";
  if (argument.name != nullptr) {
    name = py::str(argument.name).cast<std::string>();
  } else if (index != 0) {
    name = function.name;
  }
  const char* words = expected.words;
  std::string qualified;
  if (words == nullptr) {
    const py::handle type = py::detail::get_type_handle(*expected.type, false);
    qualified = type ? py::str(type.attr("__qualname__")).cast<std::string>() : "another object";
    words = qualified.c_str();
  }
  const bool is_optional = argument.value == Py_None;
  const bool is_large = PyLong_Check(value) != 0 && std::string_view(words) == "an integer";
  PyErr_Format(PyExc_TypeError, "%s: expected %s%s, got %.100s", name.c_str(), words,
               is_optional ? " or None" : "",
               is_large ? "one that does not fit" : Py_TYPE(value)->tp_name);
  return nullptr;
}

py::detail::value_and_holder& blank(PyObject* const* values) {
  return *reinterpret_cast<py::detail::value_and_holder*>(values[0]);
}

void define(py::handle scope, const char* name, const Compiled& compiled, Binding binding,
            std::span<const Said> said) {
  auto* const function = new Function;  // as long-lived as what it is an attribute of
  static_cast<Compiled&>(*function) = compiled;
  function->name = name;
  const char* doc = nullptr;
  if (binding == Binding::kMethod || binding == Binding::kInit) function->arguments.emplace_back();
  bool is_by_name = false;
  for (const Said& one : said) {
    if (one.kind == Said::Kind::kDoc) {
      doc = one.text;
      continue;
    }
    if (one.kind == Said::Kind::kByName) {
      function->positional = function->arguments.size();
      is_by_name = true;
      continue;
    }
    Function::Argument argument;
    argument.name = PyUnicode_InternFromString(one.text);
    argument.takes_none = one.takes_none;
    if (one.kind != Said::Kind::kRequired) argument.value = default_of(one).release().ptr();
    function->arguments.push_back(argument);
  }
  const std::size_t rest = compiled.takes_rest ? 1 : 0;
  while (function->arguments.size() < compiled.arity) function->arguments.emplace_back();
  if (function->arguments.size() != compiled.arity || compiled.arity > kMostArguments) {
    throw std::logic_error(std::string(name) + ": its arguments are not those that it takes");
  }
  if (!is_by_name) function->positional = compiled.arity - rest;
  if (binding == Binding::kInit) {
    function->fills = reinterpret_cast<PyTypeObject*>(scope.ptr());
  }
  function->doc = signature(*function, binding);
  if (doc != nullptr) function->doc += doc;
  function->method = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&dispatch)),
                      METH_FASTCALL | METH_KEYWORDS, function->doc.c_str()};
  const py::object module =
      binding == Binding::kModule ? scope.attr("__name__") : scope.attr("__module__");
  const auto made = [](PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
  };
  const py::object capsule = made(PyCapsule_New(function, nullptr, nullptr));
  py::object callable = made(PyCFunction_NewEx(&function->method, capsule.ptr(), module.ptr()));
  switch (binding) {
    case Binding::kModule:
      break;
    case Binding::kMethod:
    case Binding::kInit:
      callable = made(PyInstanceMethod_New(callable.ptr()));
      break;
    case Binding::kStatic:
      callable = made(PyStaticMethod_New(callable.ptr()));
      break;
    case Binding::kClass:
      callable = made(PyClassMethod_New(callable.ptr()));
      break;
  }
  scope.attr(name) = callable;
}

}  // namespace selfheal::python
