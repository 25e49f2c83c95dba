#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "fast_update.hpp"
#include "held_committee.hpp"
#include "joined_method.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

// Bound by hand, as a detector's update is: pybind11's dispatcher takes as long as all the rest.
PyObject* answer(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "answer: expected two arguments");
    return nullptr;
  }
  return guarded([=] {
    return checked_instance_of<HeldCommittee>(self).answer(arguments[0], arguments[1],
                                                           HeldCommittee::Wanted::kAll);
  });
}

/// A committee's method: one sample of plain numbers is answered here, all else by Python.
template <HeldCommittee::Wanted kWanted>
PyObject* answer_plain(PyObject* face, PyObject* core, PyObject* const* arguments) {
  return guarded([=]() -> py::object {
    auto& held = checked_instance_of<HeldCommittee>(core);
    if (!held.is_plain(arguments[0])) return py::none();
    return held.answer(face, arguments[0], kWanted);
  });
}

struct CommitteeInfer {
  static constexpr const char* name = "infer";
  static constexpr const char* signature = "infer($self, x)\n--\n\n";
  static constexpr const char* second = nullptr;
  static PyObject* call(PyObject* self, PyObject* core, PyObject* const* arguments,
                        Py_ssize_t /*count*/) {
    return answer_plain<HeldCommittee::Wanted::kAll>(self, core, arguments);
  }
};

struct CommitteePredict {
  static constexpr const char* name = "predict";
  static constexpr const char* signature = "predict($self, x)\n--\n\n";
  static constexpr const char* second = nullptr;
  static PyObject* call(PyObject* self, PyObject* core, PyObject* const* arguments,
                        Py_ssize_t /*count*/) {
    return answer_plain<HeldCommittee::Wanted::kOutput>(self, core, arguments);
  }
};

}  // namespace

void bind_committee(py::module_& m) {
  Class<HeldCommittee> cls(m, "Committee",
                           "One answer of a few members, from theirs and their weights.");
  cls.def(constructor([](std::shared_ptr<FixedShare> share, py::object lock, std::int64_t width,
                         std::int64_t capacity, const std::string& combine, bool has_classes,
                         std::vector<py::ssize_t> input_shape, std::vector<py::ssize_t> shape,
                         const py::type& answer, py::type prediction, py::tuple names,
                         std::int64_t first_id, bool heard) {
            return std::make_unique<HeldCommittee>(
                std::move(share), std::move(lock), to_size("width", width, 1),
                to_size("capacity", capacity, 1), combine, has_classes, std::move(input_shape),
                std::move(shape), answer, std::move(prediction), std::move(names), first_id, heard);
          }),
          arg("share"), kw_only(), arg("lock"), arg("width"), arg("capacity"), arg("combine"),
          arg("has_classes"), arg("input_shape"), arg("shape"), arg("answer"), arg("prediction"),
          arg("names"), arg("first_id"), arg("heard"))
      .def("seat", &HeldCommittee::seat, arg("member"), kw_only(), arg("infer"), arg("loop"),
           arg("scores"), arg("dtype"), arg("scale"), arg("zero_point"), arg("temperature"),
           "Give a place to a member: whom to ask, whose state to look at, how to read the output.")
      .def("note", &HeldCommittee::note, arg("member"), arg("state"),
           "Take note of the state of a member's loop that was looked at; None: look again.")
      .def("silence", &HeldCommittee::silence, arg("member"), arg("until"),
           "Ask a member after so many answers again; None: never, 0: at once.")
      .def_property_readonly("has_changed", &HeldCommittee::has_changed,
                             "Whether a member's loop has another state than was noted.")
      .def(
          "ask",
          [](const HeldCommittee& self, const py::object& x, py::list answers) {
            return self.ask(x.ptr(), std::move(answers));
          },
          arg("x"), arg("answers"),
          "Ask the members whose answers the list lacks, until one raises: return that, or None.")
      .def_property(
          "takes_raw", [](const HeldCommittee& self) { return self.takes_raw(); },
          [](HeldCommittee& self, bool takes) { self.set_takes_raw(takes); },
          "Whether raw inputs mean the same to all members.")
      .def_property(
          "on_call", [](const HeldCommittee& self) { return self.is_on_call(); },
          [](HeldCommittee& self, bool is) { self.set_on_call(is); },
          "Whether a member serves that should sleep, so that no answer is trusted.")
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
      .def("take_parting", &HeldCommittee::take_parting,
           "Whether members parted, in an answer that was to be followed.")
      .def("follow_partings_from", &HeldCommittee::follow_partings_from, arg("number"),
           "Have partings followed from so many answers on.")
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
  static PyMethodDef method = {
      "answer", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&answer)), METH_FASTCALL,
      "answer($self, face, x, /)\n--\n\n"
      "Ask the members about one sample, and give the committee's answer."};
  define_method(cls, method);
  define_function(m, "committee_infer", &JoinedMethod<CommitteeInfer>::join, arg("cls"),
                  arg("slow"), arg("attribute"),
                  "Make a method `infer(x)` of a class that has the Committee answer which its "
                  "instances have as `attribute`, before it calls `slow`.");
  define_function(m, "committee_predict", &JoinedMethod<CommitteePredict>::join, arg("cls"),
                  arg("slow"), arg("attribute"), "Make a method `predict(x)` likewise.");
}
