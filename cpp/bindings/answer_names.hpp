#pragma once

// How forms of arrays, and what is known of an answer, are called in Python.

#include <string_view>

#include "bindings.hpp"
#include "hot_path.hpp"
#include "outside_tensor.hpp"

namespace selfheal::python {

inline Form form_named(std::string_view name) {
  if (name == "single") return Form::kSingle;
  if (name == "leading") return Form::kLeading;
  if (name == "first") return Form::kFirst;
  refuse("form", "'single', 'leading' or 'first'", name);
}

inline const char* name_of(Form form) noexcept {
  if (form == Form::kSingle) return "single";
  return form == Form::kFirst ? "first" : "leading";
}

inline py::object verified_name(runtime::Verified verified) {
  if (verified == runtime::Verified::kNone) return py::none();
  return py::reinterpret_steal<py::object>(
      PyUnicode_InternFromString(verified == runtime::Verified::kAround ? "around" : "before"));
}

}  // namespace selfheal::python
