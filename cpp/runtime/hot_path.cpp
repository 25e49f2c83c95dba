#include "hot_path.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>
#include <utility>

namespace selfheal::runtime {
namespace {

// The most of a round that one inference may have to wait for.
constexpr double kMostLive = 1.0 / 8;
constexpr double kMostBehind = 1.0 / 64;

template <typename T>
std::span<T> elements_of(void* data, std::size_t count) {
  return {static_cast<T*>(data), count};
}

void quantize_to(const Outside& outside, const std::byte* reals, std::byte* levels) noexcept {
  const std::span values(reinterpret_cast<const float*>(reals), outside.elements);
  switch (outside.type) {
    case ElementType::kInt8:
      return quantize(values, outside.levels, elements_of<std::int8_t>(levels, outside.elements));
    case ElementType::kUint8:
      return quantize(values, outside.levels, elements_of<std::uint8_t>(levels, outside.elements));
    case ElementType::kInt16:
      return quantize(values, outside.levels, elements_of<std::int16_t>(levels, outside.elements));
    case ElementType::kFloat32:
      return;
  }
}

void dequantize_to(const Outside& outside, const std::byte* levels, std::byte* reals) noexcept {
  const std::size_t n = outside.elements;
  const std::span<float> values = elements_of<float>(reals, n);
  switch (outside.type) {
    case ElementType::kInt8:
      return dequantize(std::span(reinterpret_cast<const std::int8_t*>(levels), n), outside.levels,
                        values);
    case ElementType::kUint8:
      return dequantize(std::span(reinterpret_cast<const std::uint8_t*>(levels), n), outside.levels,
                        values);
    case ElementType::kInt16:
      return dequantize(std::span(reinterpret_cast<const std::int16_t*>(levels), n), outside.levels,
                        values);
    case ElementType::kFloat32:
      return;
  }
}

}  // namespace

namespace {

double exact_seconds() noexcept {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double coarse_seconds() noexcept {
#ifdef CLOCK_MONOTONIC_COARSE
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return exact_seconds();
#endif
}

HotPath::HotPath(SignalPass& signals, Monitor& monitor, std::vector<Outside> inputs,
                 std::vector<Outside> outputs, Pace pace, Sweeping how)
    : sweeping(how),
      signals_(signals),
      monitor_(monitor),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      live_(pace.live_bytes, pace.live_seconds, kMostLive),
      behind_(pace.behind_bytes, pace.behind_seconds, kMostBehind),
      scratch_(inputs_.size()),
      in_(inputs_.size()),
      out_(outputs_.size()),
      inner_(signals.inner()),
      row_(signals.signals()) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) scratch_[i].resize(inputs_[i].nbytes);
}

void HotPath::attach(Engine* engine, int embedding, bool is_proven) {
  engine_ = engine;
  embedding_ = embedding;
  is_proven_ = is_proven;
  if (engine == nullptr) return;
  std::size_t bytes = 0;
  for (const TensorMemory& one : engine->variables()) bytes += one.nbytes;
  // What is saved stays: while an inference is made again, a new engine goes on from there.
  state_.resize(bytes);
}

void HotPath::guard(std::vector<ImageGuard*> guards, FairLock* maintenance,
                    std::vector<bool> executing) {
  // More than that in one slice end it early; the next one goes on there.
  constexpr std::size_t kMostFound = 64;
  std::size_t most = 1;
  longest_live_ = longest_behind_ = 1;
  for (const ImageGuard* one : guards) {
    most = std::max(most, std::min(kMostFound, one->live_blocks() + one->blocks_behind()));
    block_bytes_ = one->block_bytes();
    const std::uint64_t bytes = block_bytes_;
    longest_behind_ = std::max(longest_behind_, one->blocks_behind() * bytes);
  }
  found_.resize(most);
  damage_.resize(most * std::max<std::size_t>(1, guards.size()));
  damages_ = 0;
  guards_ = std::move(guards);
  maintenance_ = maintenance;
  executing_ = std::move(executing);
  executing_.resize(guards_.size(), executing_.empty());
  for (std::size_t i = 0; i < guards_.size(); ++i) {
    if (!executing_[i]) continue;
    longest_live_ =
        std::max<std::uint64_t>(longest_live_, guards_[i]->live_blocks() * block_bytes_);
  }
  plan_live();
}

// Finds how much has to be owed until some image's next row can be checked: asking all images at
// each inference would cost a small model more than checking it does.
void HotPath::plan_live() noexcept {
  next_live_ = std::numeric_limits<std::uint64_t>::max();
  for (std::size_t i = 0; i < guards_.size(); ++i) {
    if (!executing_[i]) continue;
    const std::uint64_t round = guards_[i]->live_blocks() * std::uint64_t{block_bytes_};
    std::uint64_t missing = std::max<std::uint64_t>(1, guards_[i]->missing_live_bytes());
    if (round < longest_live_) {  // it is brought 1 + share of what is owed: SweepPacer::due
      const double share = static_cast<double>(round) / static_cast<double>(longest_live_);
      missing = 1 + static_cast<std::uint64_t>(static_cast<double>(missing - 1) / share);
    }
    next_live_ = std::min(next_live_, missing);
  }
}

bool HotPath::sweep(double now) noexcept {
  const bool is_live_due = live_.tick(now, next_live_);
  const bool is_behind_due = behind_.tick(now, block_bytes_);
  is_left_out_ = false;
  verified_ = Verified::kNone;
  const bool verifies = verifying != Verified::kNone && !is_proven_;
  if (!is_live_due && !is_behind_due && !verifies) return false;
  if (maintenance_ != nullptr && !maintenance_->try_enter()) {  // it stays due
    is_left_out_ = true;
    return false;
  }
  damages_ = 0;
  for (std::size_t i = 0; i < guards_.size() && (is_live_due || is_behind_due); ++i) {
    ImageGuard& one = *guards_[i];
    const std::uint64_t bytes = block_bytes_;
    const std::uint64_t round = one.live_blocks() * bytes;
    std::uint64_t live = live_.due_by_time(round);
    if (executing_[i]) live = verifies ? 0 : live_.due(round, longest_live_);
    const std::uint64_t behind = behind_.due(one.blocks_behind() * bytes, longest_behind_);
    if (live == 0 && behind == 0) continue;
    const std::size_t count =
        sweeping == Sweeping::kHeals ? one.step(live, behind, found_) : one.look(live, found_);
    for (std::size_t k = 0; k < count; ++k) damage_[damages_++] = {i, found_[k]};
  }
  live_.done();
  behind_.done();
  plan_live();
  // Last, so that as little time as can be lies between the check and the run.
  if (verifies && damages_ == 0 && verify() == 0) verified_ = Verified::kBefore;
  if (maintenance_ != nullptr) maintenance_->leave();
  return damages_ != 0;
}

// Under the maintenance lock: every byte that executes; what is wrong goes to damage_.
std::size_t HotPath::verify() noexcept {
  for (std::size_t i = 0; i < guards_.size(); ++i) {
    if (!executing_[i]) continue;
    const std::size_t count = guards_[i]->verify(sweeping == Sweeping::kHeals, found_);
    for (std::size_t k = 0; k < count; ++k) damage_[damages_++] = {i, found_[k]};
  }
  return damages_;
}

bool HotPath::verify_after() noexcept {
  if (maintenance_ != nullptr && !maintenance_->try_enter()) {
    is_left_out_ = true;
    return false;
  }
  damages_ = 0;
  if (verify() == 0) verified_ = Verified::kAround;
  if (maintenance_ != nullptr) maintenance_->leave();
  return damages_ != 0;
}

// Whether every byte that executes is right; false also where another thread works on them.
bool HotPath::are_right() const noexcept {
  if (maintenance_ != nullptr && !maintenance_->try_enter()) return false;
  bool are_right = true;
  for (std::size_t i = 0; i < guards_.size() && are_right; ++i) {
    const WeightImage& image = guards_[i]->image();
    are_right = !executing_[i] || image.check(0, image.block_count(), {}) == 0;
  }
  if (maintenance_ != nullptr) maintenance_->leave();
  return are_right;
}

void HotPath::save_state() noexcept {
  std::byte* to = state_.data();
  for (const TensorMemory& one : engine_->variables()) {
    std::memcpy(to, one.data, one.nbytes);
    to += one.nbytes;
  }
}

void HotPath::restore_state() noexcept {
  const std::byte* from = state_.data();
  for (const TensorMemory& one : engine_->variables()) {
    std::memcpy(one.data, from, one.nbytes);
    from += one.nbytes;
  }
}

// What follows is served once an inference, and once more where an inference is served anew: a call
// each would cost as much as what they do.
[[gnu::always_inline]] inline bool HotPath::run() noexcept {
  Engine* const engine = engine_;
  is_running_ = true;
  const bool is_done = engine->run();
  is_running_ = false;
  return is_done && engine == engine_;  // it may have closed the model
}

[[gnu::always_inline]] inline void HotPath::load(const Job& job, std::size_t index) noexcept {
  const std::span<const TensorMemory> inputs = engine_->inputs();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Feed& feed = job.feeds[i];
    const std::byte* data = feed.data + index * feed.stride;
    if (feed.is_real) {  // beside the tensor, which the runtime may use for something else
      quantize_to(inputs_[i], data, scratch_[i].data());
      data = scratch_[i].data();
    }
    std::memcpy(inputs[i].data, data, inputs_[i].nbytes);
    in_[i] = data;
  }
  if (correction_ != nullptr && correction_->is_on()) [[unlikely]] {
    correction_->apply(static_cast<const std::byte*>(in_[0]), inputs[0].data);
  }
}

