// Compiled with -mavx2, and only entered after the CPU was asked.
#include <immintrin.h>

#include <array>

#include "nh.hpp"

namespace selfheal::detail {
namespace {

struct Avx2 {
  using Type = __m256i;
  static constexpr std::size_t kWords = 4;

  static Type zero() noexcept { return _mm256_setzero_si256(); }
  static Type load(const void* from) noexcept {
    return _mm256_loadu_si256(static_cast<const Type*>(from));
  }
  static Type accumulate(Type sum, Type m, Type k) noexcept {
    const Type words = _mm256_add_epi32(m, k);
    return _mm256_add_epi64(sum, _mm256_mul_epu32(words, _mm256_srli_epi64(words, 32)));
  }
  static std::uint64_t total(Type sum) noexcept {
    alignas(32) std::array<std::uint64_t, kWords> lanes;
    _mm256_store_si256(reinterpret_cast<Type*>(lanes.data()), sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }

  static Type all(std::uint64_t word) noexcept {
    return _mm256_set1_epi64x(static_cast<long long>(word));
  }
  static void store(void* to, Type words) noexcept {
    _mm256_storeu_si256(static_cast<Type*>(to), words);
  }
  static Type add(Type a, Type b) noexcept { return _mm256_add_epi64(a, b); }
  static Type bit_xor(Type a, Type b) noexcept { return _mm256_xor_si256(a, b); }
  template <int kBits>
  static Type rotl(Type a) noexcept {
    if constexpr (kBits == 32) return _mm256_shuffle_epi32(a, 0xB1);
    return _mm256_or_si256(_mm256_slli_epi64(a, kBits), _mm256_srli_epi64(a, 64 - kBits));
  }
  static Type totals(const Type* v) noexcept {
    const Type low = pairs(v[0], v[1]);
    const Type high = pairs(v[2], v[3]);
    return _mm256_add_epi64(_mm256_permute2x128_si256(low, high, 0x20),
                            _mm256_permute2x128_si256(low, high, 0x31));
  }

 private:
  // Neighbouring words added: a's sums in even lanes, b's in odd ones.
  static Type pairs(Type a, Type b) noexcept {
    return _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  }
};

}  // namespace

NhSum nh_avx2(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  return nh_sum<Avx2>(data, stripes, key);
}

void hash_eight_avx2(const HashSchedule& schedule, const std::uint64_t* tweaks,
                     const std::byte* const* blocks, std::size_t size, std::uint64_t* hashes,
                     std::span<const BlockCopy> copies) noexcept {
  hash_eight<Avx2>(schedule, tweaks, blocks, size, hashes, copies);
}

}  // namespace selfheal::detail
