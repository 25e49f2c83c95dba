#pragma once

// A Committee as Python holds it: with its members' weights, whom it asks, and its answers.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fast_update.hpp"
#include "plain_array.hpp"
#include "python_parts.hpp"
#include "selfheal/learn/committee.hpp"
#include "slotted.hpp"
#include "turn.hpp"

namespace selfheal::python {

inline Committee::Combine to_combine(const std::string& name) {
  if (name == "mean") return Committee::Combine::kMean;
  if (name == "vote") return Committee::Combine::kVote;
  if (name == "best") return Committee::Combine::kBest;
  refuse("combine", "'mean', 'vote' or 'best'", std::string_view(quoted(name)));
}

inline Committee::Scores to_scores(const std::string& name) {
  if (name == "probabilities") return Committee::Scores::kProbabilities;
  if (name == "logits") return Committee::Scores::kLogits;
  if (name == "sigmoid") return Committee::Scores::kSigmoid;
  if (name == "values") return Committee::Scores::kValues;
  refuse("scores", "'probabilities', 'logits', 'sigmoid' or 'values'",
         std::string_view(quoted(name)));
}

inline Committee::Number to_number(const py::dtype& dtype) {
  if (dtype.equal(py::dtype::of<float>())) return Committee::Number::kFloat32;
  if (dtype.equal(py::dtype::of<std::int8_t>())) return Committee::Number::kInt8;
  if (dtype.equal(py::dtype::of<std::uint8_t>())) return Committee::Number::kUint8;
  if (dtype.equal(py::dtype::of<std::int16_t>())) return Committee::Number::kInt16;
  refuse_type("dtype", "float32, int8, uint8 or int16", py::str(dtype));
}

/// A name of Python's, made once and never let go.
inline PyObject* interned_name(const char* text) { return PyUnicode_InternFromString(text); }

/// A Committee with its members' weights, that asks them and gives answers as Python has them.
///
/// What is out of the ordinary is the face's, which is handed in and not kept: `_attend(x, answers,
/// error)` gives the answers to combine where a member raised, all are silent, one of them is in
/// another state than when it was looked at or answers again, and `_follow()` acts where members
/// part too often or one returns, and where they part at all from the answer on that it has named.
class HeldCommittee {
 public:
  enum class Wanted : std::uint8_t { kAll, kOutput };
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  HeldCommittee(std::shared_ptr<FixedShare> share, py::object lock, std::size_t width,
                std::size_t capacity, const std::string& combine, bool has_classes,
                std::vector<py::ssize_t> input_shape, std::vector<py::ssize_t> shape,
                const py::type& answer, py::type prediction, py::tuple names, std::int64_t first_id,
                bool is_heard)
      : share_(std::move(share)),
        scope_(std::move(lock)),
        lock_(scope_.attr("core").cast<std::shared_ptr<runtime::FairLock>>()),
        committee_(share_->members(), width, capacity, to_combine(combine), has_classes),
        input_shape_(std::move(input_shape)),
        shape_(std::move(shape)),
        answer_(answer),
        output_slot_(slot_offset(answer, "output")),
        trusted_slot_(slot_offset(answer, "trusted")),
        id_slot_(slot_offset(answer, "id")),
        prediction_(std::move(prediction), {"id", "output", "label", "confidence", "trusted",
                                            "parted", "names", "weights", "answers"}),
        names_(std::move(names)),
        real_(py::dtype::of<float>()),
        seats_(share_->members(), Seat{real_, width}),
        first_id_(first_id),
        is_heard_(is_heard) {
    py::ssize_t size = 1;
    for (const py::ssize_t n : shape_) size *= n;
    const bool is_sigmoid = has_classes && width == 2 && size == 1;
    if (size != static_cast<py::ssize_t>(width) && !is_sigmoid) {
      refuse("shape", "that of " + std::to_string(width) + " values",
             static_cast<std::size_t>(size));
    }
    is_single_ = is_sigmoid;
  }

