#include <algorithm>
#include <cstdint>
#include <limits>

#include "bindings.hpp"
#include "selfheal/learn/softmax_head.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

template <typename T>
py::array require_of(py::handle object, const char* name, const char* expected, py::ssize_t ndim) {
  py::array array = require_array(object, name, expected);
  if (!has_dtype<T>(array) || array.ndim() != ndim) refuse_type(name, expected, describe(array));
  require_contiguous(array, name);
  return array;
}

void require_columns(const py::array& array, const char* name, std::size_t columns) {
  if (static_cast<std::size_t>(array.shape(1)) != columns) {
    refuse(name, std::to_string(columns) + " columns", static_cast<std::size_t>(array.shape(1)));
  }
}

void load_head(SoftmaxHead& self, py::handle embeddings, py::handle mean, py::handle spread,
               py::handle logits) {
  const py::array x = require_of<float>(embeddings, "embeddings", "a 2-D float32 array", 2);
  const py::array m = require_of<double>(mean, "mean", "a 1-D float64 array", 1);
  const py::array s = require_of<double>(spread, "spread", "a 1-D float64 array", 1);
  const py::array z = require_of<double>(logits, "logits", "a 2-D float64 array", 2);
  require_columns(x, "embeddings", self.dimensions());
  require_columns(z, "logits", self.classes());
  const ReleasedGil released;
  self.load(as_span<float>(x), as_span<double>(m), as_span<double>(s), as_span<double>(z));
}

void aim_head(SoftmaxHead& self, py::handle targets, py::handle weights, double reach) {
  constexpr const char* kTargets = "a 1-D int64 or a 2-D float64 array";
  const py::array w = require_of<double>(weights, "sample_weights", "a 1-D float64 array", 1);
  const py::array t = require_array(targets, "targets", kTargets);
  require_contiguous(t, "targets");
  if (has_dtype<std::int64_t>(t) && t.ndim() == 1) {
    self.aim(as_span<std::int64_t>(t), as_span<double>(w), reach);
  } else if (has_dtype<double>(t) && t.ndim() == 2) {
    require_columns(t, "targets", self.classes());
    self.aim_softly(as_span<double>(t), as_span<double>(w), reach);
  } else {
    refuse_type("targets", kTargets, describe(t));
  }
}

SoftmaxHead::Outcome fit_head(SoftmaxHead& self, double pull, std::int64_t products,
                              double tolerance, bool warm) {
  const std::size_t most = to_size("products", products, 1);
  const SoftmaxHead::Effort effort{static_cast<std::uint32_t>(std::min<std::size_t>(
                                       most, std::numeric_limits<std::uint32_t>::max())),
                                   tolerance};
  const ReleasedGil released;
  return self.fit(pull, effort, warm);
}

py::tuple head_change(const SoftmaxHead& self) {
  const auto classes = static_cast<py::ssize_t>(self.classes());
  const auto dimensions = static_cast<py::ssize_t>(self.dimensions());
  py::array_t<double> weights({classes, dimensions});
  py::array_t<double> bias(classes);
  self.change({weights.mutable_data(), self.classes() * self.dimensions()},
              {bias.mutable_data(), self.classes()});
  return py::make_tuple(std::move(weights), std::move(bias));
}

py::array_t<double> head_logits(const SoftmaxHead& self) {
  const auto samples = static_cast<py::ssize_t>(self.samples());
  py::array_t<double> out({samples, static_cast<py::ssize_t>(self.classes())});
  self.logits({out.mutable_data(), self.samples() * self.classes()});
  return out;
}

}  // namespace

void bind_softmax_head(py::module_& m) {
  Class<SoftmaxHead> cls(m, "SoftmaxHead",
                         "Learns how a classifier's last layer should change, from few samples: "
                         "softmax regression, pulled to where it starts.");
  Class<SoftmaxHead::Outcome>(cls, "Outcome", "What a fit came to.")
      .def_property_readonly("is_converged", &SoftmaxHead::Outcome::is_converged,
                             "Whether the change is as near to the optimum as was asked for.")
      .def_property_readonly("products", &SoftmaxHead::Outcome::products,
                             "Products that were taken.")
      .def_property_readonly("loss", &SoftmaxHead::Outcome::loss,
                             "Weighted sum of cross-entropies.")
      .def_property_readonly("change", &SoftmaxHead::Outcome::change,
                             "Length of the change, in units of the embedding's spread.");
  cls.def(constructor([](std::int64_t classes, std::int64_t dimensions, std::int64_t capacity,
                         std::int64_t max_bytes) {
            return SoftmaxHead(to_size("classes", classes), to_size("dimensions", dimensions),
                               to_size("capacity", capacity), to_size("max_bytes", max_bytes));
          }),
          arg("classes"), arg("dimensions"), arg("capacity"), kw_only(),
          arg("max_bytes") = static_cast<std::int64_t>(SoftmaxHead::kMostBytes))
      .def("load", &load_head, arg("embeddings"), arg("mean"), arg("spread"), arg("logits"),
           "Take samples, and their logits by the start.")
      .def("aim", &aim_head, arg("targets"), arg("sample_weights"), arg("reach") = 2.0,
           "Set what the samples should be: a class each, or a distribution over the classes.")
      .def("fit", &fit_head, arg("pull"), kw_only(), arg("products") = 400, arg("tolerance") = 1e-4,
           arg("warm") = false, "Find the change for a pull; from the last one on, or from none.")
      .def("change", &head_change, "What to add to the start's weights and biases.")
      .def("logits", &head_logits, "Logits of all samples, those left out too, after the last fit.")
      .def_property_readonly("classes", &SoftmaxHead::classes, "Number of classes.")
      .def_property_readonly("dimensions", &SoftmaxHead::dimensions, "Of an embedding.")
      .def_property_readonly("capacity", &SoftmaxHead::capacity, "Samples that there is room for.")
      .def_property_readonly("samples", &SoftmaxHead::samples, "Samples that it holds.")
      .def_property_readonly(
          "sample_weights",
          [](const SoftmaxHead& self) {
            return to_array(std::vector<double>(self.weights().begin(), self.weights().end()));
          },
          "Weights as they count, with what `reach` has cut.")
      .def("memory_bytes", &SoftmaxHead::memory_bytes, "Bytes held, fixed at construction.");
}
