#include "hot_call.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <utility>

#include "bound_pass.hpp"
#include "selfheal/base/quantize.hpp"

namespace selfheal::python {

using runtime::Engine;
using runtime::Feed;
using runtime::HotPath;
using runtime::Sink;
using runtime::TurnLock;

namespace {

using Array = py::detail::PyArray_Proxy;

constexpr std::int32_t kLargestZeroPoint = 1 << 20;
constexpr double kShort = 20e-6;      // seconds; a thread that waits asks after 5 ms
constexpr std::uint32_t kTimed = 32;  // inferences that are timed
constexpr double kDeaf = 0.05;        // seconds of a batch between two looks for signals
constexpr int kPlain =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

bool has_weak_references(PyObject* object) {
  PyObject** const list = reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) +
                                                       Py_TYPE(object)->tp_weaklistoffset);
  return Py_TYPE(object)->tp_weaklistoffset > 0 && *list != nullptr;
}

const Array* plain_array(py::handle object) {
  if (Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_) return nullptr;
  const Array* const array = py::detail::array_proxy(object.ptr());
  return (array->flags & kPlain) == kPlain ? array : nullptr;
}

PyObject* float32() {
  static PyObject* const dtype = py::dtype::of<float>().release().ptr();
  return dtype;
}

std::vector<OutsideTensor> outside(const std::vector<HotCall::Tensor>& tensors) {
  std::vector<OutsideTensor> result;
  for (const auto& [dtype, shape, scale, zero_point] : tensors) {
    OutsideTensor tensor{dtype, shape, scale, zero_point, 0};
    tensor.nbytes = static_cast<std::size_t>(dtype.itemsize());
    for (const py::ssize_t n : shape) tensor.nbytes *= static_cast<std::size_t>(n);
    result.push_back(std::move(tensor));
  }
  return result;
}

std::vector<runtime::Outside> levels_of(const std::vector<OutsideTensor>& tensors) {
  std::vector<runtime::Outside> result;
  for (const OutsideTensor& tensor : tensors) result.push_back(tensor.levels());
  return result;
}

[[noreturn]] void raise(const py::object& error) {
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

py::object fetch_error() {
  if (PyErr_Occurred() == nullptr) {
    return py::module_::import("builtins").attr("RuntimeError")("the runtime failed to run");
  }
  const py::error_already_set error;
  return error.value();
}

}  // namespace

// Takes the turn for as long as it lives, and waits without the GIL.
class HotCall::Turn {
 public:
  explicit Turn(TurnLock& lock) : lock_(lock) {
    if (lock_.try_enter()) return;
    PyThreadState* const thread = PyEval_SaveThread();
    lock_.enter();
    selfheal::python::take_gil(thread);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (is_held_) lock_.leave();
  }
  bool leave() noexcept {
    if (!is_held_) return false;
    is_held_ = false;
    return lock_.leave();
  }
  void give_way() {
    PyThreadState* const thread = PyEval_SaveThread();
    lock_.give_way();
    selfheal::python::take_gil(thread);
  }

 private:
  TurnLock& lock_;
  bool is_held_ = true;
};

runtime::Outside OutsideTensor::levels() const {
  runtime::Outside result;
  result.levels = {static_cast<float>(scale), zero_point};
  result.elements = nbytes / static_cast<std::size_t>(dtype.itemsize());
  const char kind = dtype.kind();
  if (kind == 'f') {
    result.type = ElementType::kFloat32;
  } else if (dtype.itemsize() == 2) {
    result.type = ElementType::kInt16;
  } else {
    result.type = kind == 'u' ? ElementType::kUint8 : ElementType::kInt8;
  }
  return result;
}

HotCall::HotCall(std::shared_ptr<TurnLock> turn, py::object signals, py::object monitor,
                 const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                 py::object attend, py::object ended, py::object clock, HotPath::Pace pace)
    : turn_(std::move(turn)),
      signals_(std::move(signals)),
      monitor_(std::move(monitor)),
      inputs_(outside(inputs)),
      outputs_(outside(outputs)),
      attend_(std::move(attend)),
      ended_(std::move(ended)),
      clock_(std::move(clock)),
      path_(signals_.cast<BoundPass&>().pass(), monitor_.cast<InferenceMonitor&>(),
            levels_of(inputs_), levels_of(outputs_), pace) {}

