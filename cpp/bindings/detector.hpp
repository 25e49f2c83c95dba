#pragma once

// What every detector's Python class has.

#include <optional>
#include <variant>

#include "arrays.hpp"
#include "class.hpp"
#include "fast_update.hpp"
#include "pickled.hpp"
#include "selfheal/base/state_codec.hpp"

namespace selfheal::python {

/// One Python class over several C++ ones: a detector and what it is compatible with.
template <typename... Charts>
struct AnyOf {
  std::variant<Charts...> held;

  template <typename F>
  auto visit(F&& f) {
    return std::visit(std::forward<F>(f), held);
  }
  template <typename F>
  auto visit(F&& f) const {
    return std::visit(std::forward<F>(f), held);
  }
  // NOLINTNEXTLINE(bugprone-exception-escape): a chart is always held, and none throws
  bool update(double x) noexcept {
    return visit([x](auto& chart) { return chart.update(x); });
  }
  template <typename T, typename OnAlarm>
  void update_many(std::span<const T> samples, OnAlarm&& on_alarm) {
    visit([&](auto& chart) { chart.update_many(samples, on_alarm); });
  }
  bool drift_detected() const {
    return visit([](const auto& chart) { return chart.drift_detected(); });
  }
  bool is_latched() const {
    return visit([](const auto& chart) { return chart.is_latched(); });
  }
  void accept() {
    visit([](auto& chart) { chart.accept(); });
  }
  bool since_start() const {
    return visit([](const auto& chart) { return chart.change().since_start; });
  }
  double statistic() const {
    return visit([](const auto& chart) { return chart.statistic(); });
  }
  int direction() const {
    return visit([](const auto& chart) { return chart.direction(); });
  }
  double magnitude() const {
    return visit([](const auto& chart) { return chart.magnitude(); });
  }
  std::int64_t onset() const {
    return visit([](const auto& chart) { return chart.onset(); });
  }
  std::int64_t onset_earliest() const {
    return visit([](const auto& chart) { return chart.onset_earliest(); });
  }
  std::uint64_t count() const {
    return visit([](const auto& chart) { return chart.count(); });
  }
  std::uint64_t skipped() const {
    return visit([](const auto& chart) { return chart.skipped(); });
  }
  void reset() {
    visit([](auto& chart) { chart.reset(); });
  }
  std::size_t memory_bytes() const {
    return visit([](const auto& chart) { return chart.memory_bytes(); });
  }
  std::vector<std::byte> state() const {
    return visit([](const auto& chart) { return chart.state(); });
  }
  static AnyOf from_state(std::span<const std::byte> blob) { return restore<Charts...>(blob); }

 private:
  template <typename First, typename... Rest>
  static AnyOf restore(std::span<const std::byte> blob) {
    if constexpr (sizeof...(Rest) == 0) {
      return {First::from_state(blob)};
    } else {
      try {
        return {First::from_state(blob)};
      } catch (const StateTypeError&) {
        return restore<Rest...>(blob);
      }
    }
  }
};

inline std::optional<std::int64_t> index_or_none(std::int64_t index) {
  return index < 0 ? std::nullopt : std::optional(index);
}

template <typename Detector>
py::array_t<std::int64_t> update_many(Detector& detector, py::handle samples) {
  if (py::isinstance<py::array>(samples)) {
    const auto table = py::reinterpret_borrow<py::array>(samples);
    if (table.ndim() == 2) {
      refuse("samples", "a 1-D array (update_channels and MonitorBank take a column a signal)",
             std::string_view(describe(table)));
    }
  }
  return with_floats(samples, "samples", [&](auto span) {
    std::vector<std::int64_t> alarms;
    {
      const selfheal::python::ReleasedGil released;
      detector.update_many(span,
                           [&](std::size_t i) { alarms.push_back(static_cast<std::int64_t>(i)); });
    }
    return to_array(std::move(alarms));
  });
}

// state and what follows from it. A class derived in Python restores and clones its own: a copy is
// made by __new__ and __setstate__, as copy and pickle do.
template <typename Detector>
void define_detector_state(Class<Detector>& cls) {
  cls.def(
         "state", [](const Detector& self) { return to_bytes(self.state()); },
         "Give the whole state as a versioned, checksummed blob.")
      .def(pickled_by([](const Detector& self) { return to_bytes(self.state()); },
                      &from_pickle<Detector>))
      .def(
          "clone",
          [](const py::object& self) {
            py::object made = py::type::of(self).attr("from_state")(self.attr("state")());
            made.attr("reset")();
            return made;
          },
          "Make a new one with the same parameters.")
      .def("memory_bytes", &Detector::memory_bytes, "Bytes held, fixed at construction.");
  cls.def_classmethod(
      "from_state",
      [](const py::type& type, const py::bytes& state) {
        Detector restored = Detector::from_state(as_bytes(state));  // within what it may cost
        if (type.is(py::type::of<Detector>())) return py::cast(std::move(restored));
        py::object made = type.attr("__new__")(type);
        made.attr("__setstate__")(state);
        return made;
      },
      arg("cls"), arg("state"), "Restore an object that continues bit for bit.");
}

template <typename Detector>
bool is_since_start(const Detector& self) {
  if constexpr (requires { self.change(); }) {
    return self.change().since_start;
  } else {
    return self.since_start();
  }
}

template <typename Detector>
void define_detector(Class<Detector>& cls) {
  define_fast_update<Detector>(cls);
  cls.def("update_many", &update_many<Detector>, arg("samples"),
          "Take samples in order; return the int64 positions of those that raised the alarm.")
      .def_property_readonly("drift_detected", &Detector::drift_detected,
                             "Whether the last update raised the alarm.")
      .def_property_readonly("statistic", &Detector::statistic, "What is compared with the limit.")
      .def_property_readonly("direction", &Detector::direction, "+1 up, -1 down, 0 unknown.")
      .def_property_readonly("magnitude", &Detector::magnitude,
                             "Most likely size of the shift, in standard deviations; 0 unknown.")
      .def_property_readonly(
          "onset", [](const Detector& self) { return index_or_none(self.onset()); },
          "Most likely index of the first changed sample, or None.")
      .def_property_readonly(
          "onset_earliest",
          [](const Detector& self) { return index_or_none(self.onset_earliest()); },
          "95 % bound: the change did not begin before this index; or None.")
      .def_property_readonly("onset_since_start", &is_since_start<Detector>,
                             "Whether the change may be as old as the detector's latest start.")
      .def_property_readonly("latched", &Detector::is_latched,
                             "Whether a lasting shift was told, and goes on.")
      .def("accept", &Detector::accept, "Take what is now for normal.")
      .def_property_readonly("count", &Detector::count, "Updates, skipped ones included.")
      .def_property_readonly("skipped", &Detector::skipped, "Updates with NaN or infinity.")
      .def("reset", &Detector::reset, "Start as new.");
  define_detector_state(cls);
}

}  // namespace selfheal::python
