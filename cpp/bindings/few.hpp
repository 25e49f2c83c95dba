#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

namespace selfheal::python {

/// Fields of one inference's tensors: nearly always few, and then nothing is allocated, and no more
/// is set up than there is, nor what is only assigned to later.
template <typename T>
class Few {
 public:
  explicit Few(std::size_t count) : count_(count) {
    if (count > kInline) data_ = std::allocator<T>().allocate(count);
    if constexpr (!std::is_trivially_copyable_v<T>) {
      std::uninitialized_value_construct_n(data_, count);
    }
  }
  Few(const Few&) = delete;
  Few& operator=(const Few&) = delete;
  ~Few() {
    if constexpr (!std::is_trivially_copyable_v<T>) std::destroy_n(data_, count_);
    if (count_ > kInline) std::allocator<T>().deallocate(data_, count_);
  }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  std::span<const T> span() const noexcept { return {data_, count_}; }

 private:
  static constexpr std::size_t kInline = 4;

  std::size_t count_;
  alignas(T) std::array<std::byte, kInline * sizeof(T)> few_;  // NOLINT: set up in part
  T* data_ = reinterpret_cast<T*>(few_.data());
};

}  // namespace selfheal::python
