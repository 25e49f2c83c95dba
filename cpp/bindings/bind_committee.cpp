#include <array>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "fast_update.hpp"
#include "plain_array.hpp"
#include "python_parts.hpp"
#include "selfheal/learn/committee.hpp"
#include "slotted.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

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

/// A Committee with its members' weights, that takes answers and gives answers as Python has them.
class HeldCommittee {
 public:
  HeldCommittee(std::shared_ptr<FixedShare> share, std::size_t width, std::size_t capacity,
                const std::string& combine, bool has_classes, std::vector<py::ssize_t> shape,
                const py::type& answer, py::type prediction, py::tuple names, std::int64_t first_id)
      : share_(std::move(share)),
        committee_(share_->members(), width, capacity, to_combine(combine), has_classes),
        shape_(std::move(shape)),
        answer_(answer),
        output_slot_(slot_offset(answer, "output")),
        trusted_slot_(slot_offset(answer, "trusted")),
        id_slot_(slot_offset(answer, "id")),
        prediction_(std::move(prediction), {"id", "output", "label", "confidence", "trusted",
                                            "parted", "names", "weights", "answers"}),
        names_(std::move(names)),
        real_(py::dtype::of<float>()),
        raw_(share_->members(), real_),
        counts_(share_->members(), width),
        first_id_(first_id) {
    py::ssize_t size = 1;
    for (const py::ssize_t n : shape_) size *= n;
    const bool is_sigmoid = has_classes && width == 2 && size == 1;
    if (size != static_cast<py::ssize_t>(width) && !is_sigmoid) {
      refuse("shape", "that of " + std::to_string(width) + " values",
             static_cast<std::size_t>(size));
    }
    is_single_ = is_sigmoid;
  }

  void set_reader(std::int64_t member, const std::string& scores, const py::dtype& dtype,
                  double scale, std::int32_t zero_point, double temperature) {
    const std::size_t index = to_size("member", member);
    const Committee::Reader reader{to_scores(scores), to_number(dtype), scale, zero_point,
                                   temperature};
    committee_.set_reader(index, reader);
    raw_[index] = dtype;
    counts_[index] = reader.scores == Committee::Scores::kSigmoid ? 1 : committee_.width();
  }

