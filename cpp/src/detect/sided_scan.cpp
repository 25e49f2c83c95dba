#include "base/backend_list.hpp"
#include "detect/sided_scan_kernel.hpp"

namespace selfheal {

Scan portable_scan() noexcept { return scan_of_this_file(); }

std::span<const Scan> available_scans() noexcept {
  using Scans = detail::BackendList<Scan, 3>;
  static const Scans found = [] {
    Scans list;  // asked before: what gives a scan is itself compiled for its instruction set
#ifdef SELFHEAL_AVX512
    if (detail::cpu_has(detail::kX86Avx512f)) list.add("avx512", avx512_scan());
#endif
#ifdef SELFHEAL_AVX2
    if (detail::cpu_has(detail::kX86Avx2)) list.add("avx2", avx2_scan());
#endif
    list.add("portable", portable_scan());
    return list;
  }();
  return found.functions();
}

const Scan& chosen_scan() noexcept {
  static const Scan scan = available_scans().front();
  return scan;
}

}  // namespace selfheal
