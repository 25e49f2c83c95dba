#pragma once

namespace selfheal::detail {

/// The share that `count` of `samples` leave possible: more than that would have shown more in all
/// but `doubt` of calibrations (Clopper and Pearson 1934; Wilson 1927 where the counts are large).
/// doubt_z: the normal quantile of 1 - doubt.
double largest_share(double count, double samples, double doubt, double doubt_z) noexcept;

/// The least of it: less would have shown fewer in all but `doubt` of calibrations; 0 of none.
double smallest_share(double count, double samples, double doubt, double doubt_z) noexcept;

}  // namespace selfheal::detail
