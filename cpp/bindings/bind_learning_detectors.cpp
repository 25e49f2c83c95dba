#include <random>

#include "bindings.hpp"
#include "detector.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/ddm.hpp"
#include "selfheal/detect/eddm.hpp"
#include "selfheal/detect/hddm_a.hpp"
#include "selfheal/detect/hddm_w.hpp"
#include "selfheal/detect/kswin.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

std::uint32_t to_u32(const char* name, std::int64_t value) {
  if (value < 0 || value > std::int64_t{0x7fffffff}) {
    refuse(name, "an integer from 0 to 2^31 - 1", static_cast<double>(value));
  }
  return static_cast<std::uint32_t>(value);
}

std::uint64_t random_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

template <typename Detector>
void define_warning(Class<Detector>& cls) {
  cls.def_property_readonly("warning_detected", &Detector::warning_detected,
                            "Whether the last update was a warning short of an alarm.");
  define_detector(cls);
}

}  // namespace

void bind_learning_detectors(py::module_& m) {
  Class<Adwin> adwin(m, "Adwin", "Adaptive window; alarms equal river's.");
  adwin
      .def(constructor([](double delta, std::int64_t clock, std::int64_t max_buckets,
                          std::int64_t min_window_length, std::int64_t grace_period,
                          bool track_onset, bool latch) {
             return Adwin(delta, to_u32("clock", clock), to_u32("max_buckets", max_buckets),
                          to_u32("min_window_length", min_window_length),
                          to_u32("grace_period", grace_period), track_onset, latch);
           }),
           arg("delta") = 0.002, arg("clock") = 32, arg("max_buckets") = 5,
           arg("min_window_length") = 5, arg("grace_period") = 10, arg("track_onset") = true,
           arg("latch") = false)
      .def_property_readonly("delta", &Adwin::delta, "Probability of error a cut.")
      .def_property_readonly("width", &Adwin::width, "Samples in the window.")
      .def_property_readonly("total", &Adwin::total, "Their sum.")
      .def_property_readonly("variance", &Adwin::variance, "Sum of their squared deviations.")
      .def_property_readonly("estimation", &Adwin::estimation, "Their mean.");
  define_detector(adwin);

  Class<Kswin> kswin(m, "Kswin", "Kolmogorov-Smirnov windows; alarms equal river's.");
  kswin
      .def(constructor([](double alpha, std::int64_t window_size, std::int64_t stat_size,
                          std::optional<std::uint64_t> seed, bool track_onset, bool latch) {
             return Kswin(alpha, to_u32("window_size", window_size), to_u32("stat_size", stat_size),
                          seed ? *seed : random_seed(), track_onset, latch);
           }),
           arg("alpha") = 0.005, arg("window_size") = 100, arg("stat_size") = 30,
           arg("seed") = nullptr, arg("track_onset") = true, arg("latch") = false)
      .def_property_readonly("alpha", &Kswin::alpha, "Level of each test.")
      .def_property_readonly("seed", &Kswin::seed, "Starts the draws.")
      .def_property_readonly("p_value", &Kswin::p_value, "Of the latest test.");
  define_detector(kswin);

  Class<Ddm> ddm(m, "Ddm", "Drift detection method on errors; alarms equal river's.");
  ddm.def(constructor<double, double, double, bool, bool>(), arg("warm_start") = 30.0,
          arg("warning_threshold") = 2.0, arg("drift_threshold") = 3.0, arg("track_onset") = true,
          arg("latch") = false);
  define_warning(ddm);

  Class<Eddm> eddm(m, "Eddm", "Distances between errors; alarms equal river's.");
  eddm.def(constructor<double, double, double, bool, bool>(), arg("warm_start") = 30.0,
           arg("alpha") = 0.95, arg("beta") = 0.9, arg("track_onset") = true, arg("latch") = false);
  define_warning(eddm);

  Class<HddmA> hddm_a(m, "HddmA", "Hoeffding's bound on means; alarms equal river's.");
  hddm_a.def(constructor<double, double, bool, bool, bool>(), arg("drift_confidence") = 0.001,
             arg("warning_confidence") = 0.005, arg("two_sided_test") = false,
             arg("track_onset") = true, arg("latch") = false);
  define_warning(hddm_a);

  Class<HddmW> hddm_w(m, "HddmW", "McDiarmid's bound on averages; alarms equal river's.");
  hddm_w.def(constructor<double, double, double, bool, bool, bool>(),
             arg("drift_confidence") = 0.001, arg("warning_confidence") = 0.005,
             arg("lambda_val") = 0.05, arg("two_sided_test") = false, arg("track_onset") = true,
             arg("latch") = false);
  define_warning(hddm_w);
}