void HotCall::attach(py::object engine, int embedding) {
  Engine* const next = engine.is_none() ? nullptr : engine.cast<Engine*>();
  if (next != nullptr) {
    const auto same = [](std::span<const runtime::TensorMemory> memory,
                         const std::vector<OutsideTensor>& tensors) {
      return std::equal(
          memory.begin(), memory.end(), tensors.begin(), tensors.end(),
          [](const auto& place, const auto& tensor) { return place.nbytes == tensor.nbytes; });
    };
    if (!same(next->inputs(), inputs_) || !same(next->outputs(), outputs_)) {
      throw std::invalid_argument("engine: expected one with this model's tensors, got others");
    }
    if (embedding >= static_cast<int>(next->taps().size())) {
      refuse("embedding", "a tap of the engine", static_cast<double>(embedding));
    }
  }
  path_.attach(next, embedding);
  seconds_ = shortest_ = 1.0;
  timed_ = 0;
  engine_ = std::move(engine);
}

void HotCall::guard(const std::vector<std::shared_ptr<HeldGuard>>& guards,
                    std::shared_ptr<TurnLock> care) {
  std::vector<ImageGuard*> plain;
  for (const auto& one : guards) plain.push_back(&one->get());
  path_.guard(std::move(plain), care.get());
  guards_ = guards;
  care_ = std::move(care);
}

py::list HotCall::findings() const {
  py::list list;
  for (const HotPath::Damage& damage : path_.damage()) {
    list.append(py::make_tuple(damage.image, damage.finding));
  }
  return list;
}

HotCall::Form HotCall::form_of(int ndim, const py::ssize_t* shape) const noexcept {
  const auto& own = inputs_[0].shape;
  const auto rank = static_cast<int>(own.size());
  if (ndim == rank + 1) {
    return std::equal(own.begin(), own.end(), shape + 1) ? Form::kLeading : Form::kNone;
  }
  if (ndim != rank) return Form::kNone;
  if (std::equal(own.begin(), own.end(), shape)) return Form::kSingle;
  if (rank > 0 && own[0] == 1 && std::equal(own.begin() + 1, own.end(), shape + 1)) {
    return Form::kFirst;
  }
  return Form::kNone;
}

// The answer's array: a new one, or the given one if it fits; null where it does not.
py::object HotCall::out_array(Form form, std::size_t count, bool is_real, py::handle given) {
  constexpr std::size_t kMostDimensions = 32;
  const OutsideTensor& tensor = outputs_[0];
  std::array<py::ssize_t, kMostDimensions + 1> shape;
  std::size_t rank = 0;
  const bool is_first = form == Form::kFirst && !tensor.shape.empty() && tensor.shape[0] == 1;
  if (tensor.shape.size() > kMostDimensions) return {};
  if (form != Form::kSingle) shape[rank++] = static_cast<py::ssize_t>(count);
  for (std::size_t i = is_first ? 1 : 0; i < tensor.shape.size(); ++i) {
    shape[rank++] = tensor.shape[i];
  }
  PyObject* const dtype = is_real ? float32() : tensor.dtype.ptr();
  if (given.is_none()) {
    if (form == Form::kSingle) {
      if (py::object old = recycled(dtype, rank, shape.data())) return old;
    }
    const auto& numpy = py::detail::npy_api::get();
    Py_INCREF(dtype);
    PyObject* const made =
        numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, dtype, static_cast<int>(rank),
                                    shape.data(), nullptr, nullptr, 0, nullptr);
    if (made == nullptr) throw py::error_already_set();
    auto result = py::reinterpret_steal<py::object>(made);
    if (form == Form::kSingle) keep(result);
    return result;
  }
  const Array* const array = plain_array(given);
  const bool fits = array != nullptr && array->descr == dtype &&
                    (array->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0 &&
                    static_cast<std::size_t>(array->nd) == rank &&
                    std::equal(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(rank),
                               array->dimensions);
  return fits ? py::reinterpret_borrow<py::object>(given) : py::object();
}