  /// Gives a place to a member: all of it, or where that throws nothing.
  void seat(std::int64_t member, py::object infer, py::object loop, const std::string& scores,
            const py::dtype& dtype, double scale, std::int32_t zero_point, double temperature) {
    const std::size_t index = to_size("member", member);
    const Committee::Reader reader{to_scores(scores), to_number(dtype), scale, zero_point,
                                   temperature};
    committee_.set_reader(index, reader);
    Seat& seat = seats_[index];
    seat.raw = dtype;
    seat.count = reader.scores == Committee::Scores::kSigmoid ? 1 : committee_.width();
    seat.infer = std::move(infer);
    seat.loop = std::move(loop);
    seat.seen = py::none();
    seat.asked_from = 0;
  }

  void note(std::int64_t member, py::object state) { seat_of(member).seen = std::move(state); }
  void silence(std::int64_t member, std::optional<std::uint64_t> until) {
    seat_of(member).asked_from = until.value_or(kNever);
  }
  bool has_changed() const {
    static PyObject* const name = interned_name("state");
    bool has = false;
    for (const Seat& seat : seats_) {
      has |= !checked(PyObject_GetAttr(seat.loop.ptr(), name)).is(seat.seen);
    }
    return has;
  }

  /// Asks the members whose answers are not in the list yet, until one raises: that, or None.
  py::object ask(PyObject* x, py::list answers) const {
    while (answers.size() < seats_.size()) {
      py::object answer = asked(answers.size(), x);
      if (!answer) return take_error();
      answers.append(std::move(answer));
    }
    return py::none();
  }

  /// The face's answer to one sample, with the lock.
  py::object answer(PyObject* face, PyObject* x, Wanted wanted) {
    py::object made = answer_in_turn(face, x, wanted);
    static PyObject* const deliver = interned_name("_deliver");
    if (is_heard_) checked(or_stay([=] { return PyObject_CallMethodNoArgs(face, deliver); }));
    return made;
  }
  /// Whether it is an array of one sample that all members take.
  bool is_plain(PyObject* x) const noexcept {
    const Array* const array = plain_array(x);
    return array != nullptr && (takes_raw_ || array->descr == real_.ptr()) &&
           static_cast<std::size_t>(array->nd) == input_shape_.size() &&
           std::equal(input_shape_.begin(), input_shape_.end(), array->dimensions);
  }

  py::object losses(std::int64_t id, py::handle label, bool is_wrong) const {
    std::array<double, FixedShare::kMostMembers> found{};
    const std::span<double> losses(found.data(), committee_.members());
    const std::uint64_t number = number_of(id);
    bool is_there = false;
    if (committee_.has_classes()) {
      const std::size_t of = to_size("label", label.cast<std::int64_t>());
      if (of >= committee_.width()) {
        refuse("label", "0 to " + std::to_string(committee_.width() - 1), of);
      }
      is_there = is_wrong ? committee_.losses_of_wrong(number, of, losses)
                          : committee_.losses_of_class(number, of, losses);
    } else {
      const py::array target = require_array(label, "target", "a float32 array");
      if (!has_dtype<float>(target) ||
          static_cast<std::size_t>(target.size()) != committee_.width()) {
        refuse_type("target", "float32 of as many values as an answer has", describe(target));
      }
      require_contiguous(target, "target");
      is_there = committee_.losses_of_values(number, as_span<float>(target), losses);
    }
    if (!is_there) return py::none();
    return to_array(std::vector<double>(losses.begin(), losses.end()));
  }

  py::object kept(std::int64_t id) const {
    const std::uint64_t number = number_of(id);
    if (!committee_.holds(number)) return py::none();
    const auto members = static_cast<py::ssize_t>(committee_.members());
    const auto width = static_cast<py::ssize_t>(committee_.width());
    py::array_t<float> out({members, width});
    float* to = out.mutable_data();
    for (std::size_t i = 0; i < committee_.members(); ++i, to += width) {
      const std::span<const float> from = committee_.kept(number, i);
      if (from.empty()) {
        std::fill_n(to, width, std::numeric_limits<float>::quiet_NaN());
      } else {
        std::copy(from.begin(), from.end(), to);
      }
    }
    return out;
  }

