#include "bindings.hpp"
#include "detector.hpp"
#include "initialised.hpp"
#include "pickled.hpp"
#include "selfheal/detect/signal_monitor.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

constexpr const char* kSamples = "a 1-D float64 array";
constexpr const char* kRows = "a float32 or float64 array, one value a signal";

// Calls f with the values of an array whose last axis has one value a signal.
template <typename Function>
auto with_rows(const MonitorBank& bank, py::handle object, py::ssize_t ndim, Function&& f) {
  const py::array array = require_array(object, "values", kRows);
  const bool is_float = has_dtype<float>(array);
  if (!is_float && !has_dtype<double>(array)) refuse_type("values", kRows, describe(array));
  if (array.ndim() != ndim || static_cast<std::size_t>(array.shape(ndim - 1)) != bank.signals()) {
    refuse("values",
           std::to_string(ndim) + "-D with " + std::to_string(bank.signals()) +
               " value(s) in its last axis",
           std::string_view(describe(array)));
  }
  require_contiguous(array, "values");
  return is_float ? f(as_span<float>(array)) : f(as_span<double>(array));
}

bool update(MonitorBank& bank, py::handle values) {
  return with_rows(bank, values, 1, [&](auto row) { return bank.update(row); });
}

// Rows (update, signal) of every alarm.
py::array_t<std::int64_t> update_many_rows(MonitorBank& bank, py::handle values) {
  return with_rows(bank, values, 2, [&](auto rows) {
    std::vector<std::int64_t> alarms;
    {
      const selfheal::python::ReleasedGil released;
      const std::size_t width = bank.signals();
      for (std::size_t i = 0; i * width < rows.size(); ++i) {
        if (!bank.update(rows.subspan(i * width, width))) continue;
        for (std::size_t signal = 0; signal < width; ++signal) {
          if (!bank.drift_detected(signal)) continue;
          alarms.push_back(static_cast<std::int64_t>(i));
          alarms.push_back(static_cast<std::int64_t>(signal));
        }
      }
    }
    const auto count = static_cast<py::ssize_t>(alarms.size() / 2);
    return py::array_t<std::int64_t>(to_array(std::move(alarms)).reshape({count, py::ssize_t{2}}));
  });
}

std::size_t signal_index(const MonitorBank& bank, std::int64_t signal) {
  if (signal < 0 || std::cmp_greater_equal(signal, bank.signals())) {
    refuse("signal", "an integer from 0 to " + std::to_string(bank.signals() - 1),
           static_cast<double>(signal));
  }
  return static_cast<std::size_t>(signal);
}

// What is called with a signal's index, as a method.
template <typename F>
auto of_signal(F) {
  return +[](const MonitorBank& bank, std::int64_t signal) {
    return F{}(bank, signal_index(bank, signal));
  };
}

py::dict thresholds(const MonitorBank& bank, std::size_t signal) {
  const BankThresholds& solved = bank.thresholds(signal);
  py::dict result;
  result["k"] = BankCharts::kAllowance;
  result["upper"] = solved.cusum[0];
  result["lower"] = solved.cusum[1];
  result["certain_upper"] = solved.certain[0];
  result["certain_lower"] = solved.certain[1];
  result["tail_cut"] = std::array{solved.tail[0].cut, solved.tail[1].cut};
  result["tail_rise"] = std::array{solved.tail[0].rise, solved.tail[1].rise};
  result["tail_limit"] = std::array{solved.tail[0].limit, solved.tail[1].limit};
  return result;
}

std::vector<std::size_t> left_out(const MonitorBank& bank, std::size_t signal) {
  std::vector<std::size_t> charts;
  for (std::size_t chart = 0; chart < MonitorBank::kCharts; ++chart) {
    if (is_left_out(bank.thresholds(signal), chart)) charts.push_back(chart);
  }
  return charts;
}

// Over a Reference, or over samples of it with the periods to take out.
SignalMonitor make_monitor(py::handle normal, double arl0, std::vector<std::size_t> periods,
                           bool latch) {
  if (py::isinstance<Reference>(normal)) {
    if (!periods.empty()) refuse("periods", "none with a Reference", periods.size());
    return {initialised<Reference>("normal", normal), arl0, latch};
  }
  const py::array array = require_array(normal, "normal", kSamples);
  if (!has_dtype<double>(array) || array.ndim() != 1) {
    refuse_type("normal", kSamples, describe(array));
  }
  require_contiguous(array, "normal");
  const std::span<const double> samples = as_span<double>(array);
  const selfheal::python::ReleasedGil released;
  return {samples, arl0, std::move(periods), latch};
}

}  // namespace

