#include "measure/x86/tensor_sums_x86.hpp"

namespace selfheal::detail {

const TensorSums avx2_sums = Kernels<X86>::table("avx2");

}  // namespace selfheal::detail
