#include <limits>
#include <variant>

#include "bindings.hpp"
#include "number.hpp"
#include "selfheal/base/ring_buffer.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

// Python's RingBuffer has its dtype at run time.
struct AnyRingBuffer {
  std::variant<RingBuffer<double>, RingBuffer<float>> held;
};

template <typename T>
RingBuffer<T> make(std::size_t capacity, std::optional<std::int64_t> width) {
  return width ? RingBuffer<T>(capacity, to_size("width", *width, 1)) : RingBuffer<T>(capacity);
}

AnyRingBuffer construct(std::int64_t capacity, std::optional<std::int64_t> width,
                        const std::string& dtype) {
  const std::size_t rows = to_size("capacity", capacity, 1);
  if (dtype == "float64") return {make<double>(rows, width)};
  if (dtype == "float32") return {make<float>(rows, width)};
  refuse("dtype", "'float32' or 'float64'", quoted(dtype));
}

template <typename F>
auto visit(const AnyRingBuffer& self, F&& f) {
  return std::visit(std::forward<F>(f), self.held);
}

template <typename T>
constexpr const char* dtype_name(const RingBuffer<T>&) {
  return std::is_same_v<T, float> ? "float32" : "float64";
}

// The values of an array of the buffer's own dtype: rows of its width, `ndim` axes.
template <typename T>
std::span<const T> rows_of(const RingBuffer<T>& buffer, py::handle object, const char* name,
                           py::ssize_t ndim) {
  std::string expected =
      std::string("a ") + std::to_string(ndim) + "-D " + dtype_name(buffer) + " array";
  if (!buffer.is_scalar()) expected += " with rows of " + std::to_string(buffer.width());
  const py::array array = require_array(object, name, expected.c_str());
  if (!has_dtype<T>(array)) refuse_type(name, expected, describe(array));
  if (array.ndim() != ndim ||
      (!buffer.is_scalar() && static_cast<std::size_t>(array.shape(ndim - 1)) != buffer.width())) {
    refuse(name, expected, std::string_view(describe(array)));
  }
  require_contiguous(array, name);
  return as_span<T>(array);
}

void push(AnyRingBuffer& self, py::handle x) {
  std::visit(
      [&]<typename T>(RingBuffer<T>& buffer) {
        if (buffer.is_scalar()) {
          buffer.push(static_cast<T>(to_number(x)));
        } else {
          buffer.push(rows_of(buffer, x, "x", 1));
        }
      },
      self.held);
}

void push_many(AnyRingBuffer& self, py::handle rows) {
  std::visit(
      [&](auto& buffer) {
        const auto values = rows_of(buffer, rows, "rows", buffer.is_scalar() ? 1 : 2);
        const selfheal::python::ReleasedGil released;
        buffer.push_many(values);
      },
      self.held);
}

template <typename T>
py::array view(const RingBuffer<T>& buffer, std::span<const T> values, py::handle owner) {
  std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(values.size() / buffer.width())};
  if (!buffer.is_scalar()) shape.push_back(static_cast<py::ssize_t>(buffer.width()));
  py::array_t<T> array(shape, values.data(), owner);
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

py::tuple spans(const py::object& self) {
  return visit(self.cast<const AnyRingBuffer&>(), [&](const auto& buffer) {
    const auto held = buffer.spans();
    return py::make_tuple(view(buffer, held.older, self), view(buffer, held.newer, self));
  });
}

py::array copy(const AnyRingBuffer& self) {
  return visit(self, []<typename T>(const RingBuffer<T>& buffer) -> py::array {
    std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(buffer.size())};
    if (!buffer.is_scalar()) shape.push_back(static_cast<py::ssize_t>(buffer.width()));
    py::array_t<T> array(shape);
    const auto held = buffer.spans();
    T* const out = std::copy(held.older.begin(), held.older.end(), array.mutable_data());
    std::copy(held.newer.begin(), held.newer.end(), out);
    return array;
  });
}

AnyRingBuffer from_state(const py::bytes& blob, std::size_t most_bytes) {
  try {
    return {RingBuffer<double>::from_state(as_bytes(blob), most_bytes)};
  } catch (const StateTypeError&) {
    return {RingBuffer<float>::from_state(as_bytes(blob), most_bytes)};
  }
}

}  // namespace

void bind_ring_buffer(py::module_& m) {
  Class<AnyRingBuffer>(m, "RingBuffer", "Fixed window over the last samples or rows.")
      .def(constructor(&construct), arg("capacity"), arg("width") = nullptr,
           arg("dtype") = "float64")
      .def("push", &push, arg("x"), "Append one number, or one row.")
      .def("push_many", &push_many, arg("rows"), "Append numbers or rows, the oldest first.")
      .def_property_readonly("spans", &spans, "Zero-copy, read-only views: (older, newer).")
      .def("to_array", &copy, "Copy what is held, oldest first.")
      .def("__len__",
           [](const AnyRingBuffer& self) {
             return visit(self, [](const auto& buffer) { return buffer.size(); });
           })
      .def_property_readonly(
          "capacity",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return buffer.capacity(); });
          },
          "Rows that fit.")
      .def_property_readonly(
          "width",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) {
              return buffer.is_scalar() ? std::nullopt : std::optional(buffer.width());
            });
          },
          "Numbers a row; None for a buffer of numbers.")
      .def_property_readonly(
          "dtype",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return dtype_name(buffer); });
          },
          "'float32' or 'float64'.")
      .def_property_readonly(
          "total",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return buffer.total(); });
          },
          "Rows ever pushed.")
      .def(
          "clear",
          [](AnyRingBuffer& self) { std::visit([](auto& buffer) { buffer.clear(); }, self.held); },
          "Forget everything.")
      .def(
          "state",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return to_bytes(buffer.state()); });
          },
          "Give the whole state as a versioned, checksummed blob.")
      .def_static(
          "from_state",
          [](const py::bytes& blob, std::int64_t max_bytes) {
            return from_state(blob, to_size("max_bytes", max_bytes));
          },
          arg("state"), kw_only(), arg("max_bytes") = kStateBytes, "Restore a buffer.")
      .def(pickled_by(
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return to_bytes(buffer.state()); });
          },
          [](const py::bytes& blob) {
            return from_state(blob, std::numeric_limits<std::size_t>::max());
          }))
      .def(
          "memory_bytes",
          [](const AnyRingBuffer& self) {
            return visit(self, [](const auto& buffer) { return buffer.memory_bytes(); });
          },
          "Bytes held, fixed at construction.");
}