[[gnu::always_inline]] inline void HotPath::measure(const Job& job, std::size_t index) noexcept {
  const std::span<const TensorMemory> outputs = engine_->outputs();
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    // One of another size, since its shape follows from values, measures as NaN.
    out_[i] = outputs[i].nbytes == outputs_[i].nbytes ? outputs[i].data : nullptr;
  }
  const void* const embedding =
      embedding_ < 0 ? nullptr : engine_->taps()[static_cast<std::size_t>(embedding_)].data;
  // The embedding is the first tap, if there is one; inner tensors follow.
  const std::size_t first = embedding_ < 0 ? 0 : 1;
  for (std::size_t i = 0; i < inner_.size(); ++i) {
    const std::span<const TensorMemory> taps = engine_->taps();
    inner_[i] = first + i < taps.size() ? taps[first + i].data : nullptr;
  }
  result_ = signals_.look(in_, out_, embedding, row_, inner_);
  if (job.nonfinite != nullptr && job.nonfinite[index] != 0) {
    // What was replaced must not be taken for a signal.
    std::fill(row_.begin(), row_.end(), std::numeric_limits<double>::quiet_NaN());
    result_.nonfinite = static_cast<std::uint64_t>(job.nonfinite[index]);
  }
  if (job.records.empty()) return;
  Record& record = job.records[index];
  record.label = result_.label;
  record.confidence = result_.confidence;
  // Served anew after a repair, it has one try: what is not verified then is not trusted either.
  const bool is_verified = verifying == Verified::kNone || verified_ == verifying;
  record.is_sound = result_.nonfinite == 0 && result_.nonfinite_outputs == 0 &&
                    (is_proven_ || (!is_left_out_ && is_verified));
  record.verified = is_all_watched ? verified_ : Verified::kNone;
  record.is_trusted = record.is_sound && is_trusted();
  record.is_quarantined = is_suspecting;
}

