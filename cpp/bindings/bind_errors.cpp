#include "bindings.hpp"
#include "selfheal/base/state_codec.hpp"

// All are ValueErrors: the same mistake, a bad argument, however it went bad.
void bind_errors(py::module_& m) {
  using namespace selfheal;
  const py::tuple roots =
      py::make_tuple(py::module_::import("selfheal_edge.errors").attr("SelfHealError"),
                     py::reinterpret_borrow<py::object>(PyExc_ValueError));
  const auto base = py::register_exception<StateError>(m, "StateError", roots);
  py::register_exception<StateTruncatedError>(m, "StateTruncatedError", base);
  py::register_exception<StateCorruptError>(m, "StateCorruptError", base);
  py::register_exception<StateTypeError>(m, "StateTypeError", base);
  py::register_exception<StateTooLargeError>(m, "StateTooLargeError", base);
  py::register_exception<StateVersionError>(m, "StateVersionError", base);
}
