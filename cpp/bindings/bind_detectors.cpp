#include "bindings.hpp"
#include "detector.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/page_hinkley.hpp"
#include "selfheal/detect/page_hinkley_compat.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

using AnyCusum = AnyOf<Cusum, FrourosChart>;
using AnyPageHinkley = AnyOf<PageHinkley, RiverPageHinkley, FrourosChart>;
using Number = std::optional<double>;

double required(const char* name, Number value) {
  if (!value) refuse(name, "a number", std::string_view("None"));
  return *value;
}

void refuse_if_given(const char* name, const char* compat, Number value) {
  if (value) refuse(name, std::string("None with compat='") + compat + "'", *value);
}

void refuse_without_compat(const char* name, Number value) {
  if (value) refuse(name, "None without compat", *value);
}

// frouros has charts for a rise only.
void require_upper(const std::string& sides) {
  if (parse_sides(sides) == Sides::kLower) {
    refuse("sides", "'both' or 'upper' with compat='frouros', which watches for a rise only",
           quoted(sides));
  }
}

AnyCusum make_cusum(Number mean, Number std, Number k, Number h, Number arl0,
                    const std::string& sides, const std::optional<std::string>& compat,
                    Number min_instances, bool track_onset, bool latch) {
  if (!compat) {
    refuse_without_compat("min_instances", min_instances);
    const Sides parsed = parse_sides(sides);
    const double allowance = k.value_or(0.5);
    const double threshold = choose_threshold("h", h, arl0, allowance, parsed);
    return {Cusum(required("mean", mean), required("std", std), allowance, threshold, parsed,
                  track_onset, latch)};
  }
  if (*compat != "frouros") refuse("compat", "None or 'frouros'", quoted(*compat));
  refuse_if_given("mean", "frouros", mean);
  refuse_if_given("std", "frouros", std);
  refuse_if_given("arl0", "frouros", arl0);
  require_upper(sides);
  return {FrourosChart(FrourosChart::Kind::kCusum, min_instances.value_or(30.0), k.value_or(0.005),
                       h.value_or(50.0), 1.0, track_onset, latch)};
}

AnyPageHinkley make_page_hinkley(Number mean, Number std, Number delta, Number threshold,
                                 Number arl0, const std::string& sides,
                                 const std::optional<std::string>& compat, Number min_instances,
                                 Number alpha, bool track_onset, bool latch) {
  const Sides parsed = parse_sides(sides);
  if (!compat) {
    refuse_without_compat("min_instances", min_instances);
    refuse_without_compat("alpha", alpha);
    const double allowance = delta.value_or(0.5);
    const double limit = choose_threshold("threshold", threshold, arl0, allowance, parsed, "delta");
    return {PageHinkley(required("mean", mean), required("std", std), allowance, limit, parsed,
                        track_onset, latch)};
  }
  for (const auto& [name, value] : {std::pair("mean", mean), {"std", std}, {"arl0", arl0}}) {
    refuse_if_given(name, compat->c_str(), value);
  }
  const double tolerance = delta.value_or(0.005);
  const double limit = threshold.value_or(50.0);
  const double least = min_instances.value_or(30.0);
  const double factor = alpha.value_or(1 - 0.0001);
  if (*compat == "river") {
    return {RiverPageHinkley(least, tolerance, limit, factor, parsed, track_onset, latch)};
  }
  if (*compat != "frouros") refuse("compat", "None, 'river' or 'frouros'", quoted(*compat));
  require_upper(sides);
  return {FrourosChart(FrourosChart::Kind::kPageHinkley, least, tolerance, limit, factor,
                       track_onset, latch)};
}

py::dict sums_of(const SidedChart& chart) {
  return py::dict(py::arg("upper") = chart.upper(), py::arg("lower") = chart.lower());
}
py::dict sums_of(const RiverPageHinkley& chart) {
  return py::dict(py::arg("mean") = chart.mean(), py::arg("sum_increase") = chart.sum_increase(),
                  py::arg("sum_decrease") = chart.sum_decrease(),
                  py::arg("min_increase") = chart.min_increase(),
                  py::arg("max_decrease") = chart.max_decrease());
}
py::dict sums_of(const FrourosChart& chart) {
  return py::dict(py::arg("mean") = chart.mean(), py::arg("sum") = chart.statistic());
}

// A property that only the detector against a fixed reference has; NaN for the others.
template <typename Any>
auto fixed(double (SidedChart::*get)() const noexcept) {
  return [get](const Any& self) {
    const auto* const chart = self.visit([](const auto& held) -> const SidedChart* {
      if constexpr (std::is_base_of_v<SidedChart, std::decay_t<decltype(held)>>) return &held;
      return nullptr;
    });
    return chart == nullptr ? std::numeric_limits<double>::quiet_NaN() : (chart->*get)();
  };
}

