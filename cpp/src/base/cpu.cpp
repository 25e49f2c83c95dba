#include "base/cpu.hpp"

#if defined(__linux__) && (defined(__arm__) || defined(__aarch64__))
#include <sys/auxv.h>
#endif

namespace selfheal::detail {
namespace {

std::uint32_t found() noexcept {
  std::uint32_t features = kNothing;
  [[maybe_unused]] const auto add = [&](bool is_there, CpuFeature feature) {
    if (is_there) features |= feature;
  };
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_cpu_init();  // this may run before any constructor
  add(__builtin_cpu_supports("sse4.2") != 0, kX86Sse42);
  add(__builtin_cpu_supports("pclmul") != 0, kX86Pclmul);
  add(__builtin_cpu_supports("aes") != 0, kX86Aes);
  add(__builtin_cpu_supports("avx2") != 0, kX86Avx2);
  add(__builtin_cpu_supports("avx512f") != 0, kX86Avx512f);
#elif defined(__linux__) && defined(__aarch64__)
  // The kernel's numbers: older headers lack their names.
  const unsigned long has = getauxval(AT_HWCAP);
  add((has & 1UL << 3) != 0, kArmAes);
  add((has & 1UL << 4) != 0, kArmPmull);
  add((has & 1UL << 7) != 0, kArmCrc32);
#elif defined(__linux__) && defined(__arm__)
  const unsigned long has = getauxval(AT_HWCAP2);
  add((has & 1UL << 0) != 0, kArmAes);
  add((has & 1UL << 1) != 0, kArmPmull);
  add((has & 1UL << 4) != 0, kArmCrc32);
#elif defined(__APPLE__) && defined(__aarch64__)
  features = kArmAes | kArmPmull | kArmCrc32;  // every one of Apple's has them
#endif
  return features;
}

}  // namespace

bool cpu_has(std::uint32_t features) noexcept {
  static const std::uint32_t has = found();
  return (has & features) == features;
}

}  // namespace selfheal::detail
