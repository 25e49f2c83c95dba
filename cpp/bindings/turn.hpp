#pragma once

#include "fair_lock.hpp"
#include "gil.hpp"

namespace selfheal::python {

/// Takes the lock. A thread waits without the GIL, or the holder could not finish.
inline void enter(runtime::FairLock& lock) {
  if (lock.try_enter()) return;
  const ReleasedGil released;
  lock.enter();
}

/// Has the lock for as long as it lives.
class Turn {
 public:
  explicit Turn(runtime::FairLock& lock) : lock_(lock) { enter(lock_); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { lock_.leave(); }

 private:
  runtime::FairLock& lock_;
};

}  // namespace selfheal::python
