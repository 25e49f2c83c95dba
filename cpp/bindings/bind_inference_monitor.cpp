#include "bindings.hpp"
#include "pickled.hpp"
#include "selfheal/measure/inference_monitor.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

using FlatRule = std::pair<std::int64_t, double>;
using FewRule = std::tuple<std::int64_t, double, std::int64_t, std::int64_t>;

std::uint32_t weight(std::int64_t value) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(kMost, std::max<std::int64_t>(0, value)));
}

std::unique_ptr<InferenceMonitor> make_monitor(const std::vector<Reference>& references,
                                               double arl0, const std::vector<FlatRule>& flat,
                                               std::int64_t max_repeats, std::int64_t max_frozen,
                                               bool latch, const std::vector<FewRule>& few,
                                               const std::optional<LabelReference>& labels,
                                               std::optional<double> label_arl0) {
  std::vector<InferenceMonitor::Flat> rules;
  rules.reserve(flat.size());
  for (const auto& [index, least] : flat) rules.push_back({to_size("flat", index), least});
  std::vector<InferenceMonitor::Few> kinds;
  kinds.reserve(few.size());
  for (const auto& [index, cut, rise, limit] : few) {
    kinds.push_back({to_size("few", index), cut, weight(rise), weight(limit)});
  }
  const std::size_t repeats = to_size("max_repeats", max_repeats);
  const std::size_t frozen = to_size("max_frozen", max_frozen);
  const selfheal::python::ReleasedGil released;
  std::optional<MonitorBank> bank;
  if (!references.empty())
    bank.emplace(std::vector<std::vector<Reference>>{references}, arl0, false, latch);
  std::optional<LabelMix> mix;
  if (labels) mix.emplace(*labels, label_arl0.value_or(arl0), latch);
  return std::make_unique<InferenceMonitor>(std::move(bank), std::move(rules), repeats, frozen,
                                            latch, std::move(kinds), std::move(mix));
}

bool update(InferenceMonitor& self, py::handle values, bool repeats_previous,
            std::int64_t nonfinite, bool same_answer, std::int64_t label) {
  constexpr const char* kExpected = "a 1-D float64 array, one value a signal";
  const py::array array = require_array(values, "values", kExpected);
  if (!has_dtype<double>(array) || array.ndim() != 1 ||
      static_cast<std::size_t>(array.size()) != self.signals()) {
    refuse_type("values", kExpected, describe(array));
  }
  require_contiguous(array, "values");
  return self
      .update(as_span<double>(array), repeats_previous, to_size("nonfinite", nonfinite),
              same_answer, label)
      .any();
}

py::array_t<double> window(const InferenceMonitor& self) {
  const auto spans = self.window().spans();
  const auto width = static_cast<py::ssize_t>(self.window().width());
  std::vector<double> values(spans.older.begin(), spans.older.end());
  values.insert(values.end(), spans.newer.begin(), spans.newer.end());
  const auto rows = static_cast<py::ssize_t>(values.size()) / width;
  return py::array_t<double>(to_array(std::move(values)).reshape({rows, width}));
}

}  // namespace

