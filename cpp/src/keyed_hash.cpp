#include "selfheal/keyed_hash.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>

#include "backend_list.hpp"
#include "nh.hpp"
#include "selfheal/crc32c.hpp"

namespace selfheal {
namespace {

std::uint64_t little_endian(std::uint64_t word) noexcept {
  if constexpr (std::endian::native == std::endian::big) {
    std::uint64_t swapped = 0;
    for (int i = 0; i < 8; ++i) swapped |= ((word >> (8 * i)) & 0xFFU) << (56 - 8 * i);
    return swapped;
  }
  return word;
}

class State {
 public:
  explicit State(HashKey key) noexcept
      : v0_(key.k0 ^ 0x736F6D6570736575U),
        v1_(key.k1 ^ 0x646F72616E646F6DU),
        v2_(key.k0 ^ 0x6C7967656E657261U),
        v3_(key.k1 ^ 0x7465646279746573U) {}

  void absorb(std::uint64_t word) noexcept {
    v3_ ^= word;
    round();
    round();
    v0_ ^= word;
  }

  // The whole words of `bytes`, then the rest with the length's low byte on top.
  std::uint64_t finish(std::span<const std::byte> bytes, std::size_t bytes_before) noexcept {
    const std::byte* data = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 8; left -= 8, data += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data, 8);
      absorb(little_endian(word));
    }
    std::uint64_t last = static_cast<std::uint64_t>((bytes.size() + bytes_before) & 0xFFU) << 56;
    for (std::size_t i = 0; i < left; ++i) {
      last |= std::to_integer<std::uint64_t>(data[i]) << (8 * i);
    }
    return finish_with(last);
  }

  // last: up to 7 bytes, the length's low byte on top.
  std::uint64_t finish_with(std::uint64_t last) noexcept {
    absorb(last);
    v2_ ^= 0xFFU;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void round() noexcept {
    v0_ += v1_;
    v2_ += v3_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v1_;
    v0_ += v3_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ = std::rotl(v2_, 32);
  }

  std::uint64_t v0_;
  std::uint64_t v1_;
  std::uint64_t v2_;
  std::uint64_t v3_;
};

std::uint64_t majority(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept {
  return (a & b) | (a & c) | (b & c);
}

struct Functions {
  detail::NhFunction nh = nullptr;
  detail::HashEightFunction eight = nullptr;  // none: one by one
};
using NhBackends = detail::BackendList<Functions, 4>;

const NhBackends& backends() noexcept {
  static const NhBackends found = [] {
    NhBackends list;
#if defined(SELFHEAL_AVX512)
    // CPUs before these slow down for 512-bit multiplications.
    if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vbmi2") != 0) {
      list.add("avx512", {&detail::nh_avx512, &detail::hash_eight_avx512});
    }
#endif
#if defined(SELFHEAL_AVX2)
    if (__builtin_cpu_supports("avx2") != 0)
      list.add("avx2", {&detail::nh_avx2, &detail::hash_eight_avx2});
#endif
#if defined(__SSE2__)
    list.add("sse2", {&detail::nh_sse2});
#endif
#if defined(SELFHEAL_NH_NEON)
    list.add("neon", {&detail::nh_neon});
#endif
    list.add("portable", {&detail::nh_portable});
    return list;
  }();
  return found;
}

detail::NhSum first_call(const std::byte* data, std::size_t stripes,
                         const std::uint64_t* key) noexcept;

std::atomic<std::size_t> chosen{0};  // NOLINT: the one switch
// Not a function-local static: the guard would be paid for on every block.
std::atomic<detail::NhFunction> current{&first_call};  // NOLINT: the same

std::atomic<detail::HashEightFunction> current_eight{nullptr};  // NOLINT: the same

detail::NhSum first_call(const std::byte* data, std::size_t stripes,
                         const std::uint64_t* key) noexcept {
  const Functions fastest = backends().function(chosen.load());
  detail::NhFunction expected = &first_call;
  if (current.compare_exchange_strong(expected, fastest.nh)) current_eight.store(fastest.eight);
  return fastest.nh(data, stripes, key);
}

// Both sums of at most one chunk.
detail::NhSum sum_chunk(const HashSchedule& schedule, std::span<const std::byte> chunk) noexcept {
  constexpr std::size_t kStripe = HashSchedule::kStripe;
  const detail::NhFunction nh = current.load(std::memory_order_relaxed);
  const std::size_t whole = chunk.size() / kStripe;
  detail::NhSum sum = nh(chunk.data(), whole, schedule.nh());
  const auto rest = chunk.subspan(whole * kStripe);
  if (!rest.empty()) {
    std::array<std::byte, kStripe> padded{};
    std::memcpy(padded.data(), rest.data(), rest.size());
    const detail::NhSum last = nh(padded.data(), 1, schedule.nh() + 8 * whole);
    sum.first += last.first;
    sum.second += last.second;
  }
  return sum;
}

}  // namespace

