#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include "fair_lock.hpp"
#include "hot_path.hpp"

namespace selfheal::runtime {

/// The model was closed, maybe in the middle of a job.
struct Closed : std::exception {
  const char* what() const noexcept override { return "the model was closed"; }
};

/// The program around the loop: a language with an interpreter's lock, and what attends to what
/// comes up. Called by the thread that serves, which has both locks, but where it says otherwise.
class Host {
 public:
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  virtual ~Host() = default;

  /// Whether now() is a clock of the program's own.
  virtual bool has_clock() const noexcept = 0;
  /// Its seconds. It may serve another job, or close the model.
  virtual double now() = 0;
  /// Something is up at inference `index` of a job: `up` of Attention. May serve other jobs, heal,
  /// attach another engine, or close the model; throws to end the job.
  virtual void attend(const Job& job, std::size_t index, std::uint32_t up) = 0;
  /// Throws what the engine or the monitor has failed with.
  [[noreturn]] virtual void fail() = 0;
  /// Forgets it: the model was closed meanwhile, and that is what the caller hears.
  virtual void forget_failure() noexcept = 0;
  /// Between two inferences of a long job; throws to end it.
  virtual void check_interrupts() = 0;
  /// The inference lock was given back, by a job during which the host was called.
  virtual void ended() = 0;
  /// Takes the inference lock, or lets those in who wait for it, and waits without the
  /// interpreter's lock: its holder could not end otherwise. enter() is called without it.
  virtual void enter(FairLock& lock) = 0;
  virtual void give_way(FairLock& lock) = 0;
  /// Gives the interpreter's lock away while inferences are served, and takes it back.
  virtual void release_interpreter() noexcept = 0;
  virtual void take_interpreter() noexcept = 0;
};

/// Serves jobs on a hot path: under the inference lock, one inference after the other, in the order
/// in which the threads came; and calls the host for what comes up.
///
/// An inference that takes longer than handing the interpreter's lock over does runs without it. No
/// allocation.
class InferenceLoop {
 public:
  InferenceLoop(HotPath& path, FairLock& lock, Host& host) noexcept
      : path_(path), lock_(lock), host_(host) {}

  /// Serves all of a job; throws Closed, and what the host throws.
  void run(const Job& job);
  /// Inside Host::attend: serves the inference that it is called for anew. False when the engine
  /// failed. Throws std::logic_error anywhere else.
  bool again();
  /// Another engine was attached.
  void reset_timing() noexcept {
    seconds_ = shortest_ = 1.0;
    timed_ = 0;
  }

 private:
  void serve_all(const Job& job, bool& is_attended);
  HotPath::Progress serve(const Job& job, std::size_t first, std::size_t end, double now,
                          double until);
  HotPath::Progress serve_timed(const Job& job, std::size_t first, std::size_t end, double now,
                                double until);
  void let_in(const Job& job);

  HotPath& path_;
  FairLock& lock_;
  Host& host_;
  // Of one inference: short ones keep the interpreter's lock, since to give it away and to take it
  // back costs more than another thread could do meanwhile.
  double seconds_ = 1.0;
  double shortest_ = 1.0;
  std::uint32_t timed_ = 0;
  const Job* job_ = nullptr;  // the one that is being served
  std::size_t attended_ = 0;
};

}  // namespace selfheal::runtime
