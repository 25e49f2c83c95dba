#pragma once

#include <cstdint>

namespace selfheal::runtime {

/// Remembers the process that made it. A child made by fork has the memory of the runtime but not
/// its threads, and shares the pages of the packed weights with the parent: it must not run them.
class ForkGuard {
 public:
  ForkGuard();
  /// Whether this is a child of the process that made the guard. Costs one load: the count of forks
  /// is kept by a handler, since asking the kernel takes longer than a small layer.
  bool forked() const noexcept;

 private:
  std::uint32_t generation_;  // 64 bits would need a library of atomics on ARMv6 and ARMv7
};

}  // namespace selfheal::runtime
