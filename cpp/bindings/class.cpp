#include "class.hpp"

namespace selfheal::python {
namespace {

// The descriptor has checked the class; this looks for the object in it.
void* object_in(const Property& property, PyObject* self) {
  py::detail::type_caster_generic caster(*property.type);
  if (!caster.load(self, false) || caster.value == nullptr) {
    throw py::type_error("expected an initialised object; was __init__ called?");
  }
  return caster.value;
}

template <typename Result, typename Use>
Result guarded(Result failed, Use use) {
  try {
    return use();
  } catch (...) {
    tell_python();
  }
  return failed;
}

PyObject* read(PyObject* self, void* closure) {
  const auto& property = *static_cast<const Property*>(closure);
  return guarded<PyObject*>(
      nullptr, [&] { return property.read(property, object_in(property, self), self); });
}

int write(PyObject* self, PyObject* value, void* closure) {
  const auto& property = *static_cast<const Property*>(closure);
  if (value == nullptr) {
    PyErr_Format(PyExc_AttributeError, "%s: expected to stay, it cannot be deleted", property.name);
    return -1;
  }
  return guarded(-1, [&] {
    if (property.write(property, object_in(property, self), value)) return 0;
    PyErr_Format(PyExc_TypeError, "%s: expected %s, got %.100s", property.name, property.takes,
                 Py_TYPE(value)->tp_name);
    return -1;
  });
}

}  // namespace

void define_property(py::handle cls, const char* name, const char* doc, const Property& property) {
  // As long-lived as the class, which lives as long as the process.
  auto* const kept = new Property(property);
  kept->name = name;
  auto* const definition =
      new PyGetSetDef{name, &read, kept->write == nullptr ? nullptr : &write, doc, kept};
  PyObject* const descriptor =
      PyDescr_NewGetSet(reinterpret_cast<PyTypeObject*>(cls.ptr()), definition);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr(name) = py::reinterpret_steal<py::object>(descriptor);
}

}  // namespace selfheal::python
