#include "detect/sided_scan_kernel.hpp"

namespace selfheal {

Scan avx2_scan() noexcept { return scan_of_this_file(); }

}  // namespace selfheal
