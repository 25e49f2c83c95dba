#include "fork_guard.hpp"

#include <pthread.h>

#include <atomic>

namespace selfheal::runtime {

namespace {

std::atomic<std::uint32_t> generation{0};

void count_fork() noexcept { generation.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

ForkGuard::ForkGuard() {
  static const int registered = pthread_atfork(nullptr, nullptr, count_fork);
  static_cast<void>(registered);
  generation_ = generation.load(std::memory_order_relaxed);
}

bool ForkGuard::forked() const noexcept {
  return generation.load(std::memory_order_relaxed) != generation_;
}

}  // namespace selfheal::runtime
