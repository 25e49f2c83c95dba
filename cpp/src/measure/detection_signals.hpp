#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::detail {

// What is measured on the outputs of a detector.
class DetectionSignals {
 public:
  static constexpr std::size_t kSignals = 4;

  struct Surest {
    std::int64_t label = -1;  // -1 where no detection has a score of kSure
    double score = 0.0;
    bool is_finite = true;
  };

  // `plan.detections` is there.
  explicit DetectionSignals(const SignalPlan& plan);

  bool holds(std::size_t output) const noexcept {
    return output == at_.boxes || output == at_.classes || output == at_.scores ||
           output == at_.count;
  }
  // Writes count, top score, mean score and mean area; all NaN where an output is not there or what
  // it says of a detection is no number.
  Surest measure(std::span<const void* const> outputs, double* row) const noexcept;

 private:
  DetectionOutputs at_;
  std::size_t most_;
};

}  // namespace selfheal::detail
