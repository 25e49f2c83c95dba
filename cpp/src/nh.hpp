#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "selfheal/keyed_hash.hpp"

/// NH, layer 1 of keyed_hash.hpp, over whole stripes of 64 bytes.
namespace selfheal::detail {

struct NhSum {
  std::uint64_t first = 0;   // under key[0] …
  std::uint64_t second = 0;  // under key[8] …: one stripe on
};

/// key: 8 * (stripes + 1) words.
using NhFunction = NhSum (*)(const std::byte* data, std::size_t stripes,
                             const std::uint64_t* key) noexcept;

NhSum nh_portable(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept;
#if defined(__SSE2__)
NhSum nh_sse2(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept;
#endif
#if defined(__ARM_NEON) && defined(__ORDER_LITTLE_ENDIAN__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SELFHEAL_NH_NEON
NhSum nh_neon(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept;
#endif

/// keyed_hash of 8 blocks of `size` bytes: whole stripes, one chunk at most. Does `copies` on the
/// side: they wait for memory while the hash waits for multiplications.
using HashEightFunction = void (*)(const HashSchedule& schedule, const std::uint64_t* tweaks,
                                   const std::byte* const* blocks, std::size_t size,
                                   std::uint64_t* hashes,
                                   std::span<const BlockCopy> copies) noexcept;

#if defined(SELFHEAL_AVX2)
void hash_eight_avx2(const HashSchedule& schedule, const std::uint64_t* tweaks,
                     const std::byte* const* blocks, std::size_t size, std::uint64_t* hashes,
                     std::span<const BlockCopy> copies) noexcept;
NhSum nh_avx2(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept;
#endif
#if defined(SELFHEAL_AVX512)
void hash_eight_avx512(const HashSchedule& schedule, const std::uint64_t* tweaks,
                       const std::byte* const* blocks, std::size_t size, std::uint64_t* hashes,
                       std::span<const BlockCopy> copies) noexcept;
NhSum nh_avx512(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept;
#endif

/// Vector: registers of kWords 64-bit words with load, zero, accumulate (sum + NH products of m and
/// k) and total.
template <typename Vector>
struct Nh {
  using Type = typename Vector::Type;
  static constexpr std::size_t kVectors = 8 / Vector::kWords;

  Type first[kVectors];   // NOLINT: std::array refuses vector types
  Type second[kVectors];  // NOLINT: the same

  Nh(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept
      : Nh(data, stripes, key, [](std::size_t, std::size_t) {}) {}

  /// aside(s, v): called once for each stripe s and vector v of it.
  template <typename Aside>
  Nh(const std::byte* data, std::size_t stripes, const std::uint64_t* key, Aside aside) noexcept {
    Type now[kVectors];  // NOLINT: the same
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      first[v] = second[v] = Vector::zero();
      now[v] = Vector::load(key + v * Vector::kWords);
    }
    for (std::size_t s = 0; s < stripes; ++s, data += 64) {
      key += 8;
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) {
        const auto message = Vector::load(data + 8 * v * Vector::kWords);
        const auto next = Vector::load(key + v * Vector::kWords);
        first[v] = Vector::accumulate(first[v], message, now[v]);
        second[v] = Vector::accumulate(second[v], message, next);
        now[v] = next;
        aside(s, v);
      }
    }
  }
};

template <typename Vector>
inline NhSum nh_sum(const std::byte* data, std::size_t stripes, const std::uint64_t* key) noexcept {
  const Nh<Vector> nh(data, stripes, key);
  NhSum sum;
#pragma GCC unroll 8
  for (std::size_t v = 0; v < Nh<Vector>::kVectors; ++v) {
    sum.first += Vector::total(nh.first[v]);
    sum.second += Vector::total(nh.second[v]);
  }
  return sum;
}

/// SipHash-2-4 of kWords messages side by side. Vector: also add, bit_xor, rotl<bits>.
template <typename Vector>
class SipLanes {
 public:
  using Type = typename Vector::Type;

  explicit SipLanes(HashKey key) noexcept
      : v0_(Vector::all(key.k0 ^ 0x736F6D6570736575U)),
        v1_(Vector::all(key.k1 ^ 0x646F72616E646F6DU)),
        v2_(Vector::all(key.k0 ^ 0x6C7967656E657261U)),
        v3_(Vector::all(key.k1 ^ 0x7465646279746573U)) {}

  void absorb(Type words) noexcept {
    v3_ = Vector::bit_xor(v3_, words);
    round();
    round();
    v0_ = Vector::bit_xor(v0_, words);
  }

  Type finish_with(std::uint64_t last) noexcept {
    absorb(Vector::all(last));
    v2_ = Vector::bit_xor(v2_, Vector::all(0xFFU));
    for (int i = 0; i < 4; ++i) round();
    return Vector::bit_xor(Vector::bit_xor(v0_, v1_), Vector::bit_xor(v2_, v3_));
  }

 private:
  void round() noexcept {
    v0_ = Vector::add(v0_, v1_);
    v2_ = Vector::add(v2_, v3_);
    v1_ = Vector::bit_xor(Vector::template rotl<13>(v1_), v0_);
    v3_ = Vector::bit_xor(Vector::template rotl<16>(v3_), v2_);
    v0_ = Vector::template rotl<32>(v0_);
    v2_ = Vector::add(v2_, v1_);
    v0_ = Vector::add(v0_, v3_);
    v1_ = Vector::bit_xor(Vector::template rotl<17>(v1_), v2_);
    v3_ = Vector::bit_xor(Vector::template rotl<21>(v3_), v0_);
    v2_ = Vector::template rotl<32>(v2_);
  }

  Type v0_;
  Type v1_;
  Type v2_;
  Type v3_;
};

/// Vector: also totals, which sums up each of kWords vectors into one lane.
template <typename Vector>
inline void hash_eight(const HashSchedule& schedule, const std::uint64_t* tweaks,
                       const std::byte* const* blocks, std::size_t size, std::uint64_t* hashes,
                       std::span<const BlockCopy> copies) noexcept {
  constexpr std::size_t kLanes = Vector::kWords;
  for (std::size_t begin = 0; begin < 8; begin += kLanes) {
    typename Vector::Type first[kLanes];   // NOLINT: std::array refuses vector types
    typename Vector::Type second[kLanes];  // NOLINT: the same
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const std::byte* const block = blocks[begin + lane];
      const std::size_t stripes = size / HashSchedule::kStripe;
      const bool is_copying = begin + lane < copies.size();
      const BlockCopy job = is_copying ? copies[begin + lane] : BlockCopy{};
      const auto copy = [job](std::size_t s, std::size_t v) {
        const std::size_t at = 64 * s + 8 * kLanes * v;
        Vector::store(job.to + at, Vector::load(job.from + at));
      };
      Nh<Vector> nh = is_copying ? Nh<Vector>(block, stripes, schedule.nh(), copy)
                                 : Nh<Vector>(block, stripes, schedule.nh());
#pragma GCC unroll 8
      for (std::size_t v = 1; v < Nh<Vector>::kVectors; ++v) {
        nh.first[0] = Vector::add(nh.first[0], nh.first[v]);
        nh.second[0] = Vector::add(nh.second[0], nh.second[v]);
      }
      first[lane] = nh.first[0];
      second[lane] = nh.second[0];
    }
    SipLanes<Vector> sip(schedule.outer());
    sip.absorb(Vector::totals(first));
    sip.absorb(Vector::totals(second));
    sip.absorb(Vector::load(tweaks + begin));
    Vector::store(hashes + begin, sip.finish_with(size | std::uint64_t{31} << 56));
  }
}

}  // namespace selfheal::detail
