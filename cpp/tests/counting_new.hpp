#pragma once

// Replaces the global operator new of a test's program with one that counts. Included once.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace selfheal::testing {

inline bool counts = false;
inline std::size_t allocations = 0;
inline std::size_t bytes_held = 0;

// Each block has its size before it, in as many bytes as its alignment asks for.
inline void* counted(std::size_t size, std::size_t alignment) {
  alignment = std::max(alignment, alignof(std::max_align_t));
  const std::size_t room = (size + 2 * alignment - 1) / alignment * alignment;
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(alignment, room));
  if (memory == nullptr) std::abort();
  *reinterpret_cast<std::size_t*>(memory) = size;
  if (counts) ++allocations;
  bytes_held += size;
  return memory + alignment;
}

inline void given_back(void* memory, std::size_t alignment) noexcept {
  if (memory == nullptr) return;
  alignment = std::max(alignment, alignof(std::max_align_t));
  std::byte* const begin = static_cast<std::byte*>(memory) - alignment;
  bytes_held -= *reinterpret_cast<std::size_t*>(begin);
  std::free(begin);
}

/// How often `body` allocates.
template <typename Body>
std::size_t allocations_in(Body&& body) {
  allocations = 0;
  counts = true;
  body();
  counts = false;
  return allocations;
}

/// How many bytes are held after `body` that were not before.
template <typename Body>
std::size_t bytes_held_by(Body&& body) {
  const std::size_t before = bytes_held;
  body();
  return bytes_held - before;
}

}  // namespace selfheal::testing

// Operators of arrays and those that do not throw are the library's, which calls these.
void* operator new(std::size_t size) { return selfheal::testing::counted(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return selfheal::testing::counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { selfheal::testing::given_back(memory, 1); }
void operator delete(void* memory, std::size_t) noexcept {
  selfheal::testing::given_back(memory, 1);
}
void operator delete(void* memory, std::align_val_t alignment) noexcept {
  selfheal::testing::given_back(memory, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept {
  selfheal::testing::given_back(memory, static_cast<std::size_t>(alignment));
}