std::uint64_t siphash(HashKey key, std::span<const std::byte> bytes) noexcept {
  return State(key).finish(bytes, 0);
}

HashSchedule::HashSchedule(HashKey key) noexcept {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    State state(key);
    state.absorb(i);
    words_[i] = state.finish({}, sizeof(std::uint64_t));
  }
}

std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept {
  State state(schedule.outer());
  std::size_t left = bytes.size();
  for (const std::byte* data = bytes.data(); left > 0;) {
    const std::size_t size = left < HashSchedule::kChunk ? left : HashSchedule::kChunk;
    const detail::NhSum sum = sum_chunk(schedule, {data, size});
    state.absorb(sum.first);
    state.absorb(sum.second);
    data += size;
    left -= size;
  }
  state.absorb(tweak);
  const std::size_t chunks = (bytes.size() + HashSchedule::kChunk - 1) / HashSchedule::kChunk;
  return state.finish_with(bytes.size() | ((16 * chunks + 15) & 0xFFU) << 56);
}

void keyed_hashes(const HashSchedule& schedule, std::span<const std::uint64_t> tweaks,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes, std::span<const BlockCopy> copies) noexcept {
  const detail::HashEightFunction eight = current_eight.load(std::memory_order_relaxed);
  // Half a row takes no longer one by one.
  if (eight != nullptr && blocks.size() > 4 && size % HashSchedule::kStripe == 0 &&
      size <= HashSchedule::kChunk && size != 0) {
    if (blocks.size() == 8) {
      eight(schedule, tweaks.data(), blocks.data(), size, hashes.data(), copies);
      return;
    }
    std::array<std::uint64_t, 8> padded_tweaks{};
    std::array<const std::byte*, 8> padded_blocks;
    std::array<std::uint64_t, 8> all{};
    padded_blocks.fill(blocks[0]);
    std::copy(tweaks.begin(), tweaks.end(), padded_tweaks.begin());
    std::copy(blocks.begin(), blocks.end(), padded_blocks.begin());
    eight(schedule, padded_tweaks.data(), padded_blocks.data(), size, all.data(), copies);
    std::copy_n(all.begin(), blocks.size(), hashes.begin());
    return;
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    hashes[i] = keyed_hash(schedule, tweaks[i], {blocks[i], size});
  }
  if (size == 0) return;  // empty blocks may lie nowhere
  for (const BlockCopy& copy : copies) std::memcpy(copy.to, copy.from, size);
}

std::string_view keyed_hash_backend() noexcept { return backends().names()[chosen.load()]; }

std::span<const std::string_view> keyed_hash_backends() noexcept { return backends().names(); }

bool set_keyed_hash_backend(std::string_view name) noexcept {
  const std::size_t index = backends().find(name);
  if (index == backends().names().size()) return false;
  chosen.store(index);
  current.store(backends().function(index).nh);
  current_eight.store(backends().function(index).eight);
  return true;
}

KeptKey::KeptKey(HashKey key) noexcept : copies_{key, key, key}, schedule_(key) {
  schedule_crc_ = crc32c(schedule_.bytes());
}

HashKey KeptKey::get() const noexcept {
  return {majority(copies_[0].k0, copies_[1].k0, copies_[2].k0),
          majority(copies_[0].k1, copies_[1].k1, copies_[2].k1)};
}

bool KeptKey::is_schedule_whole() const noexcept {
  return crc32c(schedule_.bytes()) == schedule_crc_;
}

bool KeptKey::is_whole() const noexcept {
  return copies_[0] == copies_[1] && copies_[1] == copies_[2] && is_schedule_whole();
}

bool KeptKey::mend() noexcept {
  if (is_whole()) return false;
  *this = KeptKey(get());
  return true;
}

std::uint64_t KeptKey::hash(std::uint64_t tweak, std::span<const std::byte> bytes) const noexcept {
  if (is_schedule_whole()) return keyed_hash(schedule_, tweak, bytes);
  return keyed_hash(HashSchedule(get()), tweak, bytes);
}

}  // namespace selfheal
