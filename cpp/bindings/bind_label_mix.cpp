#include "bindings.hpp"
#include "pickled.hpp"
#include "selfheal/detect/label_mix.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

constexpr const char* kLabels = "a 1-D int64 array";

py::array require_labels(py::handle object) {
  py::array array = require_array(object, "labels", kLabels);
  if (!has_dtype<std::int64_t>(array) || array.ndim() != 1) {
    refuse_type("labels", kLabels, describe(array));
  }
  require_contiguous(array, "labels");
  return array;
}

py::list events(const LabelReference& self) {
  py::list found;
  for (const LabelReference::Event& event : self.events()) {
    py::dict one;
    one["label"] = event.label < 0 ? py::object(py::none()) : py::int_(event.label);
    one["complement"] = event.is_complement;
    one["count"] = event.count;
    one["runs"] = event.runs;
    found.append(std::move(one));
  }
  return found;
}

py::array_t<std::int64_t> update_many(LabelMix& self, py::handle labels) {
  const py::array array = require_labels(labels);
  std::vector<std::int64_t> told;
  std::int64_t index = 0;
  for (const std::int64_t label : as_span<std::int64_t>(array)) {
    if (self.update(label)) told.push_back(index);
    ++index;
  }
  return to_array(std::move(told));
}

py::dict change(const LabelMix& self) {
  const LabelMix::Change found = self.change();
  const auto index = [](std::int64_t at) {
    return at < 0 ? py::object(py::none()) : py::object(py::int_(at));
  };
  py::dict told;
  told["label"] = index(found.label);
  told["direction"] = found.direction;
  told["share"] = found.share;
  told["reference"] = found.reference;
  told["statistic"] = found.statistic;
  told["magnitude"] = std::fabs(found.onset.shift);
  told["onset"] = index(found.onset.estimate);
  told["earliest"] = index(found.onset.earliest);
  told["since_start"] = found.onset.since_start;
  return told;
}

}  // namespace

void bind_label_mix(py::module_& m) {
  define_function(
      m, "count_run_length",
      [](double begin, double stay, std::uint32_t rise_begin, std::uint32_t rise_stay,
         std::uint32_t limit, bool falling) {
        if (!(begin > 0.0 && begin < 1.0)) refuse("begin", "a probability", begin);
        if (!(stay >= 0.0 && stay < 1.0)) refuse("stay", "a probability", stay);
        const CountChart chart{rise_begin, rise_stay, limit};
        if (rise_begin < 1 || rise_begin > CountChart::kMostWeight) {
          refuse("weight_begin", "1 to 511", rise_begin);
        }
        if (rise_stay > CountChart::kMostWeight) refuse("weight_stay", "0 to 511", rise_stay);
        return std::exp(falling ? log_falling_run({begin, stay}, chart)
                                : log_rising_run({begin, stay}, chart));
      },
      arg("begin"), arg("stay"), arg("weight_begin"), arg("weight_stay"), arg("limit"),
      arg("falling") = false, "Compute the mean number of samples until a counting chart alarms.");

  Class<LabelReference> reference(m, "LabelReference", "The mix of classes in normal operation.");
  reference
      .def(constructor([](py::handle labels, std::int64_t classes) {
             const py::array array = require_labels(labels);
             const std::size_t below = to_size("classes", classes, 1);
             const selfheal::python::ReleasedGil released;
             return LabelReference(as_span<std::int64_t>(array), below);
           }),
           arg("labels"), arg("classes"))
      .def_property_readonly("classes", &LabelReference::classes, "Classes of the model.")
      .def_property_readonly("samples", &LabelReference::samples, "Labels of the calibration.")
      .def_property_readonly("events", &events, "What is counted, one dict each.")
      .def_property_readonly("bunching", &LabelReference::bunching,
                             "How many times as fast counts vary as those of chains do.")
      .def_property_readonly("wanders", &LabelReference::wanders,
                             "Whether counts vary more the longer they are.")
      .def_property_readonly("independent_labels", &LabelReference::independent_labels,
                             "How many independent labels would tell as much.")
      .def_property_readonly("changes", &LabelReference::changes,
                             "Runs of all classes but the one that has most of them.")
      .def_property_readonly("is_supported", &LabelReference::is_supported,
                             "Whether a chart can keep a promise on it.")
      .def(
          "state", [](const LabelReference& self) { return to_bytes(self.state()); },
          "Give the state as bytes, for from_state.");
  reference.def_static(
      "from_state",
      [](const py::bytes& blob) { return LabelReference::from_state(as_bytes(blob)); },
      arg("state"), "Restore the same reference.");
  define_pickle<LabelReference>(reference);

  Class<LabelMix> mix(m, "LabelMix", "Hears when the mix of predicted classes changes.");
  mix.def(constructor([](const LabelReference& held, double arl0, bool latch) {
            return LabelMix(held, arl0, latch);
          }),
          arg("reference"), arg("arl0"), arg("latch") = false)
      .def("update", &LabelMix::update, arg("label"), "Take one label; negative: none.")
      .def("update_many", &update_many, arg("labels"),
           "Take labels in order; return the indices of changes that were told.")
      .def_property_readonly("change", &change, "What was told last, or is closest to it.")
      .def_property_readonly("latched", &LabelMix::is_latched,
                             "Whether a change was told that goes on.")
      .def_property_readonly("looks_normal", &LabelMix::looks_normal,
                             "Whether the latest 64 labels look like the reference.")
      .def_property_readonly("reference", &LabelMix::reference, "What it compares with.")
      .def_property_readonly("arl0", &LabelMix::arl0, "Updates between false alarms.")
      .def_property_readonly("count", &LabelMix::count, "Updates.")
      .def(
          "charts",
          [](const LabelMix& self, std::int64_t event) {
            if (std::cmp_greater_equal(event, self.reference().events().size())) {
              refuse("event", "less than the number of events", static_cast<double>(event));
            }
            py::list all;
            for (const CountChart& one : self.charts(to_size("event", event))) {
              all.append(py::make_tuple(one.begin, one.stay, one.limit));
            }
            return all;
          },
          arg("event"), "Weights and limits of an event's charts: up, far up, down.")
      .def("accept", &LabelMix::accept, "Take the mix since the change for normal.")
      .def("restart", &LabelMix::restart, "Start charts at zero; latches stay.")
      .def("reset", &LabelMix::reset, "Start as new, on the reference of now.");
  mix.def(
         "state", [](const LabelMix& self) { return to_bytes(self.state()); },
         "Give the state as bytes, for from_state.")
      .def("memory_bytes", &LabelMix::memory_bytes, "Bytes held, fixed at construction.");
  mix.def_static(
      "from_state", [](const py::bytes& blob) { return LabelMix::from_state(as_bytes(blob)); },
      arg("state"), "Restore an object that continues bit for bit.");
  define_pickle<LabelMix>(mix);
}
