#pragma once

// Letting go of the GIL, and taking it back in a process that may be ending.
//
// Until Python 3.13, a thread that asks for the GIL while the interpreter ends is ended by
// unwinding its stack (pthread_exit). That aborts the process where the unwinding meets a
// destructor or a function that is noexcept, and runs destructors of Python objects without the GIL
// where it does not. Such a thread stays where it is instead, as Python itself has it from 3.14 on;
// it is gone with the process.

#include <Python.h>
#include <unistd.h>

#include <cstddef>

namespace selfheal::python {

[[noreturn]] inline void stay_for_ever() noexcept {
  for (;;) pause();
}

/// PyEval_RestoreThread that returns with the GIL or not at all.
inline void take_gil(PyThreadState* thread) noexcept {
  try {
    PyEval_RestoreThread(thread);
  } catch (...) {
    stay_for_ever();
  }
}

/// What work of Python's C API returns, which may let go of the GIL as well. Called with nothing
/// between it and Python that has a destructor: unwinding would run that first.
template <typename Work>
auto or_stay(Work work) noexcept {
  try {
    return work();
  } catch (...) {
    stay_for_ever();
  }
}

/// PyObject_Vectorcall of positional arguments.
template <std::size_t count>
PyObject* call(PyObject* callable, PyObject* const (&arguments)[count]) noexcept {
  return or_stay([&] { return PyObject_Vectorcall(callable, arguments, count, nullptr); });
}

/// PyObject_CallNoArgs for a noexcept function.
inline PyObject* call_no_args(PyObject* callable) noexcept {
  return or_stay([=] { return PyObject_CallNoArgs(callable); });
}

/// Without the GIL for as long as it lives. Made by a thread that has it.
class ReleasedGil {
 public:
  ReleasedGil() : thread_(PyEval_SaveThread()) {}
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;
  ~ReleasedGil() { take_gil(thread_); }

 private:
  PyThreadState* thread_;
};

}  // namespace selfheal::python
