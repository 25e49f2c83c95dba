#include "hot_path.hpp"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

namespace selfheal::runtime {
namespace {

// The most of a round that one inference may have to wait for.
constexpr double kMostFast = 1.0 / 8;
constexpr double kMostKeyed = 1.0 / 64;

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

double coarse_seconds() noexcept {
#ifdef CLOCK_MONOTONIC_COARSE
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

HotPath::HotPath(SignalPass& signals, InferenceMonitor& monitor, std::vector<Outside> inputs,
                 std::vector<Outside> outputs, Pace pace)
    : signals_(signals),
      monitor_(monitor),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      fast_(pace.fast_bytes, pace.fast_seconds, kMostFast),
      keyed_(pace.keyed_bytes, pace.keyed_seconds, kMostKeyed),
      scratch_(inputs_.size()),
      feeds_(inputs_.size()),
      sinks_(outputs_.size()),
      in_(inputs_.size()),
      out_(outputs_.size()),
      row_(signals.signals()) {}

void HotPath::attach(Engine* engine, int embedding) {
  engine_ = engine;
  embedding_ = embedding;
  if (engine == nullptr) return;
  for (std::size_t i = 0; i < inputs_.size(); ++i) scratch_[i].resize(engine->inputs()[i].nbytes);
}

void HotPath::guard(std::vector<ImageGuard*> guards, TurnLock* care) {
  // More than that in one slice end it early; the next one goes on there.
  constexpr std::size_t kMostFound = 64;
  std::size_t most = 1;
  for (const ImageGuard* one : guards) {
    most = std::max(most, std::min(kMostFound, one->keyed_blocks() + 1));
    block_bytes_ = one->block_bytes();
  }
  found_.resize(most);
  damage_.resize(most * std::max<std::size_t>(1, guards.size()));
  damages_ = 0;
  guards_ = std::move(guards);
  care_ = care;
}

void HotPath::feed(std::span<const Feed> feeds, std::span<const Sink> sinks,
                   const std::int64_t* nonfinite) noexcept {
  std::copy_n(feeds.begin(), std::min(feeds.size(), feeds_.size()), feeds_.begin());
  std::copy_n(sinks.begin(), std::min(sinks.size(), sinks_.size()), sinks_.begin());
  nonfinite_ = nonfinite;
}

bool HotPath::sweep(double now) noexcept {
  const bool is_fast_due = fast_.tick(now, block_bytes_);
  const bool is_keyed_due = keyed_.tick(now, block_bytes_);
  is_left_out_ = false;
  if (!is_fast_due && !is_keyed_due) return false;
  if (care_ != nullptr && !care_->try_enter()) {  // it stays due
    is_left_out_ = true;
    return false;
  }
  damages_ = 0;
  for (std::size_t i = 0; i < guards_.size(); ++i) {
    ImageGuard& one = *guards_[i];
    const std::size_t fast = fast_.due(one.fast_blocks() * block_bytes_);
    const std::size_t keyed = keyed_.due(one.keyed_blocks() * block_bytes_);
    const std::size_t count = one.step(fast, keyed, found_);
    for (std::size_t k = 0; k < count; ++k) damage_[damages_++] = {i, found_[k]};
  }
  fast_.done();
  keyed_.done();
  if (care_ != nullptr) care_->leave();
  return damages_ != 0;
}

void HotPath::load(std::size_t index) noexcept {
  const std::span<const TensorMemory> inputs = engine_->inputs();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Feed& feed = feeds_[i];
    const std::byte* data = feed.data + index * feed.stride;
    if (feed.is_real) {  // beside the tensor, which the runtime may use for something else
      quantize_to(inputs_[i], data, scratch_[i].data());
      data = scratch_[i].data();
    }
    std::memcpy(inputs[i].data, data, inputs[i].nbytes);
    in_[i] = data;
  }
}

void HotPath::measure(std::size_t index) noexcept {
  const std::span<const TensorMemory> outputs = engine_->outputs();
  for (std::size_t i = 0; i < outputs_.size(); ++i) out_[i] = outputs[i].data;
  const void* const embedding =
      embedding_ < 0 ? nullptr : engine_->taps()[static_cast<std::size_t>(embedding_)].data;
  result_ = signals_.measure(in_, out_, embedding, row_);
  if (nonfinite_ != nullptr && nonfinite_[index] != 0) {
    // What was replaced must not be taken for a signal.
    std::fill(row_.begin(), row_.end(), std::numeric_limits<double>::quiet_NaN());
    result_.nonfinite = static_cast<std::uint64_t>(nonfinite_[index]);
  }
}

void HotPath::store(std::size_t index) noexcept {
  const std::span<const TensorMemory> outputs = engine_->outputs();
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Sink& sink = sinks_[i];
    std::byte* const data = sink.data + index * sink.stride;
    if (sink.is_real) {
      dequantize_to(outputs_[i], outputs[i].data, data);
    } else {
      std::memcpy(data, outputs[i].data, outputs[i].nbytes);
    }
  }
}

HotPath::Progress HotPath::serve(std::size_t first, std::size_t end, double given,
                                 const TurnLock* turn, double until) noexcept {
  for (std::size_t index = first; index < end; ++index) {
    const double now = std::isnan(given) ? coarse_seconds() : given;
    if (!std::exchange(is_swept_, false) && sweep(now)) {
      is_swept_ = true;  // when it goes on, it goes on with the run
      return {index, kDamage};
    }
    load(index);
    if (!engine_->run()) {
      is_swept_ = true;
      return {index, kRunFailed};
    }
    ++number_;
    monitor_.prefetch();
    measure(index);
    const InferenceAlarms alarms =
        monitor_.update(row_, result_.repeats_previous, result_.nonfinite, result_.same_answer);
    store(index);
    std::uint32_t up = alarms.any() ? kAlarm : 0U;
    if (number_ >= due_number || now >= due_seconds) up |= kDue;
    if (is_watched) up |= kWatched;
    if (up != 0 || now >= until || (turn != nullptr && turn->can_give_way())) {
      return {index + 1, up};
    }
  }
  return {end, 0};
}

bool HotPath::again(std::size_t index) noexcept {
  load(index);
  if (!engine_->run()) return false;
  measure(index);
  store(index);
  return true;
}

std::size_t HotPath::memory_bytes() const noexcept {
  std::size_t total = sizeof *this + row_.capacity() * sizeof(double) +
                      found_.capacity() * sizeof(Finding) + damage_.capacity() * sizeof(Damage);
  for (const auto& levels : scratch_) total += levels.capacity();
  return total;
}

}  // namespace selfheal::runtime
