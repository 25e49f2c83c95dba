#pragma once

#include "arrays.hpp"

namespace selfheal::python {

/// Copying and pickling, for classes whose state is all that they are.
template <typename T, typename Class>
void define_pickle(Class& cls) {
  cls.def(py::pickle([](const T& self) { return to_bytes(self.state()); },
                     [](const py::bytes& blob) { return T::from_state(as_bytes(blob)); }));
}

}  // namespace selfheal::python
