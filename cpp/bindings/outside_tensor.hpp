#pragma once

// A model's inputs and outputs as users see them, and the arrays that hold their values.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "hot_path.hpp"

namespace selfheal::python {

/// How the arrays of a call relate to a tensor.
enum class Form : std::uint8_t {
  kNone,
  kSingle,   ///< the tensor's own shape: one inference
  kLeading,  ///< one more leading axis: a batch
  kFirst,    ///< the first axis, which is 1, has the batch
};

struct OutsideTensor {
  /// Name, data type, shape, scale (0: not quantised) and zero point.
  using Description =
      std::tuple<std::string, py::dtype, std::vector<py::ssize_t>, double, std::int32_t>;

  explicit OutsideTensor(const Description& description);
  static std::vector<OutsideTensor> all(const std::vector<Description>& descriptions);
  static std::vector<runtime::Outside> outsides(const std::vector<OutsideTensor>& tensors);

  py::str name;  // interned
  py::dtype dtype;
  std::vector<py::ssize_t> shape;
  runtime::Outside outside;
  bool is_number = false;  // and not text or an object
  bool is_quantized = false;
  bool has_reals = false;  // quantised, and the core converts between levels and real numbers
  bool is_float32 = false;

  /// What the shape of an array says.
  Form form_of(int ndim, const py::ssize_t* dimensions) const noexcept;
  std::size_t memory_bytes() const noexcept {
    return sizeof *this + shape.capacity() * sizeof(py::ssize_t);
  }
};

PyObject* float32() noexcept;

/// Arrays for the answers of one output.
class AnswerArrays {
 public:
  explicit AnswerArrays(const OutsideTensor& tensor) : tensor_(&tensor) {}

  /// The array for n inferences: a new one, or an answer of before that its user has let go of.
  py::object make(Form form, std::size_t count, bool is_real);
  /// Whether an array of the user's can take the answer.
  bool fits(py::handle given, Form form, std::size_t count, bool is_real) const;
  /// Bytes of answers that are kept to be used again.
  std::size_t memory_bytes() const;

 private:
  struct Shape {
    std::array<py::ssize_t, 32> dimensions;
    std::size_t rank = 0;
  };
  struct Kept {
    py::object array;
    const void* data = nullptr;
  };

  Shape shape_of(Form form, std::size_t count) const noexcept;
  PyObject* dtype_of(bool is_real) const noexcept;
  py::object recycled(PyObject* dtype);
  void keep(const py::object& array);

  const OutsideTensor* tensor_;
  std::array<Kept, 2> kept_;  // the latest answers
  std::size_t oldest_ = 0;
};

}  // namespace selfheal::python
