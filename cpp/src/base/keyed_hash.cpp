#include "selfheal/base/keyed_hash.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "base/backend_list.hpp"
#include "base/hash_backends.hpp"
#include "base/siphash.hpp"

namespace selfheal {
namespace {

std::uint64_t majority(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept {
  return (a & b) | (a & c) | (b & c);
}

struct Functions {
  detail::HashFunction one = nullptr;
  detail::HashEightFunction eight = nullptr;  // none: one by one
};
using HashBackends = detail::BackendList<Functions, 3>;

const HashBackends& backends() noexcept {
  static const HashBackends found = [] {
    HashBackends list;
#if defined(SELFHEAL_CLNH_AESNI)
    list.add("clnh-aesni", {&detail::clnh_hash_aesni, &detail::clnh_eight_aesni},
             detail::kX86Aes | detail::kX86Pclmul);
#endif
#if defined(SELFHEAL_CLNH_NEON)
    list.add("clnh-neon", {&detail::clnh_hash_neon}, detail::kArmAes | detail::kArmPmull);
#endif
#if defined(SELFHEAL_NH_NEON)
    list.add("nh-neon", {&detail::nh_hash_neon});
#endif
    list.add("nh", {&detail::nh_hash});
    return list;
  }();
  return found;
}

std::uint64_t first_call(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept;

std::atomic<std::size_t> chosen{0};  // NOLINT: the one switch
// Not a function-local static: the guard would be paid for on every block.
std::atomic<detail::HashFunction> current{&first_call};         // NOLINT: the same
std::atomic<detail::HashEightFunction> current_eight{nullptr};  // NOLINT: the same

std::uint64_t first_call(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept {
  const Functions fastest = backends().function(chosen.load());
  detail::HashFunction expected = &first_call;
  if (current.compare_exchange_strong(expected, fastest.one)) current_eight.store(fastest.eight);
  return fastest.one(schedule, tweak, bytes);
}

}  // namespace

std::uint64_t siphash(HashKey key, std::span<const std::byte> bytes) noexcept {
  return detail::SipHash(key).finish(bytes, 0);
}

HashSchedule::HashSchedule(HashKey key) noexcept {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    detail::SipHash state(key);
    state.absorb(i);
    words_[i] = state.finish({}, sizeof(std::uint64_t));
  }
}

std::uint64_t keyed_hash(const HashSchedule& schedule, std::uint64_t tweak,
                         std::span<const std::byte> bytes) noexcept {
  return current.load(std::memory_order_relaxed)(schedule, tweak, bytes);
}

void keyed_hashes(const HashSchedule& schedule, std::uint64_t first_tweak,
                  std::span<const std::byte* const> blocks, std::size_t size,
                  std::span<std::uint64_t> hashes) noexcept {
  const detail::HashEightFunction eight = current_eight.load(std::memory_order_relaxed);
  // Half a row takes no longer one by one.
  if (eight != nullptr && blocks.size() > 4 && size % HashSchedule::kStripe == 0 &&
      size <= HashSchedule::kChunk && size != 0) {
    if (blocks.size() == 8) {
      eight(schedule, first_tweak, blocks.data(), size, hashes.data());
      return;
    }
    std::array<const std::byte*, 8> padded;
    std::array<std::uint64_t, 8> all{};
    padded.fill(blocks[0]);
    std::copy(blocks.begin(), blocks.end(), padded.begin());
    eight(schedule, first_tweak, padded.data(), size, all.data());
    std::copy_n(all.begin(), blocks.size(), hashes.begin());
    return;
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    hashes[i] = keyed_hash(schedule, first_tweak + i, {blocks[i], size});
  }
}

std::string_view keyed_hash_backend() noexcept { return backends().names()[chosen.load()]; }

std::span<const std::string_view> keyed_hash_backends() noexcept { return backends().names(); }

bool set_keyed_hash_backend(std::string_view name) noexcept {
  const std::size_t index = backends().find(name);
  if (index == backends().names().size()) return false;
  chosen.store(index);
  current.store(backends().function(index).one);
  current_eight.store(backends().function(index).eight);
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
