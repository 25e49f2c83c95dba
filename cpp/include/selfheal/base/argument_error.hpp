#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

/// How constructors refuse: std::invalid_argument, worded "argument: expected ..., got ...", where
/// `argument` is the name that the Python signature uses. Only construction throws.
namespace selfheal {

[[noreturn]] void refuse(std::string_view argument, std::string_view expected,
                         std::string_view got);
[[noreturn]] void refuse(std::string_view argument, std::string_view expected, double got);
[[noreturn]] void refuse_count(std::string_view argument, std::string_view expected,
                               std::uint64_t got);
template <std::unsigned_integral Count>
[[noreturn]] void refuse(std::string_view argument, std::string_view expected, Count got) {
  refuse_count(argument, expected, got);
}

/// 'text', for messages.
std::string quoted(std::string_view text);

/// Throws unless `value` is a finite number.
void require_finite(std::string_view argument, double value);
/// Throws unless `value` is finite and > 0 and its reciprocal is finite.
void require_positive(std::string_view argument, double value);
/// Throws unless `value` is finite and >= 0.
void require_not_negative(std::string_view argument, double value);

}  // namespace selfheal
