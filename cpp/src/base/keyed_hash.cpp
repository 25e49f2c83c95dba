#include "selfheal/base/keyed_hash.hpp"

#include <atomic>

#include "base/backend_list.hpp"
#include "base/hash_backends.hpp"
#include "base/siphash.hpp"

namespace selfheal {
namespace {

std::uint64_t majority(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept {
  return (a & b) | (a & c) | (b & c);
}

using HashBackends = detail::BackendList<const detail::HashFunctions*, 3>;

const HashBackends& backends() noexcept {
  static const HashBackends found = [] {
    HashBackends list;
#if defined(SELFHEAL_AVX2)
    list.add("avx2", &detail::nh_avx2, detail::kX86Avx2);
#endif
#if defined(SELFHEAL_NH_SSE2)
    list.add("sse2", &detail::nh_sse2);
#endif
#if defined(SELFHEAL_NH_NEON)
    list.add("neon", &detail::nh_neon);
#endif
    list.add("portable", &detail::nh_portable);
    return list;
  }();
  return found;
}

void first_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  const std::byte* const* blocks, std::size_t count, std::size_t size,
                  std::uint64_t* hashes) noexcept;
bool first_match(const HashSchedule& schedule, std::uint64_t first_tweak, const std::byte* blocks,
                 std::size_t count, std::size_t size, const std::uint64_t* one,
                 const std::uint64_t* other) noexcept;

constexpr detail::HashFunctions kFirstCall{&first_hashes, &first_match};
std::atomic<std::size_t> chosen{0};  // NOLINT: the one switch
// Not a function-local static: the guard would be paid for on every block.
std::atomic<const detail::HashFunctions*> current{&kFirstCall};  // NOLINT: the same

const detail::HashFunctions& fastest() noexcept {
  const detail::HashFunctions* const found = backends().function(chosen.load());
  const detail::HashFunctions* expected = &kFirstCall;
  current.compare_exchange_strong(expected, found);
  return *found;
}

void first_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  const std::byte* const* blocks, std::size_t count, std::size_t size,
                  std::uint64_t* hashes) noexcept {
  fastest().hashes(schedule, first_tweak, blocks, count, size, hashes);
}

bool first_match(const HashSchedule& schedule, std::uint64_t first_tweak, const std::byte* blocks,
                 std::size_t count, std::size_t size, const std::uint64_t* one,
                 const std::uint64_t* other) noexcept {
  return fastest().match(schedule, first_tweak, blocks, count, size, one, other);
}

}  // namespace

std::uint64_t siphash(HashKey key, std::span<const std::byte> bytes) noexcept {
  return detail::SipHash(key).finish(bytes, 0);
}

HashSchedule::HashSchedule(HashKey key) noexcept {
  const auto derived = [&](std::size_t i) {
    detail::SipHash state(key);
    state.absorb(i);
    return state.finish({}, sizeof(std::uint64_t));
  };
  for (std::size_t i = 0; i < words_.size(); i += 2) {
    const std::uint64_t both = derived(i / 2);
    words_[i] = static_cast<std::uint32_t>(both);
    words_[i + 1] = static_cast<std::uint32_t>(both >> 32);
  }
  for (std::size_t i = 0; i < outer_.size(); ++i) outer_[i] = derived(words_.size() / 2 + i);
}

std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept {
  const std::byte* const data = bytes.data();
  std::uint64_t hash = 0;
  current.load(std::memory_order_acquire)->hashes(schedule, tweak, &data, 1, bytes.size(), &hash);
  return hash;
}

void keyed_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes) noexcept {
  current.load(std::memory_order_acquire)
      ->hashes(schedule, first_tweak, blocks.data(), blocks.size(), size, hashes.data());
}

bool keyed_hashes_match(const HashSchedule& schedule, std::uint64_t first_tweak,
                        std::span<const std::byte> blocks, std::size_t size,
                        std::span<const std::uint64_t> one,
                        std::span<const std::uint64_t> other) noexcept {
  return current.load(std::memory_order_acquire)
      ->match(schedule, first_tweak, blocks.data(), one.size(), size, one.data(), other.data());
}

std::string_view keyed_hash_backend() noexcept { return backends().names()[chosen.load()]; }

std::span<const std::string_view> keyed_hash_backends() noexcept { return backends().names(); }

bool set_keyed_hash_backend(std::string_view name) noexcept {
  const std::size_t index = backends().find(name);
  if (index == backends().names().size()) return false;
  chosen.store(index);
  current.store(backends().function(index));
  return true;
}

KeptKey::KeptKey(HashKey key) noexcept : copies_{key, key, key}, schedule_(key) {}

HashKey KeptKey::get() const noexcept {
  return {majority(copies_[0].k0, copies_[1].k0, copies_[2].k0),
          majority(copies_[0].k1, copies_[1].k1, copies_[2].k1)};
}

bool KeptKey::is_whole() const noexcept {
  return copies_[0] == copies_[1] && copies_[1] == copies_[2] && schedule_ == fresh();
}

bool KeptKey::mend() noexcept {
  if (is_whole()) return false;
  *this = KeptKey(get());
  return true;
}

std::uint64_t KeptKey::hash(std::uint64_t tweak, std::span<const std::byte> bytes) const noexcept {
  return keyed_hash(fresh(), tweak, bytes);
}

}  // namespace selfheal