// An answer of before that nobody has any more: as Python's own iterators do with their tuples. To
// make an array and to free it takes as long as a small model's layer.
py::object HotCall::recycled(PyObject* dtype, std::size_t rank, const py::ssize_t* shape) {
#ifdef Py_GIL_DISABLED  // there nobody can tell
  static_cast<void>(dtype), static_cast<void>(rank), static_cast<void>(shape);
  return {};
#else
  constexpr int kOwn =
      kPlain | py::detail::npy_api::NPY_ARRAY_OWNDATA_ | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  const Kept& kept = kept_[oldest_];
  if (!kept.array || Py_REFCNT(kept.array.ptr()) != 1) return {};
  const Array* const array = py::detail::array_proxy(kept.array.ptr());
  // Whoever had it may have changed all that makes it an answer.
  const bool is_intact = array->descr == dtype && array->data == kept.data &&
                         static_cast<std::size_t>(array->nd) == rank &&
                         (array->flags & kOwn) == kOwn && array->base == nullptr &&
                         !has_weak_references(kept.array.ptr()) &&
                         std::equal(shape, shape + rank, array->dimensions);
  if (!is_intact) return {};
  oldest_ = 1 - oldest_;
  return kept.array;
#endif
}

void HotCall::keep(const py::object& array) {
#ifndef Py_GIL_DISABLED
  constexpr std::size_t kMost = 16384;  // bytes
  if (outputs_[0].nbytes > kMost) return;
  kept_[oldest_] = {array, py::detail::array_proxy(array.ptr())->data};
  oldest_ = 1 - oldest_;
#else
  static_cast<void>(array);
#endif
}

py::object HotCall::predict(py::handle x, py::handle out) {
  if (inputs_.size() != 1 || outputs_.size() != 1) return py::none();
  const Array* const array = plain_array(x);
  if (array == nullptr) return py::none();
  const OutsideTensor& input = inputs_[0];
  const bool is_own = array->descr == input.dtype.ptr();
  const bool is_real = !is_own && input.is_quantized() && array->descr == float32() &&
                       std::abs(input.zero_point) < kLargestZeroPoint &&
                       input.dtype.itemsize() <= 2;
  if (!is_own && !is_real) return py::none();
  const Form form = form_of(array->nd, array->dimensions);
  if (form == Form::kNone) return py::none();
  const std::size_t count =
      form == Form::kSingle ? 1 : static_cast<std::size_t>(array->dimensions[0]);
  if (count == 0) return py::none();
  const std::size_t elements = input.nbytes / static_cast<std::size_t>(input.dtype.itemsize());
  if (is_real || input.dtype.kind() == 'f') {
    const std::span values(reinterpret_cast<const float*>(array->data), count * elements);
    if (input.dtype.itemsize() != 4 && !is_real) return py::none();
    if (!all_finite(values)) return py::none();
  }
  const OutsideTensor& output = outputs_[0];
  const bool is_real_out = is_real && output.is_quantized();
  if (is_real_out &&
      (output.dtype.itemsize() > 2 || std::abs(output.zero_point) >= kLargestZeroPoint)) {
    return py::none();
  }
  if (turn_->forked()) return py::none();
  py::object result = out_array(form, count, is_real_out, out);
  if (!result) return py::none();
  const std::size_t own = output.nbytes;
  const Feed feed{reinterpret_cast<const std::byte*>(array->data),
                  elements * (is_real ? sizeof(float) : input.dtype.itemsize()), is_real};
  const Sink sink{
      reinterpret_cast<std::byte*>(py::detail::array_proxy(result.ptr())->data),
      is_real_out ? own / static_cast<std::size_t>(output.dtype.itemsize()) * sizeof(float) : own,
      is_real_out};
  // An answer must not be written over inputs that are still to be read.
  if (feed.data < sink.data + count * sink.stride && sink.data < feed.data + count * feed.stride) {
    return py::none();
  }
  const Job job{{&feed, 1}, {&sink, 1}, nullptr, count};
  try {
    run(job);
  } catch (const Closed&) {
    return py::none();
  }
  return result;
}

void HotCall::serve(const std::vector<py::array>& rows, std::vector<py::array>& results,
                    const py::object& nonfinite) {
  if (rows.size() != inputs_.size() || results.size() != outputs_.size()) {
    throw std::invalid_argument("rows, results: expected one array for every tensor");
  }
  std::vector<Feed> feeds;
  std::vector<Sink> sinks;
  const auto count = rows.empty() ? 1 : static_cast<std::size_t>(rows[0].shape(0));
  const auto check = [count](const py::array& array, const OutsideTensor& tensor) {
    require_contiguous(array, "rows, results");
    if (static_cast<std::size_t>(array.nbytes()) != count * tensor.nbytes) {
      throw std::invalid_argument("rows, results: expected n values of each tensor");
    }
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    check(rows[i], inputs_[i]);
    feeds.push_back({static_cast<const std::byte*>(rows[i].data()), inputs_[i].nbytes, false});
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    check(results[i], outputs_[i]);
    sinks.push_back(
        {static_cast<std::byte*>(results[i].mutable_data()), outputs_[i].nbytes, false});
  }
  const std::int64_t* counts = nullptr;
  py::array_t<std::int64_t, py::array::c_style> held;
  if (!nonfinite.is_none()) {
    held = nonfinite.cast<decltype(held)>();
    if (static_cast<std::size_t>(held.size()) != count) {
      throw std::invalid_argument("nonfinite: expected one count for every inference");
    }
    counts = held.data();
  }
  run({feeds, sinks, counts, count});
}

