#include "class.hpp"

namespace selfheal::python {
namespace {

PyObject* read(PyObject* self, void* closure) {
  const auto& property = *static_cast<const Property*>(closure);
  try {
    // The descriptor has checked the class; this looks for the object in it.
    py::detail::type_caster_generic caster(*property.type);
    if (!caster.load(self, false) || caster.value == nullptr) {
      throw py::type_error("expected an initialised object; was __init__ called?");
    }
    return property.read(property, caster.value, self);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

}  // namespace

void define_property(py::handle cls, const char* name, const char* doc, const Property& property) {
  // As long-lived as the class, which lives as long as the process.
  auto* const definition = new PyGetSetDef{name, &read, nullptr, doc, new Property(property)};
  PyObject* const descriptor =
      PyDescr_NewGetSet(reinterpret_cast<PyTypeObject*>(cls.ptr()), definition);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr(name) = py::reinterpret_steal<py::object>(descriptor);
}

}  // namespace selfheal::python