  std::uint64_t number_of(std::int64_t id) const noexcept {
    return id > first_id_ ? static_cast<std::uint64_t>(id - first_id_) : 0;
  }
  bool takes_raw() const noexcept { return takes_raw_; }
  void set_takes_raw(bool takes) noexcept { takes_raw_ = takes; }
  bool is_on_call() const noexcept { return is_on_call_; }
  void set_on_call(bool is) noexcept { is_on_call_ = is; }
  bool take_alarm() noexcept { return std::exchange(alarmed_, false); }
  bool take_parting() noexcept { return std::exchange(has_parted_, false); }
  void follow_partings_from(std::uint64_t number) noexcept { partings_from_ = number; }
  std::int64_t first_id() const noexcept { return first_id_; }
  const py::tuple& names() const noexcept { return names_; }
  void set_names(py::tuple names) {
    if (names.size() != committee_.members()) {
      refuse("names", std::to_string(committee_.members()) + " of them", names.size());
    }
    names_ = std::move(names);
  }
  Committee& core() noexcept { return committee_; }
  const Committee& core() const noexcept { return committee_; }
  const std::shared_ptr<FixedShare>& share() const noexcept { return share_; }
  std::size_t memory_bytes() const noexcept {
    return committee_.memory_bytes() + share_->memory_bytes();
  }

 private:
  struct Seat {
    py::dtype raw;
    std::size_t count;
    py::object infer{};
    py::object loop{};
    py::object seen{};             // the loop's state that was looked at last
    std::uint64_t asked_from = 0;  // after so many answers
  };

  Seat& seat_of(std::int64_t member) {
    const std::size_t index = to_size("member", member);
    if (index >= seats_.size()) refuse("member", "one of the members", index);
    return seats_[index];
  }

  /// A member's answer, None from one that is silent; null with an error where it raises.
  py::object asked(std::size_t member, PyObject* x) const {
    const Seat& seat = seats_[member];
    if (seat.asked_from > committee_.number()) return py::none();
    const py::object infer = seat.infer;  // what it calls may give its place away
    return py::reinterpret_steal<py::object>(call(infer.ptr(), {x}));
  }
  /// What a member raised, which others may make good; anything but an Exception is thrown.
  static py::object take_error() {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw py::error_already_set();
    const py::error_already_set error;
    return error.value();
  }

  void require_open() const {
    if (!lock_->forked() && !lock_->is_closed()) return;
    scope_.attr("check")();
    throw std::runtime_error("check: expected to say why no thread may enter");
  }

  py::object answer_in_turn(PyObject* face, PyObject* x, Wanted wanted) {
    if (lock_->forked()) require_open();
    const Turn turn(*lock_);
    require_open();
    py::tuple given(seats_.size());
    bool is_usual = false;
    py::object error = py::none();
    std::size_t count = 0;
    for (; count < seats_.size(); ++count) {
      py::object one = asked(count, x);
      if (!one) {
        error = take_error();
        break;
      }
      is_usual |= !one.is_none();
      if (!one.is_none() && seats_[count].asked_from != 0) has_returned_ = true;
      PyTuple_SET_ITEM(given.ptr(), static_cast<py::ssize_t>(count), one.release().ptr());
    }
    if (!error.is_none() || !is_usual || has_returned_ || has_changed()) {
      has_returned_ = false;
      given = attended(face, x, given, count, error);
    }
    if (seen_ != share_->version()) renew_weights();
    const py::tuple weights = weights_;
    const Committee::Verdict found = combine(given);
    py::object output = combined();
    const bool is_followed = found.is_parted && committee_.number() >= partings_from_;
    if (is_followed || (found.is_alarm && found.is_parted) || is_returning()) {
      alarmed_ |= found.is_alarm;
      has_parted_ |= is_followed;
      static PyObject* const follow = interned_name("_follow");
      checked(or_stay([=] { return PyObject_CallMethodNoArgs(face, follow); }));
    }
    if (wanted == Wanted::kOutput) return output;
    const bool has_label = found.label >= 0;
    return prediction_.make({
        py::int_(first_id_ + static_cast<std::int64_t>(committee_.number())),
        std::move(output),
        has_label ? py::object(py::int_(found.label)) : py::none(),
        has_label ? py::object(py::float_(found.confidence)) : py::none(),
        py::bool_(found.is_trusted && !is_on_call_),
        py::bool_(found.is_parted),
        names_,
        weights,
        given,
    });
  }