void HotCall::run(const Job& job) {
  Turn turn(*turn_);
  if (turn_->is_closed() || path_.engine() == nullptr) throw Closed();
  const Job* const outer = std::exchange(job_, &job);
  const std::size_t outer_attended = attended_;
  bool is_attended = false;
  const auto end = [&] {
    job_ = outer;
    attended_ = outer_attended;
    if (turn.leave() && is_attended) ended_();
  };
  try {
    loop(job, turn, is_attended);
  } catch (...) {
    path_.give_up();
    end();
    throw;
  }
  end();
}

void HotCall::loop(const Job& job, Turn& turn, bool& is_attended) {
  constexpr std::uint32_t kBeforeTheAnswer = runtime::kDamage | runtime::kRunFailed;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::size_t next = 0;
  double until = job.count > 1 ? runtime::coarse_seconds() + kDeaf : kNever;
  std::size_t failed = job.count;  // no such inference
  while (next < job.count) {
    double now = std::numeric_limits<double>::quiet_NaN();
    std::size_t end = job.count;
    if (!clock_.is_none()) {  // the user's: it may predict, or close the model
      now = clock_().cast<double>();
      end = next + 1;
    }
    if (path_.engine() == nullptr) throw Closed();
    path_.feed(job.feeds, job.sinks, job.nonfinite);
    HotPath::Progress progress{};
    if (path_.engine()->needs_interpreter_lock() ||
        static_cast<double>(end - next) * seconds_ < kShort) {
      progress = path_.serve(next, end, now, turn_.get(), until);
    } else {
      progress = serve_without_lock(next, end, now, until);
    }
    next = progress.next;
    const auto let_in = [&] {
      if (next < job.count && turn_->can_give_way()) give_way(job, turn);
    };
    if (progress.up == 0) {
      let_in();
      if (next < job.count && runtime::coarse_seconds() >= until) {
        // What a signal's handler raises, as KeyboardInterrupt, ends the batch.
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        until = runtime::coarse_seconds() + kDeaf;
      }
      continue;
    }
    is_attended = true;
    attended_ = (progress.up & kBeforeTheAnswer) != 0 ? next : next - 1;
    py::object error = py::none();
    if ((progress.up & runtime::kRunFailed) != 0) {
      error = fetch_error();
      if (failed == next) raise(error);  // what was healed was not the reason
      failed = next;
    }
    attend_(progress.up, error);
    // Not between what was found and the inference that goes on with it.
    if ((progress.up & kBeforeTheAnswer) == 0) let_in();
  }
}

// Between the inferences of a batch: whoever waits does so for one inference, not for all.
void HotCall::give_way(const Job& job, Turn& turn) {
  job_ = nullptr;  // a turn that was taken once serves the outermost job
  turn.give_way();
  job_ = &job;
  if (turn_->is_closed()) throw Closed();
}

HotPath::Progress HotCall::serve_without_lock(std::size_t first, std::size_t end, double now,
                                              double until) {
  using Clock = std::chrono::steady_clock;
  PyThreadState* const thread = PyEval_SaveThread();
  const bool is_timed = timed_ < kTimed;
  const Clock::time_point begin = is_timed ? Clock::now() : Clock::time_point();
  const HotPath::Progress progress = path_.serve(first, end, now, turn_.get(), until);
  if (is_timed && progress.next > first) {
    const std::chrono::duration<double> took = Clock::now() - begin;
    shortest_ = std::min(shortest_, took.count() / static_cast<double>(progress.next - first));
    if (++timed_ == kTimed) seconds_ = shortest_;
  }
  selfheal::python::take_gil(thread);
  return progress;
}

bool HotCall::again() {
  if (job_ == nullptr) throw std::logic_error("again: expected to be called while attending");
  path_.feed(job_->feeds, job_->sinks, job_->nonfinite);
  if (path_.again(attended_)) return true;
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return false;
}

}  // namespace selfheal::python
