#include "hot_call.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <utility>

#include "answer_names.hpp"
#include "bound_pass.hpp"
#include "few.hpp"
#include "initialised.hpp"
#include "plain_array.hpp"
#include "selfheal/base/quantize.hpp"

namespace selfheal::python {

using runtime::Engine;
using runtime::FairLock;
using runtime::Feed;
using runtime::HotPath;
using runtime::Record;
using runtime::Sink;

namespace {

py::object fetch_error() {
  if (PyErr_Occurred() == nullptr) {
    return py::module_::import("builtins").attr("RuntimeError")("the runtime failed to run");
  }
  const py::error_already_set error;
  return error.value();
}

[[noreturn]] void raise(const py::object& error) {
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

py::object no_alarms() { return py::reinterpret_steal<py::object>(PyTuple_New(0)); }

template <typename T>
T* data_of(const py::array& array) {
  return static_cast<T*>(const_cast<void*>(array.data()));
}

}  // namespace

// Copies of answers whose size may be another one every time.
class HotCall::Taker : public runtime::AnswerTaker {
 public:
  Taker(HotCall& call, std::size_t count) : call_(call), answers_(count) {}

  // With the GIL: an engine that has such answers needs it, and so does one that takes its place.
  bool take(std::size_t index) noexcept override {
    GilOfGate held(call_.gate_);
    try {
      answers_[index] =
          call_.python_engine_ != nullptr ? call_.python_engine_->results() : copies();
      return true;
    } catch (py::error_already_set& error) {
      error.restore();
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return false;
  }
  std::vector<py::object>& answers() noexcept { return answers_; }

 private:
  py::list copies() const {
    py::list list;
    const auto memory = call_.path_.engine()->outputs();
    for (std::size_t i = 0; i < memory.size(); ++i) {
      const OutsideTensor& tensor = call_.outputs_[i];
      py::array array(tensor.dtype, tensor.shape);
      std::memcpy(array.mutable_data(), memory[i].data, memory[i].nbytes);
      list.append(std::move(array));
    }
    return list;
  }

  HotCall& call_;
  std::vector<py::object> answers_;
};

// One call: what came in, and where what comes out goes.
struct HotCall::Request : runtime::Job {
  [[gnu::always_inline]] explicit Request(const HotCall& call)
      : feed_list(call.inputs_.size()),
        sink_list(call.outputs_.size()),
        arrays(call.outputs_.size()) {
    feeds = feed_list.span();
  }

  void keep_alarms(std::size_t index, py::object raised) const {
    alarms.emplace_back(index, std::move(raised));
  }
  /// The latest that the inference raised.
  py::object alarms_of(std::size_t index) const {
    const auto found = std::find_if(alarms.rbegin(), alarms.rend(),
                                    [index](const auto& one) { return one.first == index; });
    return found == alarms.rend() ? no_alarms() : found->second;
  }

