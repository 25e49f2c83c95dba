#include "bindings.hpp"
#include "turn_lock.hpp"

namespace {

using selfheal::runtime::TurnLock;

// Whoever waits does so without the GIL, or the holder could not finish.
void enter(TurnLock& lock) {
  if (lock.try_enter()) return;
  const selfheal::python::ReleasedGil released;
  lock.enter();
}

bool give_way(TurnLock& lock) {
  if (!lock.is_mine()) throw std::runtime_error("give_way: expected the lock to be this thread's");
  if (!lock.can_give_way()) return false;
  const selfheal::python::ReleasedGil released;
  return lock.give_way();
}

bool leave(TurnLock& lock) {
  if (!lock.is_mine()) throw std::runtime_error("leave: expected the lock to be this thread's");
  return lock.leave();
}

}  // namespace

void bind_turn_lock(py::module_& m) {
  py::class_<TurnLock, std::shared_ptr<TurnLock>>(
      m, "TurnLock", "A re-entrant lock that is handed on in the order of arrival.")
      .def(py::init<>())
      .def("enter", &enter, "Take it; wait for those who came before.")
      .def("try_enter", &TurnLock::try_enter, "Take it if nobody has it or waits; say whether.")
      .def("leave", &leave, "Give it back; True when this thread has it no more.")
      .def("give_way", &give_way, "Let in who waits, if it was taken once; say whether.")
      .def("close", &TurnLock::close, "Let nobody in any more.")
      .def_property_readonly("mine", &TurnLock::is_mine, "Whether this thread has it.")
      .def_property_readonly("closed", &TurnLock::is_closed, "Whether nobody may come in any more.")
      .def_property_readonly("forked", &TurnLock::forked,
                             "Whether this process is a fork of the one that made it.");
}
