#include "detect/sided_scan_kernel.hpp"

namespace selfheal {

Scan avx512_scan() noexcept { return scan_of_this_file(); }

}  // namespace selfheal
