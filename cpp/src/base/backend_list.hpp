#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu.hpp"

namespace selfheal::detail {

/// What gives the same values by several instruction sets: those that this CPU runs, fastest first.
/// Who needs one made its list once, and takes the first or the one that was asked for by name.
template <typename Function, std::size_t kMost>
class BackendList {
 public:
  /// needs: bits of CpuFeature; left out where the CPU lacks one.
  void add(std::string_view name, Function fast, std::uint32_t needs = kNothing) noexcept {
    if (!cpu_has(needs)) return;
    names_[count_] = name;
    functions_[count_++] = fast;
  }
  std::span<const std::string_view> names() const noexcept {
    return std::span(names_).first(count_);
  }
  std::span<const Function> functions() const noexcept {
    return std::span(functions_).first(count_);
  }
  Function function(std::size_t index) const noexcept { return functions_[index]; }
  /// names().size() if there is none of that name.
  std::size_t find(std::string_view name) const noexcept {
    std::size_t index = 0;
    while (index < count_ && names_[index] != name) ++index;
    return index;
  }

 private:
  std::array<std::string_view, kMost> names_;
  std::array<Function, kMost> functions_{};
  std::size_t count_ = 0;
};

}  // namespace selfheal::detail
