#pragma once

#include <cstddef>
#include <limits>
#include <string_view>

#include "selfheal/base/argument_error.hpp"

namespace selfheal::detail {

/// a * b; refuses `argument` where that is more than this machine can address, since on 32 bits a
/// product wraps long before its factors look large.
inline std::size_t product(std::string_view argument, std::size_t a, std::size_t b) {
  if (b != 0 && a > std::numeric_limits<std::size_t>::max() / 2 / b) {
    refuse(argument, "what fits into the addresses of this machine, with the image's blocks", a);
  }
  return a * b;
}

}  // namespace selfheal::detail
