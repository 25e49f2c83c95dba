#pragma once

// A HotPath as Python holds it: with the objects that it works on, and its way in for one array.

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "held.hpp"
#include "hot_path.hpp"

namespace selfheal::python {

/// A tensor as users see it.
struct OutsideTensor {
  py::dtype dtype;
  std::vector<py::ssize_t> shape;
  double scale = 0.0;  // 0: not quantised
  std::int32_t zero_point = 0;
  std::size_t nbytes = 0;

  bool is_quantized() const noexcept { return scale > 0.0; }
  runtime::Outside levels() const;
};

class HotCall {
 public:
  /// The model was closed, maybe meanwhile.
  struct Closed : std::exception {};

  using Tensor = std::tuple<py::dtype, std::vector<py::ssize_t>, double, std::int32_t>;

  HotCall(std::shared_ptr<runtime::TurnLock> turn, py::object signals, py::object monitor,
          const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, py::object attend,
          py::object ended, py::object clock, runtime::HotPath::Pace pace);

  /// The answer to one array; None where this is not the way for it.
  py::object predict(py::handle x, py::handle out);
  /// n inferences from arrays of shape (n, *shape) in the tensors' own dtypes, checked before.
  void serve(const std::vector<py::array>& rows, std::vector<py::array>& results,
             const py::object& nonfinite);
  /// Inside `attend`: serves the inference that is attended to anew.
  bool again();

  void attach(py::object engine, int embedding);
  void guard(const std::vector<std::shared_ptr<HeldGuard>>& guards,
             std::shared_ptr<runtime::TurnLock> care);
  py::list findings() const;

  runtime::HotPath& path() noexcept { return path_; }
  const runtime::HotPath& path() const noexcept { return path_; }

 private:
  struct Job {
    std::span<const runtime::Feed> feeds;
    std::span<const runtime::Sink> sinks;
    const std::int64_t* nonfinite;
    std::size_t count;
  };
  class Turn;
  enum class Form : std::uint8_t { kNone, kSingle, kLeading, kFirst };

  Form form_of(int ndim, const py::ssize_t* shape) const noexcept;
  py::object out_array(Form form, std::size_t count, bool is_real, py::handle given);
  py::object recycled(PyObject* dtype, std::size_t rank, const py::ssize_t* shape);
  void keep(const py::object& array);
  void run(const Job& job);
  void loop(const Job& job, Turn& turn, bool& is_attended);
  void give_way(const Job& job, Turn& turn);
  runtime::HotPath::Progress serve_without_lock(std::size_t first, std::size_t end, double now,
                                                double until);

  std::shared_ptr<runtime::TurnLock> turn_;
  py::object signals_;
  py::object monitor_;
  std::vector<OutsideTensor> inputs_;
  std::vector<OutsideTensor> outputs_;
  py::object attend_;
  py::object ended_;
  py::object clock_;
  runtime::HotPath path_;
  py::object engine_;
  // Of one inference: short ones keep the interpreter's lock, since to give it away and take it
  // back costs more than anybody could do meanwhile.
  double seconds_ = 1.0;
  double shortest_ = 1.0;
  std::uint32_t timed_ = 0;
  std::shared_ptr<runtime::TurnLock> care_;
  std::vector<std::shared_ptr<HeldGuard>> guards_;
  struct Kept {
    py::object array;
    const void* data = nullptr;
  };
  std::array<Kept, 2> kept_;  // the latest answers
  std::size_t oldest_ = 0;
  const Job* job_ = nullptr;  // the one that is being served
  std::size_t attended_ = 0;
};

}  // namespace selfheal::python
