#include "selfheal/base/crc32c.hpp"

#include <atomic>

#include "base/backend_list.hpp"
#include "base/crc32c_backends.hpp"

namespace selfheal {
namespace {

using Backends = detail::BackendList<detail::Crc32cFunction, 3>;

const Backends& backends() noexcept {
  static const Backends found = [] {
    Backends list;
#if defined(SELFHEAL_CRC32C_SSE42)
    list.add("sse4.2", &detail::crc32c_sse42, detail::kX86Sse42 | detail::kX86Pclmul);
#endif
#if defined(SELFHEAL_CRC32C_ARMV8)
    list.add("armv8", &detail::crc32c_armv8, detail::kArmCrc32);
#endif
    list.add("portable", &detail::crc32c_portable);
    return list;
  }();
  return found;
}

std::atomic<std::size_t>& chosen() noexcept {
  static std::atomic<std::size_t> index{0};
  return index;
}

std::uint32_t first_call(std::uint32_t state, const std::byte* data, std::size_t size) noexcept;

// Not a function-local static: the guard would be paid for on every 512-byte block.
std::atomic<detail::Crc32cFunction> current{&first_call};  // NOLINT: the one switch

std::uint32_t first_call(std::uint32_t state, const std::byte* data, std::size_t size) noexcept {
  const detail::Crc32cFunction fastest = backends().function(chosen().load());
  detail::Crc32cFunction expected = &first_call;
  current.compare_exchange_strong(expected, fastest);
  return fastest(state, data, size);
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t value) noexcept {
  return ~current.load(std::memory_order_relaxed)(~value, bytes.data(), bytes.size());
}

std::string_view crc32c_backend() noexcept { return backends().names()[chosen().load()]; }

std::span<const std::string_view> crc32c_backends() noexcept { return backends().names(); }

bool set_crc32c_backend(std::string_view name) noexcept {
  const std::size_t index = backends().find(name);
  if (index == backends().names().size()) return false;
  chosen().store(index);
  current.store(backends().function(index));
  return true;
}

}  // namespace selfheal
