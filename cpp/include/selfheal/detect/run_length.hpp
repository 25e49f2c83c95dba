#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

/// Average run length (ARL): the mean number of samples up to and including a chart's alarm.
///
/// For the tabular CUSUM g' = max(0, g + x - k), alarm when g' > h, started at 0, on independent
/// x ~ N(shift, 1), everything in units of the standard deviation:
///
///     L(u) = 1 + L(0) Phi(k - shift - u) + integral_0^h L(y) phi(y + k - shift - u) dy
///
/// solved on 32 + 2.5 h Gauss-Legendre nodes (Page 1954; Goel and Wu 1971) as an absorbing Markov
/// chain, by state reduction (Grassmann, Taksar and Heyman 1985), which subtracts nothing and so
/// keeps its digits however long the run is. Two sides with the same k and h:
/// 1 / L = 1 / L_upper + 1 / L_lower (Kemp 1961). Beyond h = 128 the solution there is continued
/// with the growth of Siegmund's approximation (1985, eq. 2.57), whose exponent is exact; where the
/// shift is larger than k, with what it adds.
///
/// The EWMA chart's is the solution of (Crowder 1987)
///
///     L(u) = 1 + integral over the limits of L(y) phi((y - (1 - w) u) / w - shift) dy / w
///
/// of a one-sided chart with the other limit as in ewma.hpp, where it is held rather than stopped.
///
/// Cost: 0.1 to 50 ms an integral, half a second for an EWMA of weight 0.001; up to 20 of them for
/// a threshold. Allocates: for set-up only.
namespace selfheal {

/// Which shifts a chart watches for: both, up only, down only.
enum class Sides : std::uint8_t { kBoth = 0, kUpper = 1, kLower = 2 };

/// "both", "upper" or "lower"; throws std::invalid_argument for anything else.
Sides parse_sides(std::string_view sides);
std::string_view to_string(Sides sides) noexcept;

/// h >= 0 and k >= 0, in standard deviations. shift: the mean of the standardised samples.
/// +infinity where the run length exceeds the range of a double.
double average_run_length(double h, double k, double shift = 0.0, Sides sides = Sides::kBoth);

/// Siegmund's closed form alone: (exp(2 d b) - 2 d b - 1) / (2 d^2) with d = k - shift and
/// b = h + 1.166. Within a few percent for |d| < 1.
double siegmund_average_run_length(double h, double k, double shift = 0.0,
                                   Sides sides = Sides::kBoth);

/// The h with average_run_length(h, k, 0, sides) = arl0, to 1e-9.
/// arl0: samples, 10 to 1e12, and at least what h = 0 gives.
double cusum_threshold(double arl0, double k, Sides sides = Sides::kBoth);

/// How far a one-sided EWMA chart goes to the side that it does not watch, in asymptotic standard
/// deviations. Without a shift it is there once in 1e19 samples.
inline constexpr double kEwmaOpenSide = 9.0;

/// Of the EWMA chart of ewma.hpp with limits at +-limit asymptotic standard deviations, from 0.
/// weight: 0.001 to 1, the share of the newest sample. Throws for a limit so wide that the equation
/// would take more than 4096 nodes although the shift reaches it.
double ewma_average_run_length(double limit, double weight, double shift = 0.0,
                               Sides sides = Sides::kBoth);
/// The limit that gives a wanted run length without a shift. arl0: samples, 10 to 1e12, and at
/// least what a limit of 0 gives: 71 for one side and weight 0.001, where the average crosses 0
/// rarely.
double ewma_limit(double arl0, double weight, Sides sides = Sides::kBoth);

/// Of the chart that alarms when one sample lies beyond +-limit (Shewhart 1931): 1 / probability.
double shewhart_average_run_length(double limit, double shift = 0.0, Sides sides = Sides::kBoth);
double shewhart_limit(double arl0, Sides sides = Sides::kBoth);

/// What charts do with "exactly one of threshold and arl0": gives the threshold, or throws naming
/// the argument. `name` and `k_name` are what
/// the chart calls its threshold and its k.
double choose_threshold(std::string_view name, std::optional<double> threshold,
                        std::optional<double> arl0, double k, Sides sides,
                        std::string_view k_name = "k");

}  // namespace selfheal