  Form form = Form::kNone;
  bool is_real = false;  // whether real numbers came, so that real numbers go out
  Few<Feed> feed_list;
  Few<Sink> sink_list;
  Few<py::object> arrays;  // of the answers
  py::object held;         // inputs that came in a dict
  std::optional<Taker> any_size;
  Record record;
  std::vector<Record> record_list;
  mutable std::vector<std::pair<std::size_t, py::object>> alarms;  // by inference
};

HotCall::HotCall(Parts parts)
    : inference_lock_(std::move(parts.inference_lock)),
      signals_(parts.signals),
      bank_(parts.monitor),
      monitor_(make_monitor(parts)),
      inputs_(OutsideTensor::all(parts.inputs)),
      outputs_(OutsideTensor::all(parts.outputs)),
      arrays_(outputs_.begin(), outputs_.end()),
      prediction_(std::move(parts.prediction), {"id", "output", "label", "confidence", "trusted",
                                                "verified", "quarantined", "alarms"}),
      predictions_(std::move(parts.predictions), {"ids", "output", "labels", "confidence",
                                                  "trusted", "verified", "quarantined", "alarms"}),
      trusted_(std::move(parts.trusted)),
      first_id_(parts.first_id),
      handle_(std::move(parts.handle)),
      ended_(std::move(parts.ended)),
      clock_(std::move(parts.clock)),
      shape_(std::move(parts.shape)),
      path_(initialised<BoundPass>("signals", signals_).pass(), *monitor_,
            OutsideTensor::outsides(inputs_), OutsideTensor::outsides(outputs_), parts.pace,
            parts.sweeping),
      loop_(path_, *inference_lock_, *this) {
  has_classes_ = signals_.cast<BoundPass&>().pass().has_labels();
  path_.trust_by(&trusted_->is_set);
}

std::unique_ptr<runtime::Monitor> HotCall::make_monitor(const Parts& parts) {
  if (py::isinstance<InferenceMonitor>(parts.monitor)) {
    return std::make_unique<runtime::BankMonitor>(
        initialised<InferenceMonitor>("monitor", parts.monitor));
  }
  if (PyCallable_Check(parts.monitor.ptr()) == 0) {
    refuse_type("monitor", "an InferenceMonitor or a function", type_name(parts.monitor));
  }
  if (PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(parts.measurement.ptr()), &PyTuple_Type) ==
      0) {
    refuse_type("measurement", "a named tuple",
                parts.measurement.attr("__qualname__").cast<std::string>());
  }
  auto made = std::make_unique<PythonMonitor>(parts.monitor, parts.measurement, gate_);
  python_monitor_ = made.get();
  return made;
}

void HotCall::require_turn() const {
  if (!inference_lock_->is_of_another()) return;
  throw std::runtime_error("inference_lock: expected it free or this thread's, got another's");
}

void HotCall::attach(py::object engine, int embedding, bool is_proven) {
  require_turn();
  Engine* const next = engine.is_none() ? nullptr : &initialised<Engine>("engine", engine);
  if (next != nullptr) {
    const auto same = [](std::span<const runtime::TensorMemory> memory,
                         const std::vector<OutsideTensor>& tensors, bool is_any_size) {
      return std::equal(memory.begin(), memory.end(), tensors.begin(), tensors.end(),
                        [is_any_size](const auto& place, const auto& tensor) {
                          return is_any_size || place.nbytes == tensor.outside.nbytes;
                        });
    };
    const bool is_any_size = dynamic_cast<PythonEngine*>(next) != nullptr;
    if (!same(next->inputs(), inputs_, false) || !same(next->outputs(), outputs_, is_any_size)) {
      throw std::invalid_argument("engine: expected one with this model's tensors, got others");
    }
    if (embedding >= static_cast<int>(next->taps().size())) {
      refuse("embedding", "a tap of the engine", static_cast<double>(embedding));
    }
  }
  path_.attach(next, embedding, is_proven);
  loop_.reset_timing();
  python_engine_ = dynamic_cast<PythonEngine*>(next);
  const bool is_running = path_.is_running();
  retired_ = is_running ? std::move(engine_) : py::object();
  retired_memory_ = is_running ? std::move(engine_memory_) : nullptr;
  engine_ = std::move(engine);
  engine_memory_ = next == nullptr ? nullptr : next->memory();
}

void HotCall::guard(const std::vector<std::shared_ptr<HeldGuard>>& guards,
                    std::shared_ptr<FairLock> maintenance_lock, std::vector<bool> executing,
                    bool is_all_watched) {
  require_turn();
  path_.is_all_watched = is_all_watched;
  std::vector<ImageGuard*> plain;
  plain.reserve(guards.size());
  for (const auto& one : guards) {
    if (!one) refuse_type("guards", "guards of images", "None");
    plain.push_back(&one->get());
  }
  path_.guard(std::move(plain), maintenance_lock.get(), std::move(executing));
  watch_.clear();
  for (const auto& one : guards) watch_.add(one->image);
  guards_ = guards;
  maintenance_lock_ = std::move(maintenance_lock);
}

py::list HotCall::findings() const {
  py::list list;
  for (const HotPath::Damage& damage : path_.damage()) {
    list.append(py::make_tuple(damage.image, damage.finding));
  }
  return list;
}

bool HotCall::has_reals() const noexcept {
  return std::all_of(outputs_.begin(), outputs_.end(), [](const OutsideTensor& tensor) {
    return tensor.has_reals || !tensor.is_quantized;
  });
}

std::size_t HotCall::memory_bytes() const {
  std::size_t total =
      sizeof *this - sizeof path_ + path_.memory_bytes() + guards_.capacity() * sizeof(guards_[0]);
  for (const OutsideTensor& tensor : inputs_) total += tensor.memory_bytes();
  for (const OutsideTensor& tensor : outputs_) total += tensor.memory_bytes();
  for (const AnswerArrays& arrays : arrays_) total += arrays.memory_bytes();
  return total + (python_engine_ != nullptr ? python_engine_->memory_bytes() : 0);
}

// One input's array, into the request; false where Python has to look at it.
bool HotCall::read_one(std::size_t index, py::handle x, Request& request) const {
  const Array* const array = plain_array(x);
  if (array == nullptr) return false;
  const OutsideTensor& input = inputs_[index];
  const bool is_own = array->descr == input.dtype.ptr() && input.is_number;
  const bool is_real = !is_own && input.has_reals && array->descr == float32();
  if (!is_own && !is_real) return false;
  const Form form = input.form_of(array->nd, array->dimensions);
  const std::size_t count = form == Form::kSingle || form == Form::kNone
                                ? 1
                                : static_cast<std::size_t>(array->dimensions[0]);
  if (index == 0) {
    request.form = form;
    request.count = count;
  }
  if (form == Form::kNone || form != request.form || count != request.count || count == 0) {
    return false;
  }
  const std::size_t elements = input.outside.elements;
  if ((is_real || input.is_float32) &&
      !all_finite({reinterpret_cast<const float*>(array->data), count * elements})) {
    return false;
  }
  request.is_real = request.is_real || is_real;
  request.feed_list[index] = {reinterpret_cast<const std::byte*>(array->data),
                              is_real ? elements * sizeof(float) : input.outside.nbytes, is_real};
  return true;
}

bool HotCall::read(py::handle x, Request& request) const {
  if (inference_lock_->forked() || watch_.is_cut()) return false;
  if (!PyDict_CheckExact(x.ptr())) return inputs_.size() == 1 && read_one(0, x, request);
  if (static_cast<std::size_t>(PyDict_GET_SIZE(x.ptr())) != inputs_.size()) return false;
  py::list held(inputs_.size());
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    PyObject* const value = PyDict_GetItemWithError(x.ptr(), inputs_[i].name.ptr());
    if (value == nullptr) {
      PyErr_Clear();  // Python looks at it, and says what is wrong
      return false;
    }
    if (!read_one(i, value, request)) return false;
    // What is called meanwhile, and other threads, may change the dict.
    PyList_SET_ITEM(held.ptr(), static_cast<py::ssize_t>(i), py::handle(value).inc_ref().ptr());
  }
  request.held = std::move(held);
  return !inputs_.empty();
}

bool HotCall::make_sinks(Request& request, py::handle out) {
  if (request.is_real && !has_reals()) return false;
  if (python_engine_ != nullptr) {
    if (!out.is_none()) return false;
    request.taker = &request.any_size.emplace(*this, request.count);
    return true;
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const OutsideTensor& output = outputs_[i];
    const bool is_real = request.is_real && output.has_reals;
    if (out.is_none()) {
      request.arrays[i] = arrays_[i].make(request.form, request.count, is_real);
    } else {
      if (outputs_.size() != 1 || !arrays_[i].fits(out, request.form, request.count, is_real)) {
        return false;
      }
      request.arrays[i] = py::reinterpret_borrow<py::object>(out);
    }
    request.sink_list[i] = {
        reinterpret_cast<std::byte*>(py::detail::array_proxy(request.arrays[i].ptr())->data),
        is_real ? output.outside.elements * sizeof(float) : output.outside.nbytes, is_real};
  }
  request.sinks = request.sink_list.span();
  if (out.is_none()) return true;
  // An answer must not be written over inputs that are still to be read.
  const Sink& sink = request.sink_list[0];
  return std::none_of(request.feeds.begin(), request.feeds.end(), [&](const Feed& feed) {
    return feed.data < sink.data + request.count * sink.stride &&
           sink.data < feed.data + request.count * feed.stride;
  });
}

void HotCall::want_records(Request& request) const {
  if (request.form == Form::kSingle) {
    request.records = {&request.record, 1};
  } else {
    request.record_list.resize(request.count);
    request.records = request.record_list;
  }
}

py::object HotCall::predict(py::handle x, py::handle out) {
  Request request(*this);
  if (!read(x, request) || !make_sinks(request, out)) return py::none();
  try {
    loop_.run(request);
  } catch (const runtime::Closed&) {
    return py::none();
  }
  return answer(request);
}

py::object HotCall::infer(py::handle x) {
  Request request(*this);
  if (!read(x, request) || !make_sinks(request, py::none())) return py::none();
  want_records(request);
  try {
    loop_.run(request);
  } catch (const runtime::Closed&) {
    return py::none();
  }
  return request.form == Form::kSingle ? prediction(request) : predictions(request);
}

py::object HotCall::serve(const std::vector<py::array>& rows, std::string_view form, bool is_real,
                          const py::object& nonfinite, bool with_records) {
  if (rows.size() != inputs_.size() || rows.empty()) {
    throw std::invalid_argument("rows: expected one array for every input");
  }
  if (watch_.is_cut()) {
    throw std::runtime_error("guards: expected live images to sweep, got a released one");
  }
  Request request(*this);
  request.form = form_named(form);
  request.is_real = is_real;
  request.count = rows[0].ndim() == 0 ? 0 : static_cast<std::size_t>(rows[0].shape(0));
  if (request.count == 0) throw std::invalid_argument("rows: expected one inference at least");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    require_contiguous(rows[i], "rows");
    const std::size_t nbytes = inputs_[i].outside.nbytes;
    if (static_cast<std::size_t>(rows[i].nbytes()) != request.count * nbytes) {
      throw std::invalid_argument("rows: expected n values of each input");
    }
    request.feed_list[i] = {static_cast<const std::byte*>(rows[i].data()), nbytes, false};
  }
  py::array_t<std::int64_t, py::array::c_style> counts;
  if (!nonfinite.is_none()) {
    counts = nonfinite.cast<decltype(counts)>();
    if (static_cast<std::size_t>(counts.size()) != request.count) {
      throw std::invalid_argument("nonfinite: expected one count for every inference");
    }
    request.nonfinite = counts.data();
  }
  if (!make_sinks(request, py::none())) {
    throw std::invalid_argument("real: expected levels for this model, got real numbers");
  }
  if (with_records) want_records(request);
  loop_.run(request);
  if (!with_records) return answer(request);
  return request.form == Form::kSingle ? prediction(request) : predictions(request);
}

