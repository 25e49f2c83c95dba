#include "fair_lock.hpp"

namespace selfheal::runtime {

bool FairLock::take() noexcept {
  bool expected = false;
  if (!is_taken_.compare_exchange_strong(expected, true, std::memory_order_seq_cst)) return false;
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  depth_ = 1;
  return true;
}

bool FairLock::try_enter() noexcept {
  if (is_mine()) {
    ++depth_;
    return true;
  }
  return waiting_.load(std::memory_order_seq_cst) == 0 && take();
}

void FairLock::enter() {
  if (try_enter()) return;
  std::unique_lock lock(queue_);
  waiting_.fetch_add(1, std::memory_order_seq_cst);
  const std::uint64_t ticket = arrived_++;
  changed_.wait(lock, [&] { return served_ == ticket && take(); });
  ++served_;
  waiting_.fetch_sub(1, std::memory_order_seq_cst);
  // The next in line looks once more when this thread leaves.
}

bool FairLock::leave() noexcept {
  if (--depth_ != 0) return false;
  owner_.store(std::thread::id(), std::memory_order_relaxed);
  is_taken_.store(false, std::memory_order_seq_cst);
  // Who counted himself in before that store sees the lock free, or is seen here.
  if (waiting_.load(std::memory_order_seq_cst) != 0) {
    const std::lock_guard lock(queue_);
    changed_.notify_all();
  }
  return true;
}

bool FairLock::give_way() {
  if (!can_give_way()) return false;
  leave();
  enter();
  return true;
}

}  // namespace selfheal::runtime
