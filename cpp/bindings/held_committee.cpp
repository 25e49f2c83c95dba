#include "held_committee.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "plain_array.hpp"
#include "python_parts.hpp"
#include "turn.hpp"

namespace selfheal::python {
namespace {

Committee::Combine to_combine(const std::string& name) {
  if (name == "mean") return Committee::Combine::kMean;
  if (name == "vote") return Committee::Combine::kVote;
  if (name == "best") return Committee::Combine::kBest;
  refuse("combine", "'mean', 'vote' or 'best'", std::string_view(quoted(name)));
}

Committee::Scores to_scores(const std::string& name) {
  if (name == "probabilities") return Committee::Scores::kProbabilities;
  if (name == "logits") return Committee::Scores::kLogits;
  if (name == "sigmoid") return Committee::Scores::kSigmoid;
  if (name == "values") return Committee::Scores::kValues;
  refuse("scores", "'probabilities', 'logits', 'sigmoid' or 'values'",
         std::string_view(quoted(name)));
}

Committee::Number to_number(const py::dtype& dtype) {
  if (dtype.equal(py::dtype::of<float>())) return Committee::Number::kFloat32;
  if (dtype.equal(py::dtype::of<std::int8_t>())) return Committee::Number::kInt8;
  if (dtype.equal(py::dtype::of<std::uint8_t>())) return Committee::Number::kUint8;
  if (dtype.equal(py::dtype::of<std::int16_t>())) return Committee::Number::kInt16;
  refuse_type("dtype", "float32, int8, uint8 or int16", py::str(dtype));
}

/// A name of Python's, made once and never let go.
PyObject* interned_name(const char* text) { return PyUnicode_InternFromString(text); }

}  // namespace

HeldCommittee::HeldCommittee(std::shared_ptr<FixedShare> share, py::object lock, std::size_t width,
                             std::size_t capacity, const std::string& combine, bool has_classes,
                             std::vector<py::ssize_t> input_shape, std::vector<py::ssize_t> shape,
                             const py::type& answer, py::type prediction, py::tuple names,
                             std::int64_t first_id, bool is_heard)
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
      output_({"output", real_, shape_, 0.0, 0}),
      answers_(output_),
      seats_(share_->members(), Seat{real_, width}),
      first_id_(first_id),
      is_heard_(is_heard) {
  py::ssize_t size = 1;
  for (const py::ssize_t n : shape_) size *= n;
  const bool is_sigmoid = has_classes && width == 2 && size == 1;
  if (size != static_cast<py::ssize_t>(width) && !is_sigmoid) {
    refuse("shape", "that of " + std::to_string(width) + " values", static_cast<std::size_t>(size));
  }
  is_single_ = is_sigmoid;
  for (int i = 0; i < 2; ++i) answers_.make(Form::kSingle, 1, true);  // memory is fixed from here
}

void HeldCommittee::seat(std::int64_t member, py::object infer, py::object loop,
                         const std::string& scores, const py::dtype& dtype, double scale,
                         std::int32_t zero_point, double temperature) {
  const std::size_t index = to_size("member", member);
  const Committee::Reader reader{to_scores(scores), to_number(dtype), scale, zero_point,
                                 temperature};
  const Py_ssize_t slot = slot_offset(py::type::of(loop), "state");
  committee_.set_reader(index, reader);
  Seat& seat = seats_[index];
  seat.raw = dtype;
  seat.count = reader.scores == Committee::Scores::kSigmoid ? 1 : committee_.width();
  seat.infer = std::move(infer);
  seat.state_slot = slot;
  seat.loop = std::move(loop);
  seat.seen = py::none();
  seat.asked_from = 0;
}

bool HeldCommittee::has_changed() const noexcept {
  bool has = false;
  for (const Seat& seat : seats_) {
    has |= seat.loop && slot_of(seat.loop.ptr(), seat.state_slot) != seat.seen.ptr();
  }
  return has;
}

py::object HeldCommittee::ask(PyObject* x, py::list answers) const {
  while (answers.size() < seats_.size()) {
    py::object answer = asked(answers.size(), x);
    if (!answer) return take_error();
    answers.append(std::move(answer));
  }
  return py::none();
}

py::object HeldCommittee::answer(PyObject* face, PyObject* x, Wanted wanted) {
  py::object made = answer_in_turn(face, x, wanted);
  static PyObject* const deliver = interned_name("_deliver");
  if (is_heard_) checked(or_stay([=] { return PyObject_CallMethodNoArgs(face, deliver); }));
  return made;
}

bool HeldCommittee::is_plain(PyObject* x) const noexcept {
  const Array* const array = plain_array(x);
  return array != nullptr && (takes_raw_ || array->descr == real_.ptr()) &&
         static_cast<std::size_t>(array->nd) == input_shape_.size() &&
         std::equal(input_shape_.begin(), input_shape_.end(), array->dimensions);
}

py::object HeldCommittee::losses(std::int64_t id, py::handle label, bool is_wrong) const {
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

py::object HeldCommittee::kept(std::int64_t id) const {
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

void HeldCommittee::set_names(py::tuple names) {
  if (names.size() != committee_.members()) {
    refuse("names", std::to_string(committee_.members()) + " of them", names.size());
  }
  names_ = std::move(names);
}

HeldCommittee::Seat& HeldCommittee::seat_of(std::int64_t member) {
  const std::size_t index = to_size("member", member);
  if (index >= seats_.size()) refuse("member", "one of the members", index);
  return seats_[index];
}

py::object HeldCommittee::asked(std::size_t member, PyObject* x) const {
  const Seat& seat = seats_[member];
  if (seat.asked_from > committee_.number()) return py::none();
  const py::object infer = seat.infer;  // what it calls may give its place away
  return py::reinterpret_steal<py::object>(call(infer.ptr(), {x}));
}

py::object HeldCommittee::take_error() {
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw py::error_already_set();
  const py::error_already_set error;
  return error.value();
}

void HeldCommittee::require_open() const {
  if (!lock_->forked() && !lock_->is_closed()) return;
  scope_.attr("check")();
  throw std::runtime_error("check: expected to say why no thread may enter");
}

py::object HeldCommittee::answer_in_turn(PyObject* face, PyObject* x, Wanted wanted) {
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

py::tuple HeldCommittee::attended(PyObject* face, PyObject* x, const py::tuple& given,
                                  std::size_t count, const py::object& error) const {
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

Committee::Verdict HeldCommittee::combine(const py::tuple& given) {
  std::array<Committee::Answer, FixedShare::kMostMembers> read{};
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    read_answer(i, PyTuple_GET_ITEM(given.ptr(), static_cast<py::ssize_t>(i)), read[i]);
  }
  return committee_.combine({read.data(), seats_.size()}, share_->weights());
}

py::object HeldCommittee::combined() {
  py::object output = answers_.make(Form::kSingle, 1, true);
  auto* const to = reinterpret_cast<float*>(py::detail::array_proxy(output.ptr())->data);
  const std::span<const float> from = committee_.combined();
  if (is_single_) {
    to[0] = from[1];
  } else {
    std::copy(from.begin(), from.end(), to);
  }
  return output;
}

bool HeldCommittee::is_returning() const noexcept {
  bool is = false;
  for (std::size_t i = 0; i < seats_.size(); ++i) is |= share_->is_returning(i);
  return is;
}

void HeldCommittee::read_answer(std::size_t member, PyObject* given, Committee::Answer& out) const {
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
  int is_large = 0;  // without it, Python takes five times as long
  out.id = id == nullptr ? -1 : PyLong_AsLongLongAndOverflow(id, &is_large);
  if (out.id == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  out.is_trusted = slot_of(given, trusted_slot_) == Py_True;
}

void HeldCommittee::renew_weights() {
  py::tuple made(committee_.members());
  for (std::size_t i = 0; i < committee_.members(); ++i) {
    made[i] = py::float_(share_->weight(i));
  }
  weights_ = std::move(made);
  seen_ = share_->version();
}

}  // namespace selfheal::python
