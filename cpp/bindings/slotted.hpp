#pragma once

// Instances of Python classes with __slots__, made without calling their __init__: for what is made
// at every inference. The class stays Python's, with its fields, docstrings and methods.

#include <Python.h>
#include <structmember.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "arrays.hpp"

namespace selfheal::python {

/// Where instances of a class keep a field. Throws std::invalid_argument where that is no slot.
inline Py_ssize_t slot_offset(const py::type& cls, const char* name) {
  constexpr int kObject = 16;  // T_OBJECT_EX, under the name that all Pythons have it
  const py::object slot = py::getattr(cls, name, py::none());
  if (Py_TYPE(slot.ptr()) != &PyMemberDescr_Type) {
    refuse(name, "a slot of the class", std::string_view(type_name(slot)));
  }
  const PyMemberDef* const member = reinterpret_cast<PyMemberDescrObject*>(slot.ptr())->d_member;
  if (member->type != kObject) refuse(name, "a slot for any object", "another one");
  return member->offset;
}

/// What lies at an offset of an instance: borrowed; null where it was never set.
inline PyObject* slot_of(PyObject* instance, Py_ssize_t offset) noexcept {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(instance) + offset);
}

template <std::size_t kFields>
class Slotted {
 public:
  using Values = std::array<py::object, kFields>;

  /// names: all slots of the class, in the order of the values. Throws std::invalid_argument.
  Slotted(py::type cls, const std::array<const char*, kFields>& names) : cls_(std::move(cls)) {
    for (std::size_t i = 0; i < kFields; ++i) offsets_[i] = slot_offset(cls_, names[i]);
  }

  py::object make(Values values) const {
    auto* const type = reinterpret_cast<PyTypeObject*>(cls_.ptr());
    PyObject* const made = type->tp_alloc(type, 0);
    if (made == nullptr) throw py::error_already_set();
    for (std::size_t i = 0; i < kFields; ++i) {
      *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(made) + offsets_[i]) =
          values[i].release().ptr();
    }
    return py::reinterpret_steal<py::object>(made);
  }

 private:
  py::type cls_;
  std::array<Py_ssize_t, kFields> offsets_{};
};

}  // namespace selfheal::python
