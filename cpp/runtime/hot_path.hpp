#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "condition_watch.hpp"
#include "engine.hpp"
#include "fair_lock.hpp"
#include "input_correction.hpp"
#include "monitor.hpp"
#include "selfheal/base/quantize.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/sweep_pacer.hpp"
#include "selfheal/measure/signal_pass.hpp"

namespace selfheal::runtime {

/// Seconds of a monotonic clock that is cheap to read and ticks every few milliseconds.
double coarse_seconds() noexcept;

/// What came up at an inference; a set of bits.
enum Attention : std::uint32_t {
  kDamage = 1,     ///< before it: the sweep found something, see findings(); it has not run yet
  kRunFailed = 2,  ///< the runtime failed; there is no answer yet
  kAlarm = 4,      ///< the monitor raised an alarm
  kDue = 8,        ///< something is due: a count of inferences or a time was reached
  kWatched = 16,   ///< the inference is to be handled, whatever came up
  kMonitorFailed = 32,  ///< the monitor's own code has failed; the answer is there
};

/// How a tensor's values look outside: as they are, or as real numbers for its levels.
struct Outside {
  ElementType type = ElementType::kInt8;
  Levels levels;
  std::size_t elements = 0;
  std::size_t nbytes = 0;
};

/// Values of n inferences, one after the other.
struct Feed {
  const std::byte* data = nullptr;
  std::size_t stride = 0;  // bytes from one inference to the next
  bool is_real = false;    // float32 to be quantised
};
struct Sink {
  std::byte* data = nullptr;
  std::size_t stride = 0;
  bool is_real = false;
};

/// Which bytes were right at an inference: every one of the images that execute, or not known.
enum class Verified : std::uint8_t {
  kNone,
  kBefore,  ///< right before it ran
  kAround,  ///< before and after, and nothing was repaired between
};

/// What is known of an answer.
struct Record {
  std::uint64_t number = 0;  ///< of the inference: the first one ever is 1
  std::int64_t label = -1;   ///< as PassResult
  double confidence = 0.0;   ///< as PassResult
  /// Whether inputs and outputs are finite, and no sweep that was due before it was left out.
  bool is_sound = false;
  /// Whether it is sound, and answers could be relied on when it was given.
  bool is_trusted = false;
  /// Whether its input is suspect, as the handler says; false where no handler was called.
  bool is_quarantined = false;
  Verified verified = Verified::kNone;
};

/// Takes answers whose size is not known before.
class AnswerTaker {
 public:
  AnswerTaker() = default;
  AnswerTaker(const AnswerTaker&) = delete;
  AnswerTaker& operator=(const AnswerTaker&) = delete;
  virtual ~AnswerTaker() = default;
  /// Called by the thread that serves; a second time for an inference that is served anew. False
  /// where that failed.
  virtual bool take(std::size_t index) noexcept = 0;
};

/// n inferences to serve; what it refers to must outlive the call.
struct Job {
  std::span<const Feed> feeds;  ///< one an input
  std::span<const Sink> sinks;  ///< one an output; none where a taker has the answers
  /// A count for every inference, of values that quantisation has hidden; null: none.
  const std::int64_t* nonfinite = nullptr;
  std::size_t count = 1;
  std::span<Record> records;  ///< one an inference; empty: not asked for
  AnswerTaker* taker = nullptr;
};

/// What surrounds an inference, in one call: sweep a slice of the weights, copy and quantise the
/// input, run, measure, copy the answer, update the monitor.
///
/// It stops as soon as something is up, and its caller decides. Nothing here allocates after
/// attach() and guard(); no exception. One thread at a time, which has the inference lock.
class HotPath {
 public:
  struct Damage {
    std::size_t image;
    Finding finding;
  };
  struct Pace {
    std::uint64_t live_bytes = 0;
    std::uint64_t behind_bytes = 0;
    double live_seconds = 0.0;
    double behind_seconds = 0.0;
  };
  /// What a sweep does with what it finds.
  enum class Sweeping : std::uint8_t {
    kHeals,  ///< repairs it at once
    kLooks,  ///< only reports it, of live bytes alone
  };
  /// Checks of everything that executes: none, or before each inference, or after it as well.
  /// An inference during which a byte was wrong is made again from the state before it; after
  /// kMostTries findings its answer is given, not sound.
  static constexpr unsigned kMostTries = 8;
  struct Progress {
    std::size_t next;  ///< the inference to go on with
    std::uint32_t up;  ///< of Attention; 0: all are done, another thread waits, or it is `until`
  };
  /// Seconds that the parts of one inference took.
  struct Timing {
    double model = 0.0;     ///< copying in, running, copying out
    double checking = 0.0;  ///< sweeps and checks before it
    double beside = 0.0;    ///< signals and monitor
  };
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  /// signals and monitor must outlive this object.
  HotPath(SignalPass& signals, Monitor& monitor, std::vector<Outside> inputs,
          std::vector<Outside> outputs, Pace pace, Sweeping sweeping = Sweeping::kHeals);

  /// The engine to run from now on, which must outlive its use; null: none. `embedding`: the tap
  /// that the signals measure, -1 for none. is_proven: its bytes were verified when it began to
  /// serve, so that its answers are trusted although no sweep looks at them.
  void attach(Engine* engine, int embedding, bool is_proven = false);
  /// The images to sweep from now on, of which a shorter one's round takes as many inferences as
  /// the longest one's, and the lock under which another thread may work on them: a sweep is left
  /// out while one does. Null: none does.
  /// executing: of each, whether answers come from its bytes; empty: all. Verifying looks at these,
  /// and time alone paces the sweep of the others.
  void guard(std::vector<ImageGuard*> guards, FairLock* maintenance,
             std::vector<bool> executing = {});