[[gnu::always_inline]] inline bool HotPath::store(const Job& job, std::size_t index) noexcept {
  if (job.taker != nullptr) return job.taker->take(index);
  const std::span<const TensorMemory> outputs = engine_->outputs();
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Sink& sink = job.sinks[i];
    if (outputs[i].nbytes != outputs_[i].nbytes) return false;
    std::byte* const data = sink.data + index * sink.stride;
    if (sink.is_real) {
      dequantize_to(outputs_[i], outputs[i].data, data);
    } else {
      std::memcpy(data, outputs[i].data, outputs_[i].nbytes);
    }
  }
  return true;
}

HotPath::Progress HotPath::serve(const Job& job, std::size_t first, std::size_t end, double given,
                                 const FairLock* lock, double until) noexcept {
  const bool is_foreign = monitor_.is_foreign();
  const bool is_around = verifying == Verified::kAround;
  const auto seconds = [this] { return is_timed ? exact_seconds() : 0.0; };
  for (std::size_t index = first; index < end; ++index) {
    const double now = std::isnan(given) ? coarse_seconds() : given;
    const double begun = seconds();
    if (is_around && tries_ == 0) save_state();
    if (!std::exchange(is_swept_, false) && sweep(now)) {
      // When it goes on, it goes on with the run; or it is verified that all is right now.
      is_swept_ = verifying == Verified::kNone || ++tries_ > kMostTries;
      return {index, kDamage};
    }
    if (is_around && tries_ != 0) restore_state();
    const double checked = seconds();
    load(job, index);
    if (!run()) {
      is_swept_ = true;
      verified_ = Verified::kNone;
      return {index, kRunFailed};
    }
    if (is_around && verified_ == Verified::kBefore && verify_after()) {
      verified_ = Verified::kNone;
      is_swept_ = ++tries_ > kMostTries;
      return {index, kDamage};
    }
    const double run = seconds();
    monitor_.prefetch();
    measure(job, index);
    const double measured = seconds();
    if (!store(job, index)) {
      is_swept_ = true;
      return {index, kRunFailed};
    }
    const double stored = seconds();
    tries_ = 0;
    ++number_;
    signals_.keep();  // what is served anew is not another inference
    if (!job.records.empty()) job.records[index].number = number_;
    const Monitor::Verdict verdict = monitor_.update(result_, row_);
    if (is_timed) [[unlikely]] {
      timing_ = {run - checked + stored - measured, checked - begun,
                 measured - run + seconds() - stored};
    }
    std::uint32_t up = verdict == Monitor::Verdict::kAlarm ? kAlarm : 0U;
    if (verdict == Monitor::Verdict::kFailed) up |= kMonitorFailed;
    if (number_ >= due_number || now >= due_seconds) up |= kDue;
    if (conditions_ != nullptr) [[unlikely]] {
      conditions_->take(in_[0]);
      if (conditions_->to() >= 0 && number_ >= passages_from) up |= kDue;
    }
    if (is_watched || (is_watched_on_record && !job.records.empty()) ||
        (awaits_calm && monitor_.is_settled())) {
      up |= kWatched;
    }
    if (up != 0 || is_foreign || now >= until || (lock != nullptr && lock->can_give_way())) {
      return {index + 1, up};
    }
  }
  return {end, 0};
}

