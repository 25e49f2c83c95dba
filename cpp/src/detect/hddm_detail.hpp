#pragma once

#include <string_view>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {

inline bool is_confidence(double value) noexcept { return value > 0.0 && value <= 1.0; }

inline void require_confidence(std::string_view name, double value) {
  if (!is_confidence(value)) refuse(name, "a probability above 0, at most 1", value);
}

}  // namespace selfheal
