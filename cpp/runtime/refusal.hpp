#pragma once

#include <stdexcept>

namespace selfheal::runtime {

/// The runtime cannot be used this way, here or with this model: what() is the reason, for people.
/// The caller falls back to another way of running and shows the reason.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace selfheal::runtime
