#include <array>
#include <memory>
#include <vector>

#include "bindings.hpp"
#include "pickled.hpp"
#include "selfheal/learn/fixed_share.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

/// Switching rates, where none are given.
constexpr std::array<double, 4> kRates{1.0 / 2048, 1.0 / 512, 1.0 / 128, 1.0 / 32};
constexpr const char* kLosses = "a 1-D float64 array";

std::size_t to_member(const FixedShare& self, std::int64_t member) {
  if (member < 0 || static_cast<std::size_t>(member) >= self.members()) {
    refuse("member", "0 to " + std::to_string(self.members() - 1),
           std::string_view(std::to_string(member)));
  }
  return static_cast<std::size_t>(member);
}

py::array require_losses(const FixedShare& self, py::handle object) {
  py::array array = require_array(object, "losses", kLosses);
  if (!has_dtype<double>(array) || array.ndim() != 1) {
    refuse_type("losses", kLosses, describe(array));
  }
  require_contiguous(array, "losses");
  if (static_cast<std::size_t>(array.size()) != self.members()) {
    refuse("losses", std::to_string(self.members()) + " numbers, one a member",
           static_cast<std::size_t>(array.size()));
  }
  return array;
}

py::array require_round(const FixedShare& self, py::handle losses, double influence) {
  py::array array = require_losses(self, losses);
  for (const double loss : as_span<double>(array)) {
    if (!(loss >= 0.0 && loss <= 1.0) && loss == loss) {
      refuse("losses", "numbers from 0 to 1, or NaN for a member without", loss);
    }
  }
  if (!(influence >= 0.0 && influence <= 1.0)) refuse("influence", "0 to 1", influence);
  return array;
}

void take_round(FixedShare& self, py::handle losses, double influence) {
  self.update(as_span<double>(require_round(self, losses, influence)), influence);
}

void hear_round(FixedShare& self, py::handle losses, double influence, double importance) {
  const py::array array = require_round(self, losses, influence);
  if (!(importance >= 0.0 && importance <= 1.0)) refuse("importance", "0 to 1", importance);
  self.hear(as_span<double>(array), influence, importance);
}

py::array_t<double> to_numbers(std::span<const double> values) {
  return to_array(std::vector<double>(values.begin(), values.end()));
}

}  // namespace

void bind_fixed_share(py::module_& m) {
  Class<FixedShare, std::shared_ptr<FixedShare>> cls(
      m, "FixedShare",
      "Weights of a few members from their losses: fixed share, with the switching rate learned, a "
      "floor, caps, and sleep.");
  cls.def(constructor([](std::int64_t members, double learning_rate, std::vector<double> rates,
                         double floor) {
            if (rates.empty()) rates.assign(kRates.begin(), kRates.end());
            return std::make_shared<FixedShare>(to_size("members", members), learning_rate, rates,
                                                floor);
          }),
          arg("members"), kw_only(), arg("learning_rate") = 1.0, arg("rates") = kNoItems,
          arg("floor") = 0.01)
      .def("update", &take_round, arg("losses"), arg("influence") = 1.0,
           "Take a round: a loss a member, from 0 to 1, NaN for none.")
      .def("hear", &hear_round, arg("losses"), arg("influence") = 1.0, arg("importance") = 1.0,
           "Take a round of a source that may err or lie.")
      .def(
          "prove",
          [](FixedShare& self, std::int64_t member) { self.prove(to_member(self, member)); },
          arg("member"), "Let a member that returns do so by one round.")
      .def(
          "set_asleep",
          [](FixedShare& self, const std::vector<bool>& asleep) {
            if (asleep.size() != self.members()) {
              refuse("asleep", std::to_string(self.members()) + " of them", asleep.size());
            }
            std::array<bool, FixedShare::kMostMembers> flags{};
            std::copy(asleep.begin(), asleep.end(), flags.begin());
            if (!self.set_asleep({flags.data(), asleep.size()})) {
              refuse("asleep", "a member that is awake", "none");
            }
          },
          arg("asleep"), "Say which members sleep; at least one is awake.")
      .def(
          "restore",
          [](FixedShare& self, std::int64_t member) { self.restore(to_member(self, member)); },
          arg("member"), "Have a member return to its share of before.")
      .def(
          "set_cap",
          [](FixedShare& self, std::int64_t member, double most) {
            if (!(most > 0.0 && most <= 1.0)) refuse("most", "above 0 and at most 1", most);
            self.set_cap(to_member(self, member), most);
          },
          arg("member"), arg("most"), "Bound a member's weight; 1: no bound.")
      .def(
          "set_weight",
          [](FixedShare& self, std::int64_t member, double weight) {
            if (!(weight >= 0.0 && weight <= 1.0)) refuse("weight", "0 to 1", weight);
            self.set_weight(to_member(self, member), weight);
          },
          arg("member"), arg("weight"), "Give a member that is awake a weight.")
      .def(
          "seated",
          [](const FixedShare& self, const std::vector<int>& places) {
            return std::make_shared<FixedShare>(self.seated(places));
          },
          arg("places"), "The same for other seats: places of now, -1 for a new member.")
      .def(
          "bound",
          [](const FixedShare& self, std::int64_t rounds, std::int64_t switches) {
            return self.bound(to_size("rounds", rounds), to_size("switches", switches));
          },
          arg("rounds"), arg("switches"),
          "The most by which the mixture's loss exceeds that of any sequence of members.")
      .def_property_readonly(
          "weights", [](const FixedShare& self) { return to_numbers(self.weights()); },
          "One a member; they sum to one.")
      .def_property_readonly(
          "asleep",
          [](const FixedShare& self) {
            py::list found;
            for (std::size_t i = 0; i < self.members(); ++i) found.append(self.is_asleep(i));
            return py::tuple(found);
          },
          "Which members sleep.")
      .def_property_readonly(
          "returning",
          [](const FixedShare& self) {
            py::list found;
            for (std::size_t i = 0; i < self.members(); ++i) found.append(self.is_returning(i));
            return py::tuple(found);
          },
          "Which members return to their share of before.")
      .def_property_readonly(
          "caps",
          [](const FixedShare& self) {
            py::list found;
            for (std::size_t i = 0; i < self.members(); ++i) found.append(self.cap(i));
            return py::tuple(found);
          },
          "The most that each may weigh.")
      .def_property_readonly(
          "past",
          [](const FixedShare& self) {
            py::list found;
            for (std::size_t i = 0; i < self.members(); ++i) found.append(self.past(i));
            return py::tuple(found);
          },
          "The share that each goes back to after a sleep.")
      .def_property_readonly(
          "rates", [](const FixedShare& self) { return to_numbers(self.rates()); },
          "Switching rates.")
      .def_property_readonly(
          "rate_weights",
          [](const FixedShare& self) {
            const auto weights = self.rate_weights();
            return to_numbers({weights.data(), self.rates().size()});
          },
          "What each of the switching rates weighs by now.")
      .def_property_readonly("mixture_loss", &FixedShare::mixture_loss,
                             "Loss of the mixture so far.")
      .def_property_readonly("rounds", &FixedShare::rounds, "Rounds so far.")
      .def_property_readonly("members", &FixedShare::members, "Number of members.")
      .def_property_readonly("floor", &FixedShare::floor, "The least weight of one awake.")
      .def_property_readonly("learning_rate", &FixedShare::learning_rate,
                             "What a loss of 1 takes off the logarithm of a weight.");
  define_state<FixedShare>(cls);
  define_pickle<FixedShare>(cls);
}
