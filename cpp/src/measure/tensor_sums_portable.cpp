#include "measure/tensor_sums_lanes.hpp"
#include "measure/tensor_sums_scalar.hpp"

namespace selfheal::detail {

const TensorSums portable_sums{
    .name = "portable",
    .input8 = &input8_scalar,
    .input16 = &input16_scalar,
    .output8 = &output8_scalar,
    .output16 = &output16_scalar,
    .pair8 = &pair8_scalar,
    .floats = &sum_floats,
    .float_moments = &float_moments,
    .float_errors = &sum_squared_errors,
    .distance_int8 = &sum_distance<std::int8_t>,
    .distance_uint8 = &sum_distance<std::uint8_t>,
    .distance_int16 = &sum_distance<std::int16_t>,
    .distance_float = &sum_distance<float>,
};

}  // namespace selfheal::detail