py::object HotCall::answer(Request& request) const {
  if (request.any_size) {
    auto& answers = request.any_size->answers();
    if (request.form == Form::kSingle && !request.is_real && outputs_.size() == 1) {
      return py::reinterpret_borrow<py::object>(PyList_GET_ITEM(answers[0].ptr(), 0));
    }
    return shape_(py::cast(answers), name_of(request.form), request.is_real);
  }
  if (outputs_.size() == 1) return std::move(request.arrays[0]);
  py::dict named;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (PyDict_SetItem(named.ptr(), outputs_[i].name.ptr(), request.arrays[i].ptr()) != 0) {
      throw py::error_already_set();
    }
  }
  return named;
}

py::object HotCall::prediction(Request& request) const {
  const Record& record = request.record;
  const bool has_label = record.label >= 0;
  return prediction_.make({
      py::int_(first_id_ + static_cast<std::int64_t>(record.number)),
      answer(request),
      has_label ? py::object(py::int_(record.label)) : py::none(),
      has_label ? py::object(py::float_(record.confidence)) : py::none(),
      py::bool_(record.is_trusted),
      verified_name(record.verified),
      py::bool_(record.is_quarantined),
      request.alarms_of(0),
  });
}

py::object HotCall::predictions(Request& request) const {
  const auto count = static_cast<py::ssize_t>(request.count);
  py::array_t<std::int64_t> ids(count);
  py::array_t<std::int64_t> labels(count);
  py::array_t<double> confidence(count);
  py::array_t<bool> trusted(count);
  py::array_t<bool> quarantined(count);
  py::tuple verified(count);
  for (std::size_t i = 0; i < request.count; ++i) {
    const Record& record = request.records[i];
    data_of<std::int64_t>(ids)[i] = first_id_ + static_cast<std::int64_t>(record.number);
    data_of<std::int64_t>(labels)[i] = record.label;
    data_of<double>(confidence)[i] =
        record.label < 0 ? std::numeric_limits<double>::quiet_NaN() : record.confidence;
    data_of<bool>(trusted)[i] = record.is_trusted;
    data_of<bool>(quarantined)[i] = record.is_quarantined;
    PyTuple_SET_ITEM(verified.ptr(), static_cast<py::ssize_t>(i),
                     verified_name(record.verified).release().ptr());
  }
  py::tuple alarms(count);
  for (py::ssize_t i = 0; i < count; ++i) alarms[i] = no_alarms();
  for (const auto& [index, raised] : request.alarms) alarms[index] = raised;
  return predictions_.make({
      std::move(ids),
      answer(request),
      has_classes_ ? py::object(std::move(labels)) : py::none(),
      has_classes_ ? py::object(std::move(confidence)) : py::none(),
      std::move(trusted),
      std::move(verified),
      std::move(quarantined),
      std::move(alarms),
  });
}

