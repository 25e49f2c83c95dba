#include "sided_scan_kernel.hpp"

namespace selfheal {

Scan avx2_scan() noexcept { return {&scan_block<float>, &scan_block<double>}; }

}  // namespace selfheal
