#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine.hpp"
#include "selfheal/base/quantize.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/sweep_pacer.hpp"
#include "selfheal/measure/inference_monitor.hpp"
#include "selfheal/measure/signal_pass.hpp"
#include "turn_lock.hpp"

namespace selfheal::runtime {

/// Seconds of a monotonic clock that is cheap to read and ticks every few milliseconds.
double coarse_seconds() noexcept;

/// What came up at an inference; a set of bits.
enum Attention : std::uint32_t {
  kDamage = 1,     ///< before it: the sweep found something, see findings(); it has not run yet
  kRunFailed = 2,  ///< the runtime failed; there is no answer yet
  kAlarm = 4,      ///< the monitor raised an alarm
  kDue = 8,        ///< something is due: a count of inferences or a time was reached
  kWatched = 16,   ///< whoever watches wants to see every inference
};

/// How a tensor's values look outside: as they are, or as real numbers for its levels.
struct Outside {
  ElementType type = ElementType::kInt8;
  Levels levels;
  std::size_t elements = 0;
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

/// What surrounds an inference, in one call: sweep a slice of the weights, copy and quantise the
/// input, run, measure, update the monitor, copy the answer.
///
/// It stops as soon as something is up, and whoever watches decides. Nothing here allocates after
/// attach() and guard(); no exception. One thread at a time, which has the model's turn.
class HotPath {
 public:
  struct Damage {
    std::size_t image;
    Finding finding;
  };
  struct Pace {
    std::size_t fast_bytes = 0;
    std::size_t keyed_bytes = 0;
    double fast_seconds = 0.0;
    double keyed_seconds = 0.0;
  };
  struct Progress {
    std::size_t next;  ///< the inference to go on with
    std::uint32_t up;  ///< of Attention; 0: all are done, another thread waits, or it is `until`
  };
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  /// signals and monitor must outlive this object.
  HotPath(SignalPass& signals, InferenceMonitor& monitor, std::vector<Outside> inputs,
          std::vector<Outside> outputs, Pace pace);

  /// The engine to run from now on, which must outlive its use; null: none. `embedding`: the tap
  /// that the signals measure, -1 for none.
  void attach(Engine* engine, int embedding);
  /// The images to sweep from now on, and the lock under which somebody else may work on them: a
  /// sweep is left out while somebody does. Null: nobody does.
  void guard(std::vector<ImageGuard*> guards, TurnLock* care);

  /// Names what serve() reads and writes: one feed an input, one sink an output. `nonfinite` has a
  /// count for every inference, of values that quantisation has hidden; or is null.
  void feed(std::span<const Feed> feeds, std::span<const Sink> sinks,
            const std::int64_t* nonfinite) noexcept;
  /// Serves inferences `first` to `end` of what was fed. now: seconds; NaN reads coarse_seconds().
  /// turn: if not null, stops after an inference when this thread could give way to another.
  /// until: stops after the first inference that begins at this time or later.
  Progress serve(std::size_t first, std::size_t end, double now, const TurnLock* turn = nullptr,
                 double until = std::numeric_limits<double>::infinity()) noexcept;
  /// Whoever watches has given up the inference that serve() stopped before: the next one is
  /// another, with a sweep of its own.
  void give_up() noexcept { is_swept_ = false; }
  /// Serves inference `index` anew: the weights were healed meanwhile. Neither sweep nor monitor.
  bool again(std::size_t index) noexcept;
  /// Sweeps the slice that is due now; whether something was found.
  bool sweep(double now) noexcept;

  const Engine* engine() const noexcept { return engine_; }
  std::span<const Damage> damage() const noexcept { return {damage_.data(), damages_}; }
  const PassResult& result() const noexcept { return result_; }
  /// Whether the sweep that was due before the last inference was left out, since somebody else
  /// worked on the images.
  bool was_left_out() const noexcept { return is_left_out_; }
  std::span<const double> row() const noexcept { return row_; }
  /// Inferences served.
  std::uint64_t number() const noexcept { return number_; }
  void count_one() noexcept { ++number_; }

  std::uint64_t due_number = kNever;                             ///< kDue from this inference on
  double due_seconds = std::numeric_limits<double>::infinity();  ///< or from this time on
  bool is_watched = false;

  std::size_t memory_bytes() const noexcept;

 private:
  void load(std::size_t index) noexcept;
  void measure(std::size_t index) noexcept;
  void store(std::size_t index) noexcept;

  SignalPass& signals_;
  InferenceMonitor& monitor_;
  std::vector<Outside> inputs_;
  std::vector<Outside> outputs_;
  SweepPacer fast_;
  SweepPacer keyed_;
  Engine* engine_ = nullptr;
  int embedding_ = -1;
  std::vector<ImageGuard*> guards_;
  std::size_t block_bytes_ = 512;
  TurnLock* care_ = nullptr;
  std::vector<std::vector<std::byte>> scratch_;  // levels of one inference, per input
  std::vector<Feed> feeds_;
  std::vector<Sink> sinks_;
  const std::int64_t* nonfinite_ = nullptr;
  std::vector<const void*> in_;
  std::vector<const void*> out_;
  std::vector<double> row_;
  std::vector<Finding> found_;
  std::vector<Damage> damage_;
  std::size_t damages_ = 0;
  bool is_swept_ = false;
  bool is_left_out_ = false;
  PassResult result_;
  std::uint64_t number_ = 0;
};

}  // namespace selfheal::runtime