bool HotPath::again(const Job& job, std::size_t index) noexcept {
  verified_ = Verified::kNone;
  const bool verifies = verifying != Verified::kNone && !is_proven_;
  const bool is_right = verifies && are_right();
  load(job, index);
  if (!run()) return false;
  if (is_right) verified_ = Verified::kBefore;
  if (is_right && verifying == Verified::kAround && are_right()) verified_ = Verified::kAround;
  measure(job, index);
  signals_.amend();
  return store(job, index);
}

std::size_t HotPath::memory_bytes() const noexcept {
  const auto bytes_of = [](const auto& vector) {
    // NOLINTNEXTLINE(bugprone-sizeof-expression): some hold pointers.
    return vector.capacity() * sizeof(typename std::decay_t<decltype(vector)>::value_type);
  };
  std::size_t total = sizeof *this + bytes_of(inputs_) + bytes_of(outputs_) + bytes_of(guards_) +
                      bytes_of(scratch_) + bytes_of(in_) + bytes_of(out_) + bytes_of(inner_) +
                      bytes_of(row_) + bytes_of(found_) + bytes_of(damage_) + bytes_of(state_) +
                      executing_.capacity() / 8;
  for (const auto& levels : scratch_) total += bytes_of(levels);
  return total;
}

}  // namespace selfheal::runtime
