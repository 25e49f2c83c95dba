#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "fork_guard.hpp"

namespace selfheal::runtime {

/// A lock that its holder may take again, that is handed on in the order of arrival, and that knows
/// when no thread may enter any more.
///
/// A thread that serves one prediction after the other would otherwise take a plain mutex back
/// before any other had woken up, and a worker that wants to repair something would wait for ever.
/// Free of contention, enter() and leave() are one atomic exchange each. Any thread.
class FairLock {
 public:
  /// Takes the lock if it is free and no thread waits for it, or if this thread has it.
  bool try_enter() noexcept;
  /// Takes the lock; waits for those who came before.
  void enter();
  /// Gives it back once for every time it was taken; true when that was the last.
  bool leave() noexcept;
  /// Whether a thread waits that this one, which has taken it once, could let in.
  bool can_give_way() const noexcept {
    return depth_ == 1 && waiting_.load(std::memory_order_relaxed) != 0;
  }
  /// Lets in the threads that wait, and takes it again after them; false where it cannot.
  bool give_way();
  /// Whether this thread has it.
  bool is_mine() const noexcept {
    return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id();
  }

  /// Whether another thread has it.
  bool is_of_another() const noexcept {
    return is_taken_.load(std::memory_order_relaxed) && !is_mine();
  }

  /// Whether this process is a fork of the one that made the lock: a thread that only the parent
  /// has may hold it for ever. To be looked at before anything else.
  bool forked() const noexcept { return guard_.forked(); }
  bool is_closed() const noexcept { return is_closed_.load(std::memory_order_acquire); }
  void close() noexcept { is_closed_.store(true, std::memory_order_release); }

 private:
  bool take() noexcept;

  ForkGuard guard_;
  std::atomic<bool> is_taken_{false};
  std::atomic<bool> is_closed_{false};
  std::atomic<std::uint32_t> waiting_{0};
  std::atomic<std::thread::id> owner_;
  std::uint32_t depth_ = 0;  // of the owner
  std::mutex queue_;
  std::condition_variable changed_;
  std::uint64_t served_ = 0;   // under queue_
  std::uint64_t arrived_ = 0;  // under queue_
};

}  // namespace selfheal::runtime
