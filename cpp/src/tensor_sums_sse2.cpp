#ifdef __SSE2__

#include "tensor_sums_x86.hpp"

namespace selfheal::detail {

const TensorSums kSse2Sums = Kernels<X86>::table("sse2");

}  // namespace selfheal::detail

#endif
