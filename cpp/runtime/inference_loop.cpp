#include "inference_loop.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <utility>

namespace selfheal::runtime {
namespace {

constexpr std::uint32_t kBeforeTheAnswer = kDamage | kRunFailed;
constexpr double kShort = 20e-6;      // seconds; a thread that waits asks after 5 ms
constexpr std::uint32_t kTimed = 32;  // inferences that are timed
constexpr double kDeaf = 0.05;        // seconds of a job between two looks for interrupts
constexpr double kNoClock = std::numeric_limits<double>::quiet_NaN();
constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

// One call deep: what is between a caller and an inference is paid by every small model.
[[gnu::always_inline]] inline HotPath::Progress InferenceLoop::serve(const Job& job,
                                                                     std::size_t first,
                                                                     std::size_t end, double now,
                                                                     double until) {
  const auto inferences = static_cast<double>(end - first);
  if (path_.engine()->needs_interpreter_lock() || inferences * seconds_ < kShort) {
    return path_.serve(job, first, end, now, &lock_, until);
  }
  host_.release_interpreter();
  const HotPath::Progress progress = timed_ < kTimed
                                         ? serve_timed(job, first, end, now, until)
                                         : path_.serve(job, first, end, now, &lock_, until);
  host_.take_interpreter();
  return progress;
}

[[gnu::always_inline]] inline void InferenceLoop::serve_all(const Job& job, bool& is_attended) {
  std::size_t next = 0;
  double until = job.count > 1 ? coarse_seconds() + kDeaf : kNever;
  std::size_t failed = job.count;  // no such inference
  const bool has_clock = host_.has_clock();
  const bool is_stepwise = has_clock || path_.is_foreign();
  while (next < job.count) {
    if (lock_.is_closed()) throw Closed();
    const double now = has_clock ? host_.now() : kNoClock;
    if (path_.engine() == nullptr) throw Closed();
    const HotPath::Progress progress =
        serve(job, next, is_stepwise ? next + 1 : job.count, now, until);
    next = progress.next;
    if (progress.up == 0) {
      if (next == job.count) return;
      let_in(job);
      if (coarse_seconds() >= until) {
        host_.check_interrupts();
        until = coarse_seconds() + kDeaf;
      }
      continue;
    }
    is_attended = true;
    const bool is_before = (progress.up & kBeforeTheAnswer) != 0;
    attended_ = is_before ? next : next - 1;
    if ((progress.up & kMonitorFailed) != 0) host_.fail();
    if ((progress.up & kRunFailed) != 0) {
      if (path_.engine() == nullptr) {
        host_.forget_failure();
        throw Closed();
      }
      if (failed == next) host_.fail();  // what was healed was not the reason
      failed = next;
    }
    host_.attend(job, attended_, progress.up);
    if (is_before) continue;  // it goes on with the inference that something was found at
    if (!job.records.empty()) {
      Record& record = job.records[attended_];
      record.is_trusted = record.is_sound && path_.is_trusted();
      record.is_quarantined = path_.is_suspecting;
    }
    if (next < job.count) let_in(job);
  }
}

void InferenceLoop::run(const Job& job) {
  if (!lock_.try_enter()) host_.enter(lock_);
  const Job* const outer = job_;
  const std::size_t outer_attended = attended_;
  bool is_attended = false;
  const auto end = [&] {
    job_ = outer;
    attended_ = outer_attended;
    if (lock_.leave() && is_attended) host_.ended();
  };
  try {
    if (path_.is_running()) {
      throw std::logic_error(
          "model: expected a prediction outside of a run of the model, got one from inside");
    }
    job_ = &job;
    serve_all(job, is_attended);
  } catch (...) {
    path_.give_up();
    end();
    throw;
  }
  end();
}

// Between the inferences of a job: a thread that waits does so for one inference, not for all.
void InferenceLoop::let_in(const Job& job) {
  if (!lock_.can_give_way()) return;
  job_ = nullptr;  // a lock that was taken once serves the outermost job
  host_.give_way(lock_);
  job_ = &job;
}

HotPath::Progress InferenceLoop::serve_timed(const Job& job, std::size_t first, std::size_t end,
                                             double now, double until) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const HotPath::Progress progress = path_.serve(job, first, end, now, &lock_, until);
  if (progress.next > first) {
    const std::chrono::duration<double> took = Clock::now() - begin;
    shortest_ = std::min(shortest_, took.count() / static_cast<double>(progress.next - first));
    if (++timed_ == kTimed) seconds_ = shortest_;
  }
  return progress;
}

bool InferenceLoop::again() {
  if (job_ == nullptr) throw std::logic_error("again: expected to be called while attending");
  return path_.again(*job_, attended_);
}

}  // namespace selfheal::runtime
