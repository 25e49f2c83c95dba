#pragma once

#include <cstddef>
#include <limits>

#include "arrays.hpp"

namespace selfheal::python {

/// The object of a pickle, which may run any code anyhow: whatever it costs.
template <typename T>
T from_pickle(const py::bytes& blob) {
  if constexpr (requires { T::from_state(as_bytes(blob), kStateBytes); }) {
    return T::from_state(as_bytes(blob), std::numeric_limits<std::size_t>::max());
  } else {
    return T::from_state(as_bytes(blob));
  }
}

/// Copying and pickling, for classes whose state is all that they are.
template <typename T, typename Class>
void define_pickle(Class& cls) {
  cls.def(py::pickle([](const T& self) { return to_bytes(self.state()); }, &from_pickle<T>));
}

}  // namespace selfheal::python
