#include "sided_scan_kernel.hpp"

namespace selfheal {

Scan portable_scan() noexcept { return {&scan_block<float>, &scan_block<double>}; }

const Scan& chosen_scan() noexcept {
  static const Scan scan = [] {
#ifdef SELFHEAL_AVX2
    if (__builtin_cpu_supports("avx2")) return avx2_scan();
#endif
    return portable_scan();
  }();
  return scan;
}

}  // namespace selfheal