  /// The answers as the face has them after what is out of the ordinary.
  py::tuple attended(PyObject* face, PyObject* x, const py::tuple& given, std::size_t count,
                     const py::object& error) const {
    py::list told(count);
    for (std::size_t i = 0; i < count; ++i) {
      PyList_SET_ITEM(told.ptr(), static_cast<py::ssize_t>(i),
                      Py_NewRef(PyTuple_GET_ITEM(given.ptr(), static_cast<py::ssize_t>(i))));
    }
    static PyObject* const attend = interned_name("_attend");
    PyObject* const arguments[] = {face, x, told.ptr(), error.ptr()};
    const py::object answers =
        checked(or_stay([&] { return PyObject_VectorcallMethod(attend, arguments, 4, nullptr); }));
    if (PyList_Check(answers.ptr()) == 0 ||
        static_cast<std::size_t>(PyList_GET_SIZE(answers.ptr())) != seats_.size()) {
      refuse_type("_attend", "a list of one answer a member", type_name(answers));
    }
    return py::reinterpret_steal<py::tuple>(checked(PyList_AsTuple(answers.ptr())).release());
  }

  Committee::Verdict combine(const py::tuple& given) {
    std::array<Committee::Answer, FixedShare::kMostMembers> read{};
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      read_answer(i, PyTuple_GET_ITEM(given.ptr(), static_cast<py::ssize_t>(i)), read[i]);
    }
    return committee_.combine({read.data(), seats_.size()}, share_->weights());
  }

  py::object combined() const {
    py::object output = new_array(real_.ptr(), shape_.size(), shape_.data());
    auto* const to = reinterpret_cast<float*>(py::detail::array_proxy(output.ptr())->data);
    const std::span<const float> from = committee_.combined();
    if (is_single_) {
      to[0] = from[1];
    } else {
      std::copy(from.begin(), from.end(), to);
    }
    return output;
  }

  bool is_returning() const noexcept {
    bool is = false;
    for (std::size_t i = 0; i < seats_.size(); ++i) is |= share_->is_returning(i);
    return is;
  }

  void read_answer(std::size_t member, PyObject* given, Committee::Answer& out) const {
    if (given == Py_None) return;
    if (Py_TYPE(given) != reinterpret_cast<PyTypeObject*>(answer_.ptr())) {
      refuse_type("answers", "those of single samples", type_name(given));
    }
    PyObject* const output = slot_of(given, output_slot_);
    const Array* const array = output == nullptr ? nullptr : plain_array(output);
    if (array == nullptr) refuse_type("answers", "plain arrays", "others");
    std::size_t count = 1;
    for (int i = 0; i < array->nd; ++i) count *= static_cast<std::size_t>(array->dimensions[i]);
    const bool is_real = array->descr == real_.ptr();
    const Seat& seat = seats_[member];
    if (count != seat.count || !(is_real || array->descr == seat.raw.ptr())) {
      refuse_type("answers",
                  std::to_string(seat.count) + " values of float32 or the member's own type",
                  describe(py::reinterpret_borrow<py::array>(output)));
    }
    out.data = array->data;
    out.is_real = is_real;
    PyObject* const id = slot_of(given, id_slot_);
    out.id = id == nullptr ? -1 : PyLong_AsLongLong(id);
    if (out.id == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    out.is_trusted = slot_of(given, trusted_slot_) == Py_True;
  }

  void renew_weights() {
    py::tuple made(committee_.members());
    for (std::size_t i = 0; i < committee_.members(); ++i) {
      made[i] = py::float_(share_->weight(i));
    }
    weights_ = std::move(made);
    seen_ = share_->version();
  }

  std::shared_ptr<FixedShare> share_;
  py::object scope_;
  std::shared_ptr<runtime::FairLock> lock_;
  Committee committee_;
  std::vector<py::ssize_t> input_shape_;
  std::vector<py::ssize_t> shape_;
  py::type answer_;
  Py_ssize_t output_slot_;
  Py_ssize_t trusted_slot_;
  Py_ssize_t id_slot_;
  Slotted<9> prediction_;
  py::tuple names_;
  py::tuple weights_;
  py::dtype real_;
  std::vector<Seat> seats_;
  std::int64_t first_id_;
  std::uint64_t seen_ = ~std::uint64_t{0};
  bool is_single_ = false;
  bool is_heard_;
  bool takes_raw_ = false;
  bool is_on_call_ = false;
  bool has_returned_ = false;
  bool alarmed_ = false;
  bool has_parted_ = false;
  std::uint64_t partings_from_ = 0;  // after so many answers
};

}  // namespace selfheal::python
