#ifdef __SSE2__

#include "measure/x86/tensor_sums_x86.hpp"

namespace selfheal::detail {

const TensorSums sse2_sums = Kernels<X86>::table("sse2");

}  // namespace selfheal::detail

#endif
