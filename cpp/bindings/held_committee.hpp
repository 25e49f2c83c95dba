#pragma once

// A Committee as Python holds it: with its members' weights, whom it asks, and its answers.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "outside_tensor.hpp"
#include "selfheal/learn/committee.hpp"
#include "slotted.hpp"

namespace selfheal::python {

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
                bool is_heard);
  HeldCommittee(const HeldCommittee&) = delete;
  HeldCommittee& operator=(const HeldCommittee&) = delete;

  /// Gives a place to a member: all of it, or where that throws nothing.
  void seat(std::int64_t member, py::object infer, py::object loop, const std::string& scores,
            const py::dtype& dtype, double scale, std::int32_t zero_point, double temperature);

  void note(std::int64_t member, py::object state) { seat_of(member).seen = std::move(state); }
  void silence(std::int64_t member, std::optional<std::uint64_t> until) {
    seat_of(member).asked_from = until.value_or(kNever);
  }
  bool has_changed() const noexcept;

  /// Asks the members whose answers are not in the list yet, until one raises: that, or None.
  py::object ask(PyObject* x, py::list answers) const;

  /// The face's answer to one sample, with the lock.
  py::object answer(PyObject* face, PyObject* x, Wanted wanted);
  /// Whether it is an array of one sample that all members take.
  bool is_plain(PyObject* x) const noexcept;

  py::object losses(std::int64_t id, py::handle label, bool is_wrong) const;

  py::object kept(std::int64_t id) const;

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
  void set_names(py::tuple names);
  Committee& core() noexcept { return committee_; }
  const Committee& core() const noexcept { return committee_; }
  const std::shared_ptr<FixedShare>& share() const noexcept { return share_; }
  std::size_t memory_bytes() const noexcept {
    return committee_.memory_bytes() + share_->memory_bytes() + output_.memory_bytes() +
           answers_.memory_bytes();
  }

 private:
  struct Seat {
    py::dtype raw;
    std::size_t count;
    py::object infer{};
    py::object loop{};
    Py_ssize_t state_slot = 0;
    py::object seen{};             // the loop's state that was looked at last
    std::uint64_t asked_from = 0;  // after so many answers
  };

  Seat& seat_of(std::int64_t member);

  /// A member's answer, None from one that is silent; null with an error where it raises.
  py::object asked(std::size_t member, PyObject* x) const;
  /// What a member raised, which others may make good; anything but an Exception is thrown.
  static py::object take_error();

  void require_open() const;

  py::object answer_in_turn(PyObject* face, PyObject* x, Wanted wanted);

  /// The answers as the face has them after what is out of the ordinary.
  py::tuple attended(PyObject* face, PyObject* x, const py::tuple& given, std::size_t count,
                     const py::object& error) const;

  Committee::Verdict combine(const py::tuple& given);

  py::object combined();

  bool is_returning() const noexcept;

  void read_answer(std::size_t member, PyObject* given, Committee::Answer& out) const;

  void renew_weights();

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
  OutsideTensor output_;
  AnswerArrays answers_;
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
