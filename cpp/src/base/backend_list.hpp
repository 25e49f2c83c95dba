#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace selfheal::detail {

/// Functions that give the same values, fastest first, of which this CPU can run all.
template <typename Function, std::size_t kMost>
class BackendList {
 public:
  void add(std::string_view name, Function fast) noexcept {
    names_[count_] = name;
    functions_[count_++] = fast;
  }
  std::span<const std::string_view> names() const noexcept {
    return std::span(names_).first(count_);
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