  /// How the only input is corrected from now on, if it is; null: it never is. Must outlive its
  /// use. Signals of the input, and what is kept of it, are of what came in.
  void correct(const InputCorrection* correction) noexcept { correction_ = correction; }

  /// What looks at the first input of each inference from now on, as it came in; null: nothing.
  /// Must outlive its use.
  void watch(ConditionWatch* conditions) noexcept { conditions_ = conditions; }

  /// Where any thread says whether answers may be relied on; null: they may. Must outlive this.
  void trust_by(const std::atomic<bool>* trusting) noexcept { trusting_ = trusting; }

  /// Serves inferences `first` to `end` of a job. now: seconds; NaN reads coarse_seconds(). lock:
  /// if not null, stops after an inference when this thread could let another one in. until: stops
  /// after the first inference that begins at this time or later.
  Progress serve(const Job& job, std::size_t first, std::size_t end, double now,
                 const FairLock* lock = nullptr,
                 double until = std::numeric_limits<double>::infinity()) noexcept;
  /// The caller has given up the inference that serve() stopped before: the next one is another,
  /// with a sweep of its own.
  void give_up() noexcept {
    is_swept_ = false;
    tries_ = 0;
  }
  /// Serves inference `index` anew: the weights were healed meanwhile. Neither sweep nor monitor.
  bool again(const Job& job, std::size_t index) noexcept;
  /// Sweeps the slice that is due now; whether something was found.
  bool sweep(double now) noexcept;
  /// Whether an answer may be relied on that was sound by itself.
  bool is_trusted() const noexcept {
    return is_proven_ || trusting_ == nullptr || trusting_->load(std::memory_order_relaxed);
  }

  Engine* engine() const noexcept { return engine_; }
  bool is_running() const noexcept { return is_running_; }
  /// Whether the monitor lets nothing be served after an inference but what it allows itself.
  bool is_foreign() const noexcept { return monitor_.is_foreign(); }
  std::span<const Damage> damage() const noexcept { return {damage_.data(), damages_}; }
  const PassResult& result() const noexcept { return result_; }
  std::span<const double> row() const noexcept { return row_; }
  /// Of the last inference that was timed.
  const Timing& timing() const noexcept { return timing_; }
  /// Inferences served.
  std::uint64_t number() const noexcept { return number_; }

  std::uint64_t due_number = kNever;                             ///< kDue from this inference on
  double due_seconds = std::numeric_limits<double>::infinity();  ///< or from this time on
  /// kDue from this inference on, while its input has come to another condition.
  std::uint64_t passages_from = kNever;
  bool is_watched = false;
  bool awaits_calm = false;           ///< kWatched once the monitor has settled
  bool is_watched_on_record = false;  ///< kWatched where the job keeps records
  bool is_suspecting = false;         ///< the latest input is suspect, or all that come are
  bool is_timed = false;              ///< whether timing() is taken at each inference
  Sweeping sweeping;
  Verified verifying = Verified::kNone;  ///< what is checked at each inference
  bool is_all_watched =
      true;  ///< else some weights execute from copies unseen: no answer is verified

  std::size_t memory_bytes() const noexcept;

 private:
  void plan_live() noexcept;
  std::size_t verify() noexcept;
  bool verify_after() noexcept;
  bool are_right() const noexcept;
  void save_state() noexcept;
  void restore_state() noexcept;
  bool run() noexcept;
  void load(const Job& job, std::size_t index) noexcept;
  void measure(const Job& job, std::size_t index) noexcept;
  bool store(const Job& job, std::size_t index) noexcept;

  SignalPass& signals_;
  Monitor& monitor_;
  std::vector<Outside> inputs_;
  std::vector<Outside> outputs_;
  SweepPacer live_;
  SweepPacer behind_;
  Engine* engine_ = nullptr;
  int embedding_ = -1;
  bool is_proven_ = false;
  const InputCorrection* correction_ = nullptr;
  ConditionWatch* conditions_ = nullptr;
  const std::atomic<bool>* trusting_ = nullptr;
  std::vector<ImageGuard*> guards_;
  std::size_t block_bytes_ = 512;
  std::uint64_t next_live_ = 1;     // bytes that have to be owed for a row to be checked
  std::uint64_t longest_live_ = 1;  // bytes of the longest rounds
  std::uint64_t longest_behind_ = 1;
  FairLock* maintenance_ = nullptr;
  std::vector<std::vector<std::byte>> scratch_;  // levels of one inference, per input
  std::vector<const void*> in_;
  std::vector<const void*> out_;
  std::vector<const void*> inner_;
  std::vector<double> row_;
  std::vector<Finding> found_;
  std::vector<Damage> damage_;
  std::size_t damages_ = 0;
  std::vector<bool> executing_;
  std::vector<std::byte> state_;  // of the engine, before the inference
  Verified verified_ = Verified::kNone;
  unsigned tries_ = 0;  // times that something was found at this inference
  bool is_swept_ = false;
  bool is_left_out_ = false;
  bool is_running_ = false;
  PassResult result_;
  Timing timing_;
  std::uint64_t number_ = 0;
};

}  // namespace selfheal::runtime