void bind_monitor_bank(py::module_& m) {
  Class<MonitorBank> bank(m, "MonitorBank", "Many signals under one false-alarm promise.");
  bank.def(constructor([](const py::sequence& references, double arl0, bool latch) {
             std::vector<std::vector<Reference>> held;
             const bool one = py::len(references) > 0 && py::isinstance<Reference>(references[0]);
             try {
               if (one) {
                 held.push_back(references.cast<std::vector<Reference>>());
               } else {
                 held = references.cast<std::vector<std::vector<Reference>>>();
               }
             } catch (const py::cast_error&) {
               refuse_type("references", "Reference objects, or a list of them for each regime",
                           "others");
             }
             const selfheal::python::ReleasedGil released;
             return MonitorBank(std::move(held), arl0, false, latch);
           }),
           arg("references"), arg("arl0"), arg("latch") = false)
      .def("update", &update, arg("values"), "Take one value of every signal.")
      .def("update_many", &update_many_rows, arg("values"),
           "Take rows in order; return int64 rows (update, signal) of the alarms.")
      .def_property_readonly(
          "alarms",
          [](const MonitorBank& self) {
            std::vector<std::size_t> alarmed;
            for (std::size_t i = 0; i < self.signals(); ++i) {
              if (self.drift_detected(i)) alarmed.push_back(i);
            }
            return alarmed;
          },
          "Signals that alarmed in the last update.")
      .def_property_readonly(
          "scores",
          [](const MonitorBank& self) {
            std::vector<double> scores;
            for (std::size_t i = 0; i < self.signals(); ++i) scores.push_back(self.score(i));
            return to_array(std::move(scores));
          },
          "Normal scores of the last row.")
      .def("statistic",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.statistic(i); }),
           arg("signal"), "Largest statistic over its threshold; above 1 is an alarm.")
      .def("direction",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.direction(i); }),
           arg("signal"), "+1 up, -1 down, 0 unknown.")
      .def("magnitude", of_signal([](const MonitorBank& b, std::size_t i) {
             return std::fabs(b.change(i).shift);
           }),
           arg("signal"), "Most likely size of the shift, in normal scores.")
      .def("onset", of_signal([](const MonitorBank& b, std::size_t i) {
             return index_or_none(b.change(i).estimate);
           }),
           arg("signal"), "Most likely index of the first changed update, or None.")
      .def("onset_earliest", of_signal([](const MonitorBank& b, std::size_t i) {
             return index_or_none(b.change(i).earliest);
           }),
           arg("signal"), "95 % bound: the change did not begin before; or None.")
      .def("onset_since_start",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.change(i).since_start; }),
           arg("signal"), "Whether the change may be as old as the charts' latest start.")
      .def("latched",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.is_latched(i); }),
           arg("signal"), "Whether a lasting shift was told, and goes on.")
      .def(
          "accept",
          [](MonitorBank& self, std::int64_t signal) { self.accept(signal_index(self, signal)); },
          arg("signal"), "Take the signal's level since the onset for normal.")
      .def("accepted", of_signal([](const MonitorBank& b, std::size_t i) { return b.accepted(i); }),
           arg("signal"), "What was accepted, in normal scores.")
      .def("accepted_spread",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.accepted_spread(i); }),
           arg("signal"), "The spread that was accepted, in normal scores.")
      .def(
          "set_level",
          [](MonitorBank& self, std::int64_t signal, double level, double spread) {
            if (!std::isfinite(level)) refuse("level", "a finite number", level);
            if (!(std::isfinite(spread) && spread > 0.0)) {
              refuse("spread", "a finite number above 0", spread);
            }
            self.set_level(signal_index(self, signal), level, spread);
          },
          arg("signal"), arg("level"), arg("spread") = 1.0,
          "Take a level and a spread of the signal's scores for normal, in this regime.")
      .def("leading_chart",
           of_signal([](const MonitorBank& b, std::size_t i) { return b.leading_chart(i); }),
           arg("signal"), "Chart with the largest statistic: 4 * side + k.")
      .def("thresholds",
           of_signal([](const MonitorBank& b, std::size_t i) { return thresholds(b, i); }),
           arg("signal"), "Thresholds of one signal's charts, by name.")
      .def("left_out",
           of_signal([](const MonitorBank& b, std::size_t i) { return left_out(b, i); }),
           arg("signal"),
           "Charts that the calibration cannot support: 4 * side + k. They never alarm.")
      .def("skipped", of_signal([](const MonitorBank& b, std::size_t i) { return b.skipped(i); }),
           arg("signal"), "Values with NaN or infinity.")
      .def_property(
          "regime", &MonitorBank::regime,
          [](MonitorBank& self, std::int64_t regime) {
            if (regime < 0 || std::cmp_greater_equal(regime, self.regimes())) {
              refuse("regime", "an integer from 0 to " + std::to_string(self.regimes() - 1),
                     static_cast<double>(regime));
            }
            self.set_regime(static_cast<std::size_t>(regime));
          },
          "Which references are in use.")
      .def_property_readonly("regimes", &MonitorBank::regimes, "References a signal.")
      .def_property_readonly("signals", &MonitorBank::signals, "Signals.")
      .def_property_readonly("arl0", &MonitorBank::arl0, "Updates between false alarms.")
      .def_property_readonly("count", &MonitorBank::count, "Updates.")
      .def("reset", &MonitorBank::reset, "Start as new.");
  define_state<MonitorBank>(bank);
  define_pickle<MonitorBank>(bank);

  Class<SignalMonitor> monitor(m, "SignalMonitor", "The default bank on one signal.");
  monitor
      .def(constructor(&make_monitor), arg("normal"), kw_only(), arg("arl0"),
           arg("periods") = kNoItems, arg("latch") = false)
      .def_property_readonly(
          "arl0", [](const SignalMonitor& self) { return self.bank().arl0(); },
          "Updates between false alarms.")
      .def_property_readonly(
          "thresholds", [](const SignalMonitor& self) { return thresholds(self.bank(), 0); },
          "Thresholds of the charts, by name.")
      .def_property_readonly(
          "left_out", [](const SignalMonitor& self) { return left_out(self.bank(), 0); },
          "Charts that the calibration cannot support: 4 * side + k. They never alarm.")
      .def_property_readonly(
          "samples", [](const SignalMonitor& self) { return self.bank().reference(0).count(); },
          "Calibration samples used.")
      .def_property_readonly(
          "samples_needed",
          [](const SignalMonitor& self) {
            return samples_needed(self.bank().reference(0), self.bank().arl0());
          },
          "Calibration samples that would do for a chart on either side; 0: no number would.")
      .def_property_readonly(
          "wander",
          [](const SignalMonitor& self) { return self.bank().reference(0).preparation().wander(); },
          "How far the level may stray from the calibration's, in standard deviations.")
      .def_property_readonly(
          "spread_wander",
          [](const SignalMonitor& self) {
            return self.bank().reference(0).preparation().spread_wander();
          },
          "Standard deviation of the spread of long stretches, as a share of it; 0: none stood "
          "out.")
      .def_property_readonly(
          "trend",
          [](const SignalMonitor& self) { return self.bank().reference(0).preparation().trend(); },
          "Share of that wander which a straight line explains.")
      .def_property_readonly(
          "unsteadiness",
          [](const SignalMonitor& self) {
            return self.bank().reference(0).preparation().unsteadiness();
          },
          "How far sums of the calibration stray: of a constant level, above "
          "0.574 once in forty.")
      .def_property_readonly(
          "periods", [](const SignalMonitor& self) { return self.periodic().periods(); },
          "Periods that are taken out, in samples.")
      .def_property_readonly("unnamed_period", &SignalMonitor::unnamed_period,
                             "A period that the calibration shows beside those; 0 if none.")
      .def_property_readonly(
          "phi",
          [](const SignalMonitor& self) { return self.bank().reference(0).preparation().phi(); },
          "Lag-1 autocorrelation that is taken out.");
  define_detector(monitor);
}
