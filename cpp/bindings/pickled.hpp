#pragma once

#include <cstddef>
#include <limits>

#include "class.hpp"

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

/// state, from_state and memory_bytes, which every stateful class has.
template <typename T, typename Class>
void define_state(Class& cls) {
  cls.def(
      "state", [](const T& self) { return to_bytes(self.state()); },
      "Give the whole state as a versioned, checksummed blob.");
  constexpr const char* kDoc = "Restore an object that continues bit for bit.";
  if constexpr (requires(std::span<const std::byte> blob) { T::from_state(blob, kStateBytes); }) {
    cls.def_static(
        "from_state",
        [](const py::bytes& blob, std::int64_t max_bytes) {
          return T::from_state(as_bytes(blob), to_size("max_bytes", max_bytes));
        },
        arg("state"), kw_only(), arg("max_bytes") = kStateBytes, kDoc);
  } else {
    cls.def_static(
        "from_state", [](const py::bytes& blob) { return T::from_state(as_bytes(blob)); },
        arg("state"), kDoc);
  }
  cls.def("memory_bytes", &T::memory_bytes, "Bytes held, fixed at construction.");
}

/// Copying and pickling, for classes whose state is all that they are.
template <typename T, typename Class>
void define_pickle(Class& cls) {
  cls.def(pickled_by([](const T& self) { return to_bytes(self.state()); }, &from_pickle<T>));
}

}  // namespace selfheal::python
