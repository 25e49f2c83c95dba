#include "detect/sided_scan_kernel.hpp"

namespace selfheal {

Scan portable_scan() noexcept { return scan_of_this_file(); }

std::span<const Scan> available_scans() noexcept {
  struct Scans {
    std::array<Scan, 3> all{};
    std::size_t count = 0;
  };
  static const Scans scans = [] {
    Scans found;
#ifdef SELFHEAL_AVX512
    if (__builtin_cpu_supports("avx512f")) found.all[found.count++] = avx512_scan();
#endif
#ifdef SELFHEAL_AVX2
    if (__builtin_cpu_supports("avx2")) found.all[found.count++] = avx2_scan();
#endif
    found.all[found.count++] = portable_scan();
    return found;
  }();
  return std::span(scans.all).first(scans.count);
}

const Scan& chosen_scan() noexcept {
  static const Scan scan = available_scans().front();
  return scan;
}

}  // namespace selfheal