void bind_inference_monitor(py::module_& m) {
  Class<InferenceMonitor> cls(m, "InferenceMonitor",
                              "A bank of charts, and what needs no chart: repeats, flat inputs.");
  cls.def(constructor(&make_monitor), arg("references"), arg("arl0"), kw_only(), arg("flat"),
          arg("max_repeats"), arg("max_frozen") = 0, arg("latch") = false, arg("few") = kNoItems,
          arg("labels") = nullptr, arg("label_arl0") = nullptr)
      .def("update", &update, arg("values"), arg("repeats_previous"), arg("nonfinite"),
           arg("same_answer") = false, arg("label") = -1,
           "Take one inference; say whether it raises any alarm.")
      .def("settled", &InferenceMonitor::settled,
           "Whether the latest 64 updates raised no alarm and look like the reference.")
      .def("accept", &InferenceMonitor::accept, "Take lasting shifts that were told for normal.")
      .def("reset", &InferenceMonitor::reset, "Forget charts and history; counters go on.")
      .def_property_readonly("label_mix", &InferenceMonitor::label_mix,
                             "The chart of predicted classes, or None.")
      .def_property_readonly(
          "label_mix_alarm", [](const InferenceMonitor& s) { return s.alarms().label_mix; },
          "Whether the last update raised this alarm.")
      .def_property_readonly("bank", &InferenceMonitor::bank, "The bank, or None.")
      .def_property_readonly("window", &window, "Scores of the latest updates, oldest first.")
      .def_property_readonly(
          "nonfinite_alarm", [](const InferenceMonitor& s) { return s.alarms().nonfinite; },
          "Whether the last update raised this alarm.")
      .def_property_readonly(
          "flat_alarm", [](const InferenceMonitor& s) { return s.alarms().flat; },
          "Whether the last update raised this alarm.")
      .def_property_readonly(
          "repeats_alarm", [](const InferenceMonitor& s) { return s.alarms().repeats; },
          "Whether the last update raised this alarm.")
      .def_property_readonly(
          "frozen_alarm", [](const InferenceMonitor& s) { return s.alarms().frozen; },
          "Whether the last update raised this alarm.")
      .def_property_readonly(
          "few_alarms",
          [](const InferenceMonitor& self) {
            std::vector<std::size_t> told;
            for (std::size_t i = 0; i < self.few().size(); ++i) {
              if (self.few_counts()[i].is_told) told.push_back(i);
            }
            return told;
          },
          "Which counts of rare samples raised an alarm in the last update.")
      .def_property_readonly(
          "few_counts",
          [](const InferenceMonitor& self) {
            py::list counts;
            for (const InferenceMonitor::FewCount& one : self.few_counts()) {
              counts.append(py::make_tuple(one.level, one.since, one.begun, one.is_held));
            }
            return counts;
          },
          "Level, count before the first since it was zero, runs since then, and whether told.")
      .def_property_readonly(
          "bank_alarm", [](const InferenceMonitor& s) { return s.alarms().bank; },
          "Whether the last update raised an alarm of the bank.")
      .def_property_readonly("count", &InferenceMonitor::count, "Updates, ever.")
      .def_property_readonly("repeats", &InferenceMonitor::repeats, "Equal inputs in a row.")
      .def_property_readonly("flats", &InferenceMonitor::flats, "Flat inputs in a row.")
      .def_property_readonly("max_repeats", &InferenceMonitor::max_repeats, "Repeats that alarm.")
      .def_property_readonly("frozen", &InferenceMonitor::frozen,
                             "Equal answers in a row to inputs that differ.")
      .def_property_readonly("max_frozen", &InferenceMonitor::max_frozen,
                             "Equal answers that alarm.")
      .def_property_readonly("nonfinite", &InferenceMonitor::nonfinite,
                             "Values that were NaN or infinite, ever.")
      .def_property_readonly("last_nonfinite", &InferenceMonitor::last_nonfinite,
                             "Values of the last update that were.");
  cls.def(
         "copy", [](const InferenceMonitor& self) { return InferenceMonitor(self); },
         "Copy it as it is, for another thread to take its state.")
      .def(
          "state",
          [](const InferenceMonitor& self, bool history) {
            const auto kept =
                history ? InferenceMonitor::History::kKept : InferenceMonitor::History::kLeftOut;
            std::vector<std::byte> blob;
            {
              const selfheal::python::ReleasedGil released;
              blob = self.state(kept);
            }
            return to_bytes(blob);
          },
          arg("history") = true, "Give the state as bytes, for from_state.");
  cls.def_static(
      "from_state",
      [](const py::bytes& blob) { return InferenceMonitor::from_state(as_bytes(blob)); },
      arg("state"), "Restore an object that continues bit for bit.");
  cls.def("memory_bytes", &InferenceMonitor::memory_bytes, "Bytes held, fixed at construction.");
  define_pickle<InferenceMonitor>(cls);
}
