#include "condition_watch.hpp"

#include <algorithm>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal::runtime {
namespace {

constexpr std::size_t kStretch = ConditionGate::kStretch;

}  // namespace

ConditionWatch::ConditionWatch(ChannelNumbers numbers, std::shared_ptr<const ConditionGate> gate,
                               ElementType type, std::size_t step)
    : numbers_(std::move(numbers)),
      gate_(std::move(gate)),
      type_(type),
      step_(step),
      all_(numbers_.size()) {
  if (step == 0) refuse("step", "at least 1", step);
  if ((numbers_.size() + step - 1) / step != gate_->numbers()) {
    refuse("gate", "one for as many numbers as an input has", gate_->numbers());
  }
  rows_.resize(2 * kStretch * gate_->numbers());
  logs_.resize(gate_->rivals());
  for (auto& log : logs_) log.resize(2 * kStretch);
  stretch_.resize(gate_->rivals());
}

std::size_t ConditionWatch::nbytes() const noexcept {
  switch (type_) {
    case ElementType::kInt8:
    case ElementType::kUint8:
      return elements();
    case ElementType::kInt16:
      return 2 * elements();
    case ElementType::kFloat32:
      break;
  }
  return 4 * elements();
}

void ConditionWatch::take(const void* input) noexcept {
  const std::size_t width = gate_->numbers();
  if (first_ + count_ == 2 * kStretch) {  // the stretch moves to the beginning
    const auto from = static_cast<std::ptrdiff_t>(first_);
    const auto row = static_cast<std::ptrdiff_t>(width);
    std::copy(rows_.begin() + from * row, rows_.end(), rows_.begin());
    for (auto& log : logs_) std::copy(log.begin() + from, log.end(), log.begin());
    first_ = 0;
  }
  if (count_ == kStretch) {
    ++first_;
  } else {
    ++count_;
  }
  const std::size_t latest = first_ + count_ - 1;
  numbers_.measure(input, type_, all_);
  const std::span row = std::span(rows_).subspan(latest * width, width);
  for (std::size_t i = 0; i < width; ++i) row[i] = all_[i * step_];
  for (std::size_t k = 0; k < logs_.size(); ++k) {
    logs_[k][latest] = gate_->log_ratio(k, row);
    stretch_[k] = &logs_[k][first_];
  }
  const std::span rows = std::span(rows_).subspan(first_ * width, count_ * width);
  to_ = gate_->judge(rows, stretch_, count_, false).to;
}

void ConditionWatch::reset() noexcept {
  first_ = 0;
  count_ = 0;
  to_ = -1;
}

std::size_t ConditionWatch::memory_bytes() const noexcept {
  std::size_t total = sizeof *this + numbers_.memory_bytes() + gate_->memory_bytes() +
                      sizeof(double) * (all_.capacity() + rows_.capacity()) +
                      stretch_.capacity() * sizeof(double*);
  using Log = std::vector<double>;
  total += logs_.capacity() * sizeof(Log);
  for (const Log& log : logs_) total += log.capacity() * sizeof(double);
  return total;
}

}  // namespace selfheal::runtime
