#pragma once

// A HotPath as Python holds it: with the objects that it works on, and its ways in for arrays.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "held.hpp"
#include "hot_path.hpp"
#include "inference_loop.hpp"
#include "outside_tensor.hpp"
#include "python_parts.hpp"
#include "slotted.hpp"

namespace selfheal::python {

/// A truth that any thread may set, and that the hot path reads.
struct Flag {
  std::atomic<bool> is_set{true};
};

class HotCall : private runtime::Host {
 public:
  struct Parts {
    std::shared_ptr<runtime::FairLock> inference_lock;
    py::object signals;
    py::object monitor;  ///< the core's own, or a function: measurement -> alarms
    py::type measurement;
    std::vector<OutsideTensor::Description> inputs;
    std::vector<OutsideTensor::Description> outputs;
    py::type prediction;
    py::type predictions;
    std::shared_ptr<Flag> trusted;
    std::int64_t first_id = 0;  ///< of the inference with number 0
    py::object handle;          ///< (up, error, alarms) -> alarms
    py::object ended;
    py::object clock;
    py::object shape;  ///< (answers, form, is_real) -> answer: of answers of any size
    runtime::HotPath::Pace pace;
    runtime::HotPath::Sweeping sweeping = runtime::HotPath::Sweeping::kHeals;
  };

  explicit HotCall(Parts parts);

  /// The answer to arrays; None where this is not the way for them.
  py::object predict(py::handle x, py::handle out);
  /// The Prediction, or Predictions of a batch; None likewise.
  py::object infer(py::handle x);
  /// The same for arrays of shape (n, *shape) in the tensors' own dtypes, checked before.
  py::object serve(const std::vector<py::array>& rows, std::string_view form, bool is_real,
                   const py::object& nonfinite, bool with_records);
  /// Inside `handle`: serves the inference that is being handled anew.
  bool again();

  void attach(py::object engine, int embedding, bool is_proven);
  /// Corrects the only input from now on, if its bytes say so; null: never.
  void correct(std::shared_ptr<runtime::InputCorrection> correction) {
    require_turn();
    if (correction != nullptr &&
        (inputs_.size() != 1 || correction->elements() != inputs_[0].outside.elements ||
         correction->type() != inputs_[0].outside.type || !inputs_[0].is_number)) {
      throw std::invalid_argument("correction: expected one of this model's only input");
    }
    path_.correct(correction.get());
    correction_ = std::move(correction);
  }
  /// Looks at the first input of each inference from now on; null: no more.
  void watch(std::shared_ptr<runtime::ConditionWatch> conditions) {
    require_turn();
    if (conditions != nullptr && (conditions->elements() != inputs_[0].outside.elements ||
                                  conditions->type() != inputs_[0].outside.type ||
                                  conditions->nbytes() != inputs_[0].outside.nbytes)) {
      throw std::invalid_argument("conditions: expected one of this model's first input");
    }
    path_.watch(conditions.get());
    conditions_ = std::move(conditions);
  }
  void guard(const std::vector<std::shared_ptr<HeldGuard>>& guards,
             std::shared_ptr<runtime::FairLock> maintenance_lock, std::vector<bool> executing,
             bool is_all_watched);
  py::list findings() const;
  /// Throws unless this thread may change what is served: another one may be in the middle of it.
  void require_turn() const;
  bool has_reals() const noexcept;
  std::size_t memory_bytes() const;

  runtime::HotPath& path() noexcept { return path_; }
  const runtime::HotPath& path() const noexcept { return path_; }

 private:
  struct Request;
  class Taker;

  bool read(py::handle x, Request& request) const;
  bool read_one(std::size_t index, py::handle x, Request& request) const;
  bool make_sinks(Request& request, py::handle out);
  void want_records(Request& request) const;
  py::object answer(Request& request) const;
  py::object prediction(Request& request) const;
  py::object predictions(Request& request) const;

  bool has_clock() const noexcept override { return !clock_.is_none(); }
  double now() override { return checked(call_no_args(clock_.ptr())).cast<double>(); }
  void attend(const runtime::Job& job, std::size_t index, std::uint32_t up) override;
  [[noreturn]] void fail() override;
  void forget_failure() noexcept override { PyErr_Clear(); }
  void check_interrupts() override;
  void ended() override { checked(call_no_args(ended_.ptr())); }
  void enter(runtime::FairLock& lock) override;
  void give_way(runtime::FairLock& lock) override;
  void release_interpreter() noexcept override { gate_.released = PyEval_SaveThread(); }
  void take_interpreter() noexcept override { take_gil(std::exchange(gate_.released, nullptr)); }

  std::unique_ptr<runtime::Monitor> make_monitor(const Parts& parts);

  std::shared_ptr<runtime::FairLock> inference_lock_;
  py::object signals_;
  py::object bank_;  // what the monitor refers to
  GilGate gate_;
  PythonMonitor* python_monitor_ = nullptr;  // the monitor, if it is one
  std::unique_ptr<runtime::Monitor> monitor_;
  std::vector<OutsideTensor> inputs_;
  std::vector<OutsideTensor> outputs_;
  std::vector<AnswerArrays> arrays_;  // one an output
  Slotted<8> prediction_;
  Slotted<8> predictions_;
  std::shared_ptr<Flag> trusted_;
  std::int64_t first_id_;
  bool has_classes_;
  py::object handle_;
  py::object ended_;
  py::object clock_;
  py::object shape_;
  runtime::HotPath path_;
  runtime::InferenceLoop loop_;
  py::object engine_;
  py::object retired_;  // an engine that was replaced while it ran
  std::shared_ptr<const void> engine_memory_;
  std::shared_ptr<const void> retired_memory_;
  PythonEngine* python_engine_ = nullptr;  // engine_, if it is one
  std::shared_ptr<runtime::InputCorrection> correction_;
  std::shared_ptr<runtime::ConditionWatch> conditions_;
  std::shared_ptr<runtime::FairLock> maintenance_lock_;
  std::vector<std::shared_ptr<HeldGuard>> guards_;
  Watch watch_;
};

}  // namespace selfheal::python