bool HotCall::again() {
  if (loop_.again()) return true;
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return false;
}

void HotCall::attend(const runtime::Job& job, std::size_t index, std::uint32_t up) {
  const py::object error = (up & runtime::kRunFailed) != 0 ? fetch_error() : py::none();
  if (!error.is_none() && PyObject_IsInstance(error.ptr(), PyExc_Exception) != 1) raise(error);
  py::object raised = py::none();
  if (python_monitor_ != nullptr && (up & runtime::kAlarm) != 0) {
    raised = python_monitor_->take_alarms();
  }
  py::object alarms = checked(call(handle_.ptr(), {py::int_(up).ptr(), error.ptr(), raised.ptr()}));
  if ((up & runtime::kAlarm) == 0 || job.records.empty()) return;
  // Every job of this loop is a request.
  static_cast<const Request&>(job).keep_alarms(index, std::move(alarms));
}

void HotCall::fail() { raise(fetch_error()); }

// What a signal's handler raises, as KeyboardInterrupt, ends a batch.
void HotCall::check_interrupts() {
  if (or_stay(PyErr_CheckSignals) != 0) throw py::error_already_set();
}

void HotCall::enter(FairLock& lock) {
  PyThreadState* const thread = PyEval_SaveThread();
  lock.enter();
  take_gil(thread);
}

void HotCall::give_way(FairLock& lock) {
  PyThreadState* const thread = PyEval_SaveThread();
  lock.give_way();
  take_gil(thread);
}

}  // namespace selfheal::python
