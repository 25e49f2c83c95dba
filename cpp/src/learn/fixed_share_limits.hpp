#pragma once

namespace selfheal::detail {

/// What a FixedShare may have: its constructor and the reader of its state ask for the same.
inline constexpr double kMostLearning = 4.0;
inline constexpr double kLargestRate = 0.5;
inline constexpr double kMostExcess = 3.0;  // so that a member that is well again is soon back

}  // namespace selfheal::detail
