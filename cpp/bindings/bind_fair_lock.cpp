#include <memory>
#include <utility>

#include "bindings.hpp"
#include "turn.hpp"

namespace {

using namespace selfheal::python;
using selfheal::runtime::FairLock;

bool give_way(FairLock& lock) {
  if (!lock.is_mine()) throw std::runtime_error("give_way: expected the lock to be this thread's");
  if (!lock.can_give_way()) return false;
  const selfheal::python::ReleasedGil released;
  return lock.give_way();
}

bool leave(FairLock& lock) {
  if (!lock.is_mine()) throw std::runtime_error("leave: expected the lock to be this thread's");
  return lock.leave();
}

// `with` on these takes and gives back in one call each, without Python in between: a signal's
// handler may raise after any of Python's own steps, and the lock would be held for ever.

// try_enter() for the length of a block, which hears whether it succeeded.
struct Attempt {
  std::shared_ptr<FairLock> lock;
  bool is_taken = false;
};

// enter() for the length of a block, with the conditions and the consequences that `Turns` has.
struct LockScope {
  std::shared_ptr<FairLock> lock = std::make_shared<FairLock>();
  std::shared_ptr<FairLock> inner;  // taken after this one, where a thread takes both

  bool is_inside_inner() const { return inner && inner->is_mine() && !lock->is_mine(); }
};

void enter_scope(const py::object& self) {
  const auto& scope = self.cast<const LockScope&>();
  FairLock& lock = *scope.lock;
  const auto refuse = [&self] {
    self.attr("check")();
    throw std::runtime_error("check: expected to say why no thread may enter");
  };
  if (lock.forked() || scope.is_inside_inner()) refuse();
  enter(lock);
  if (!lock.is_closed()) return;
  lock.leave();
  refuse();
}

void leave_scope(const py::object& self, const py::args& /*error*/) {
  if (leave(*self.cast<const LockScope&>().lock)) self.attr("ended")();
}

}  // namespace

void bind_fair_lock(py::module_& m) {
  Class<FairLock, std::shared_ptr<FairLock>>(
      m, "FairLock", "A re-entrant lock that is handed on in the order of arrival.")
      .def(constructor<>())
      .def("enter", &enter, "Take it; wait for those who came before.")
      .def("try_enter", &FairLock::try_enter,
           "Take it if no other thread has it or waits; say whether.")
      .def("leave", &leave, "Give it back; True when this thread has it no more.")
      .def("give_way", &give_way, "Let in who waits, if it was taken once; say whether.")
      .def("__enter__", &enter, "Take it.")
      .def(
          "__exit__", [](FairLock& lock, const py::args& /*error*/) { leave(lock); },
          "Give it back.")
      .def(
          "attempt", [](std::shared_ptr<FairLock> lock) { return Attempt{std::move(lock)}; },
          "Make a context that takes it if no other thread has it or waits, and says so.")
      .def("close", &FairLock::close, "Let no thread enter any more.")
      .def_property_readonly("mine", &FairLock::is_mine, "Whether this thread has it.")
      .def_property_readonly("closed", &FairLock::is_closed,
                             "Whether no thread may enter any more.")
      .def_property_readonly("forked", &FairLock::forked,
                             "Whether this process is a fork of the one that made it.");
  Class<Attempt>(m, "LockAttempt", "A lock that is taken for a block if that needs no waiting.")
      .def("__enter__", [](Attempt& self) { return self.is_taken = self.lock->try_enter(); })
      .def("__exit__", [](Attempt& self, const py::args& /*error*/) {
        if (std::exchange(self.is_taken, false)) leave(*self.lock);
      });
  Class<LockScope>(m, "LockScope", "What `Turns` is built on: a lock for the length of a block.")
      .def(constructor([](LockScope* outer) {
             auto scope = std::make_unique<LockScope>();
             if (outer != nullptr) outer->inner = scope->lock;
             return scope;
           }),
           arg("outer") = nullptr)
      .def_property_readonly(
          "core", [](const LockScope& self) { return self.lock; }, "The lock.")
      .def_property_readonly("inside_inner", &LockScope::is_inside_inner,
                             "Whether this thread has the inner lock and not this one.")
      .def("__enter__", &enter_scope, "Take the lock; raise what `check` raises.")
      .def("__exit__", &leave_scope, "Give it back; call `ended` if that was the last.");
}
