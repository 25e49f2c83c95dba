#include "selfheal/base/argument_error.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>

namespace selfheal {

void refuse(std::string_view argument, std::string_view expected, std::string_view got) {
  std::string message(argument);
  message.append(": expected ").append(expected).append(", got ").append(got);
  throw std::invalid_argument(message);
}

void refuse(std::string_view argument, std::string_view expected, double got) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.17g", got);
  std::array<char, 40> brief{};
  std::snprintf(brief.data(), brief.size(), "%g", got);
  // The short form where it says the same number.
  refuse(argument, expected,
         std::string_view(std::strtod(brief.data(), nullptr) == got ? brief.data() : text.data()));
}

void refuse_count(std::string_view argument, std::string_view expected, std::uint64_t got) {
  refuse(argument, expected, std::string_view(std::to_string(got)));
}

std::string quoted(std::string_view text) {
  std::string result("'");
  result.append(text).append("'");
  return result;
}

void require_finite(std::string_view argument, double value) {
  if (!std::isfinite(value)) refuse(argument, "a finite number", value);
}

void require_positive(std::string_view argument, double value) {
  if (!(std::isfinite(value) && value >= std::numeric_limits<double>::min())) {
    refuse(argument, "a finite number > 0", value);
  }
}

void require_not_negative(std::string_view argument, double value) {
  if (!(std::isfinite(value) && value >= 0.0)) refuse(argument, "a finite number >= 0", value);
}

}  // namespace selfheal
