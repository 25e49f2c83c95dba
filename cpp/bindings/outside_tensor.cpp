#include "outside_tensor.hpp"

#include <algorithm>
#include <cstdlib>

#include "plain_array.hpp"

namespace selfheal::python {
namespace {

constexpr std::int32_t kLargestZeroPoint = 1 << 20;

ElementType element_type(const py::dtype& dtype) {
  if (dtype.kind() == 'f') return ElementType::kFloat32;
  if (dtype.itemsize() == 2) return ElementType::kInt16;
  return dtype.kind() == 'u' ? ElementType::kUint8 : ElementType::kInt8;
}

bool has_weak_references(PyObject* object) {
  auto* const list = reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) +
                                                  Py_TYPE(object)->tp_weaklistoffset);
  return Py_TYPE(object)->tp_weaklistoffset > 0 && *list != nullptr;
}

}  // namespace

OutsideTensor::OutsideTensor(const Description& description)
    : name(std::get<0>(description)),
      dtype(std::get<1>(description)),
      shape(std::get<2>(description)) {
  constexpr std::size_t kMostDimensions = 31;  // NumPy has 32, and a batch takes one
  if (shape.size() > kMostDimensions) refuse("shape", "at most 31 axes", shape.size());
  if (dtype.kind() == 'O') refuse_type("dtype", "one of numbers", "objects");
  PyObject* interned = name.release().ptr();
  PyUnicode_InternInPlace(&interned);
  name = py::reinterpret_steal<py::str>(interned);
  const double scale = std::get<3>(description);
  const std::int32_t zero_point = std::get<4>(description);
  const char kind = dtype.kind();
  const auto itemsize = static_cast<std::size_t>(dtype.itemsize());
  outside.type = element_type(dtype);
  outside.levels = {static_cast<float>(scale), zero_point};
  outside.elements = 1;
  for (const py::ssize_t n : shape) outside.elements *= static_cast<std::size_t>(n);
  outside.nbytes = outside.elements * itemsize;
  is_number = kind == 'i' || kind == 'u' || kind == 'f' || kind == 'b' || kind == 'c';
  is_quantized = scale > 0.0 && (kind == 'i' || kind == 'u');
  has_reals = is_quantized && (itemsize == 1 || (itemsize == 2 && kind == 'i')) &&
              std::abs(zero_point) < kLargestZeroPoint;
  is_float32 = kind == 'f' && itemsize == 4;
}

std::vector<OutsideTensor> OutsideTensor::all(const std::vector<Description>& descriptions) {
  return {descriptions.begin(), descriptions.end()};
}

std::vector<runtime::Outside> OutsideTensor::outsides(const std::vector<OutsideTensor>& tensors) {
  std::vector<runtime::Outside> result;
  result.reserve(tensors.size());
  for (const OutsideTensor& tensor : tensors) result.push_back(tensor.outside);
  return result;
}

Form OutsideTensor::form_of(int ndim, const py::ssize_t* dimensions) const noexcept {
  const auto rank = static_cast<int>(shape.size());
  if (ndim == rank + 1) {
    return std::equal(shape.begin(), shape.end(), dimensions + 1) ? Form::kLeading : Form::kNone;
  }
  if (ndim != rank) return Form::kNone;
  if (std::equal(shape.begin(), shape.end(), dimensions)) return Form::kSingle;
  if (rank > 0 && shape[0] == 1 && std::equal(shape.begin() + 1, shape.end(), dimensions + 1)) {
    return Form::kFirst;
  }
  return Form::kNone;
}

PyObject* float32() noexcept {
  static PyObject* const dtype = py::dtype::of<float>().release().ptr();
  return dtype;
}

AnswerArrays::Shape AnswerArrays::shape_of(Form form, std::size_t count) const noexcept {
  const auto& own = tensor_->shape;
  Shape shape;
  if (form != Form::kSingle) shape.dimensions[shape.rank++] = static_cast<py::ssize_t>(count);
  const std::size_t first = form == Form::kFirst && !own.empty() && own[0] == 1 ? 1 : 0;
  for (std::size_t i = first; i < own.size(); ++i) shape.dimensions[shape.rank++] = own[i];
  return shape;
}

PyObject* AnswerArrays::dtype_of(bool is_real) const noexcept {
  return is_real ? float32() : tensor_->dtype.ptr();
}

py::object AnswerArrays::make(Form form, std::size_t count, bool is_real) {
  PyObject* const dtype = dtype_of(is_real);
  if (form == Form::kSingle) {
    if (py::object old = recycled(dtype)) return old;
    py::object made = new_array(dtype, tensor_->shape.size(), tensor_->shape.data());
    keep(made);
    return made;
  }
  const Shape shape = shape_of(form, count);
  return new_array(dtype, shape.rank, shape.dimensions.data());
}

bool AnswerArrays::fits(py::handle given, Form form, std::size_t count, bool is_real) const {
  const Shape shape = shape_of(form, count);
  const Array* const array = plain_array(given);
  return array != nullptr && array->descr == dtype_of(is_real) &&
         (array->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0 &&
         static_cast<std::size_t>(array->nd) == shape.rank &&
         std::equal(shape.dimensions.begin(),
                    shape.dimensions.begin() + static_cast<std::ptrdiff_t>(shape.rank),
                    array->dimensions);
}

// An answer of before that its user has let go of: as Python's own iterators do with their tuples.
// To make an array and to free it takes as long as a small model's layer.
py::object AnswerArrays::recycled(PyObject* dtype) {
#ifdef Py_GIL_DISABLED  // there a count of references does not tell
  static_cast<void>(dtype);
  return {};
#else
  constexpr int kOwn =
      kPlain | py::detail::npy_api::NPY_ARRAY_OWNDATA_ | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  const Kept& kept = kept_[oldest_];
  if (!kept.array || Py_REFCNT(kept.array.ptr()) != 1) return {};
  const Array* const array = py::detail::array_proxy(kept.array.ptr());
  // Its user may have changed all that makes it an answer.
  const auto& shape = tensor_->shape;
  const bool is_intact = array->descr == dtype && array->data == kept.data &&
                         static_cast<std::size_t>(array->nd) == shape.size() &&
                         (array->flags & kOwn) == kOwn && array->base == nullptr &&
                         !has_weak_references(kept.array.ptr()) &&
                         std::equal(shape.begin(), shape.end(), array->dimensions);
  if (!is_intact) return {};
  oldest_ = 1 - oldest_;
  return kept.array;
#endif
}

void AnswerArrays::keep(const py::object& array) {
#ifndef Py_GIL_DISABLED
  constexpr std::size_t kMost = 16384;  // bytes
  if (tensor_->outside.nbytes > kMost) return;
  kept_[oldest_] = {array, py::detail::array_proxy(array.ptr())->data};
  oldest_ = 1 - oldest_;
#else
  static_cast<void>(array);
#endif
}

std::size_t AnswerArrays::memory_bytes() const {
  std::size_t total = sizeof *this;
  for (const Kept& kept : kept_) {
    if (kept.array) {
      total += static_cast<std::size_t>(py::reinterpret_borrow<py::array>(kept.array).nbytes());
    }
  }
  return total;
}

}  // namespace selfheal::python