template <typename Any>
void define_chart(Class<Any>& cls) {
  define_detector<Any>(cls);
  cls.def_property_readonly(
         "mean",
         [](const Any& self) { return self.visit([](const auto& chart) { return chart.mean(); }); },
         "Reference mean; with compat the running one.")
      .def_property_readonly("std", fixed<Any>(&SidedChart::std),
                             "Reference standard deviation; NaN with compat.")
      .def_property_readonly("upper", fixed<Any>(&SidedChart::upper),
                             "Sum that watches for a rise; NaN with compat.")
      .def_property_readonly("lower", fixed<Any>(&SidedChart::lower),
                             "Sum that watches for a fall; NaN with compat.")
      .def_property_readonly(
          "sides",
          [](const Any& self) {
            return self.visit([](const auto& chart) -> std::string_view {
              if constexpr (std::is_same_v<std::decay_t<decltype(chart)>, FrourosChart>) {
                return "upper";
              } else {
                return to_string(chart.sides());
              }
            });
          },
          "'both', 'upper' or 'lower'.")
      .def_property_readonly(
          "sums",
          [](const Any& self) {
            return self.visit([](const auto& chart) { return sums_of(chart); });
          },
          "The internal sums by name.");
}

}  // namespace

void bind_detectors(py::module_& m) {
  Class<AnyCusum> cusum(m, "Cusum", "Tabular CUSUM against a fixed reference.");
  cusum
      .def(constructor(&make_cusum), arg("mean") = nullptr, arg("std") = nullptr, kw_only(),
           arg("k") = nullptr, arg("h") = nullptr, arg("arl0") = nullptr, arg("sides") = "both",
           arg("compat") = nullptr, arg("min_instances") = nullptr, arg("track_onset") = true,
           arg("latch") = false)
      .def_property_readonly(
          "k",
          [](const AnyCusum& self) {
            if (const auto* chart = std::get_if<Cusum>(&self.held)) return chart->k();
            return std::get<FrourosChart>(self.held).delta();
          },
          "Reference value, in standard deviations.")
      .def_property_readonly(
          "h",
          [](const AnyCusum& self) {
            if (const auto* chart = std::get_if<Cusum>(&self.held)) return chart->h();
            return std::get<FrourosChart>(self.held).threshold();
          },
          "Decision interval, in standard deviations.");
  define_chart(cusum);

  Class<AnyPageHinkley> page_hinkley(m, "PageHinkley", "Hinkley's test against a fixed reference.");
  page_hinkley
      .def(constructor(&make_page_hinkley), arg("mean") = nullptr, arg("std") = nullptr, kw_only(),
           arg("delta") = nullptr, arg("threshold") = nullptr, arg("arl0") = nullptr,
           arg("sides") = "both", arg("compat") = nullptr, arg("min_instances") = nullptr,
           arg("alpha") = nullptr, arg("track_onset") = true, arg("latch") = false)
      .def_property_readonly(
          "delta",
          [](const AnyPageHinkley& self) {
            return self.visit([](const auto& chart) { return chart.delta(); });
          },
          "Tolerated shift, in standard deviations; with compat in the signal's units.")
      .def_property_readonly(
          "threshold",
          [](const AnyPageHinkley& self) {
            return self.visit([](const auto& chart) { return chart.threshold(); });
          },
          "Threshold, in the same units.");
  define_chart(page_hinkley);

  Class<Ewma> ewma(m, "Ewma", "Exponentially weighted average against a fixed reference.");
  ewma.def(constructor([](double mean, double std, double weight, Number limit, Number arl0,
                          const std::string& sides, bool track_onset, bool latch) {
             const Sides parsed = parse_sides(sides);
             if (limit.has_value() == arl0.has_value()) {
               refuse("limit", "exactly one of limit and arl0",
                      std::string_view(limit ? "both" : "neither"));
             }
             return Ewma(mean, std, weight, limit ? *limit : ewma_limit(*arl0, weight, parsed),
                         parsed, track_onset, latch);
           }),
           arg("mean"), arg("std"), kw_only(), arg("weight") = 0.1, arg("limit") = nullptr,
           arg("arl0") = nullptr, arg("sides") = "both", arg("track_onset") = true,
           arg("latch") = false)
      .def_property_readonly("mean", &Ewma::mean, "Reference mean.")
      .def_property_readonly("std", &Ewma::std, "Reference standard deviation.")
      .def_property_readonly("weight", &Ewma::weight, "Share of the newest sample.")
      .def_property_readonly("limit", &Ewma::limit, "In standard deviations of the average.")
      .def_property_readonly("average", &Ewma::average, "In standard deviations of a sample.")
      .def_property_readonly(
          "sides", [](const Ewma& self) { return to_string(self.sides()); },
          "'both', 'upper' or 'lower'.");
  define_detector(ewma);
}
