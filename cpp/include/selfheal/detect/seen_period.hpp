#pragma once

#include <cstddef>
#include <span>

namespace selfheal {

/// The period that scores in order show most clearly, in samples; 0 if none does.
///
/// A peak of the autocorrelation, from 2 samples to half of what there is: at least 0.15, four
/// standard errors of independent scores and two of scores with this memory (Bartlett 1946), and
/// 0.3 above the lowest before it, so that memory that only fades is none; where fewer than three
/// cycles fit, 0.6 and with a trough below -0.2. Long series are looked at twice: their first 4096
/// scores, and all of them in means of so many that 4096 are left, whose peak is then found to the
/// sample. NaN where a score is missing. About 20 ms; allocates: set-up only.
std::size_t seen_period(std::span<const double> scores);

}  // namespace selfheal