  py::object combine(PyObject* answers) {
    if (PyList_Check(answers) == 0 ||
        static_cast<std::size_t>(PyList_GET_SIZE(answers)) != committee_.members()) {
      refuse_type("answers", "a list of one a member", type_name(answers));
    }
    const auto given = checked(PyList_AsTuple(answers));
    std::array<Committee::Answer, FixedShare::kMostMembers> read{};
    for (std::size_t i = 0; i < committee_.members(); ++i) {
      read_answer(i, PyTuple_GET_ITEM(given.ptr(), static_cast<py::ssize_t>(i)), read[i]);
    }
    if (seen_ != share_->version()) renew_weights();
    const Committee::Verdict found =
        committee_.combine({read.data(), committee_.members()}, share_->weights());
    alarmed_ |= found.is_alarm;
    py::object output = new_array(real_.ptr(), shape_.size(), shape_.data());
    auto* const to = reinterpret_cast<float*>(py::detail::array_proxy(output.ptr())->data);
    const std::span<const float> from = committee_.combined();
    if (is_single_) {
      to[0] = from[1];
    } else {
      std::copy(from.begin(), from.end(), to);
    }
    const bool has_label = found.label >= 0;
    return prediction_.make({
        py::int_(first_id_ + static_cast<std::int64_t>(committee_.number())),
        std::move(output),
        has_label ? py::object(py::int_(found.label)) : py::none(),
        has_label ? py::object(py::float_(found.confidence)) : py::none(),
        py::bool_(found.is_trusted),
        py::bool_(found.is_parted),
        names_,
        weights_,
        given,
    });
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
  bool take_alarm() noexcept { return std::exchange(alarmed_, false); }
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
    if (count != counts_[member] || !(is_real || array->descr == raw_[member].ptr())) {
      refuse_type("answers",
                  std::to_string(counts_[member]) + " values of float32 or the member's own type",
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
  Committee committee_;
  std::vector<py::ssize_t> shape_;
  py::type answer_;
  Py_ssize_t output_slot_;
  Py_ssize_t trusted_slot_;
  Py_ssize_t id_slot_;
  Slotted<9> prediction_;
  py::tuple names_;
  py::tuple weights_;
  py::dtype real_;
  std::vector<py::dtype> raw_;
  std::vector<std::size_t> counts_;
  std::int64_t first_id_;
  std::uint64_t seen_ = ~std::uint64_t{0};
  bool is_single_ = false;
  bool alarmed_ = false;
};

// Bound by hand, as a detector's update is: pybind11's dispatcher takes as long as all the rest.
PyObject* combine(PyObject* self, PyObject* answers) {
  try {
    return checked_instance_of<HeldCommittee>(self).combine(answers).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace

void bind_committee(py::module_& m) {
  Class<HeldCommittee> cls(m, "Committee",
                           "One answer of a few members, from theirs and their weights.");
  cls.def(constructor([](std::shared_ptr<FixedShare> share, std::int64_t width,
                         std::int64_t capacity, const std::string& combine, bool has_classes,
                         std::vector<py::ssize_t> shape, const py::type& answer,
                         py::type prediction, py::tuple names, std::int64_t first_id) {
            return std::make_unique<HeldCommittee>(
                std::move(share), to_size("width", width, 1), to_size("capacity", capacity, 1),
                combine, has_classes, std::move(shape), answer, std::move(prediction),
                std::move(names), first_id);
          }),
          arg("share"), kw_only(), arg("width"), arg("capacity"), arg("combine"),
          arg("has_classes"), arg("shape"), arg("answer"), arg("prediction"), arg("names"),
          arg("first_id"))
      .def("set_reader", &HeldCommittee::set_reader, arg("member"), kw_only(), arg("scores"),
           arg("dtype"), arg("scale"), arg("zero_point"), arg("temperature"),
           "Say how to read a member's output.")
      .def(
          "set_reach", [](HeldCommittee& self, double reach) { self.core().set_reach(reach); },
          arg("reach"), "Distance of values that counts as a loss of 1.")
      .def(
          "watch",
          [](HeldCommittee& self, double share, double memory, double interval) {
            return self.core().watch(share, memory, interval);
          },
          arg("share"), arg("memory"), arg("interval"),
          "Count partings, of which there is such a share; whether there can be a chart.")
      .def(
          "watch_nothing", [](HeldCommittee& self) { self.core().watch_nothing(); },
          "Count partings without a chart.")
      .def("losses", &HeldCommittee::losses, arg("id"), arg("label"), kw_only(),
           arg("wrong") = false,
           "Losses of the members in a kept answer, NaN for those without; None: not kept.")
      .def("kept", &HeldCommittee::kept, arg("id"),
           "What each member gave: float32 (members, width), NaN without; None: not kept.")
      .def(
          "verdict",
          [](const HeldCommittee& self, std::int64_t id) {
            return self.core().kept_verdict(self.number_of(id));
          },
          arg("id"), "The class that was answered; -1: none, or not kept.")
      .def(
          "labels",
          [](const HeldCommittee& self, std::int64_t id) {
            py::list found;
            for (std::size_t i = 0; i < self.core().members(); ++i) {
              found.append(self.core().kept_label(self.number_of(id), i));
            }
            return py::tuple(found);
          },
          arg("id"), "The class that each member named; -1: none, or not kept.")
      .def(
          "ids",
          [](const HeldCommittee& self, std::int64_t id) {
            py::list found;
            for (std::size_t i = 0; i < self.core().members(); ++i) {
              found.append(self.core().kept_id(self.number_of(id), i));
            }
            return py::tuple(found);
          },
          arg("id"), "Each member's own id of its answer; -1: none, or not kept.")
      .def(
          "parted",
          [](const HeldCommittee& self, std::int64_t id) {
            return self.core().was_parted(self.number_of(id));
          },
          arg("id"), "Whether members that were awake parted; False where it is not kept.")
      .def(
          "importance",
          [](HeldCommittee& self, bool has_parted) { return self.core().importance(has_parted); },
          arg("has_parted"), "Take note of a label; what it counts for, 0 to 1.")
      .def("take_alarm", &HeldCommittee::take_alarm,
           "Whether members parted too often since this was asked last.")
      .def_property_readonly(
          "number", [](const HeldCommittee& self) { return self.core().number(); },
          "Answers so far.")
      .def_property_readonly(
          "capacity", [](const HeldCommittee& self) { return self.core().capacity(); },
          "Answers that are kept.")
      .def_property_readonly(
          "partings", [](const HeldCommittee& self) { return self.core().partings(); },
          "Answers on which members that were awake parted.")
      .def_property_readonly(
          "is_watched", [](const HeldCommittee& self) { return self.core().chart().limit > 0; },
          "Whether partings have a chart.")
      .def_property(
          "names", [](const HeldCommittee& self) { return self.names(); },
          [](HeldCommittee& self, py::tuple names) { self.set_names(std::move(names)); },
          "The members' names, in order.")
      .def_property_readonly(
          "held_from",
          [](const HeldCommittee& self) {
            const std::uint64_t number = self.core().number();
            const std::uint64_t capacity = self.core().capacity();
            return self.first_id() +
                   static_cast<std::int64_t>(number > capacity ? number - capacity + 1 : 1);
          },
          "The id of the oldest answer that is kept, if there is one.")
      .def_property_readonly("first_id", &HeldCommittee::first_id, "Ids are above this.")
      .def("memory_bytes", &HeldCommittee::memory_bytes, "Bytes held, fixed at construction.");
  static PyMethodDef method = {"combine", &combine, METH_O,
                               "combine($self, answers, /)\n--\n\nTake the members' answers to one "
                               "sample, None for none; return the committee's."};
  PyObject* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(cls.ptr()), &method);
  if (descriptor == nullptr) throw py::error_already_set();
  cls.attr("combine") = py::reinterpret_steal<py::object>(descriptor);
}
