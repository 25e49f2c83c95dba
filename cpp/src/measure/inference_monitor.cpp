#include "selfheal/measure/inference_monitor.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "selfheal/base/state_codec.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("INFM");
constexpr std::uint32_t kMostFew = 1U << 20U;

}  // namespace

InferenceMonitor::InferenceMonitor(std::optional<MonitorBank> bank, std::vector<Flat> flat,
                                   std::uint64_t max_repeats, std::uint64_t max_frozen, bool latch,
                                   std::vector<Few> few, std::optional<LabelMix> mix)
    : bank_(std::move(bank)),
      mix_(std::move(mix)),
      flat_(std::move(flat)),
      few_(std::move(few)),
      few_counts_(few_.size()),
      max_repeats_(max_repeats),
      max_frozen_(max_frozen),
      latch_(latch),
      window_(kWindow, std::max<std::size_t>(1, bank_ ? bank_->signals() : 1)),
      scores_(window_.width()) {
  for (const Flat& rule : flat_) {
    if (rule.index >= signals()) refuse("flat", "indices below the number of signals", rule.index);
  }
  for (const Few& rule : few_) {
    if (rule.index >= signals()) refuse("few", "indices below the number of signals", rule.index);
    require_finite("few", rule.cut);
    if (rule.rise < 1 || rule.limit < rule.rise || rule.limit > kMostFew) {
      refuse("few", "a rise of 1 to a limit of at most 2^20", rule.limit);
    }
  }
}

bool InferenceMonitor::take_few(std::span<const double> row) noexcept {
  bool is_any_told = false;
  for (std::size_t i = 0; i < few_.size(); ++i) {
    const Few& rule = few_[i];
    FewCount& now = few_counts_[i];
    const bool is_beyond = row[rule.index] < rule.cut;
    now.is_told = false;
    if (!is_beyond) {
      now.is_beyond = false;
      if (now.level == 0) continue;  // nearly always
      ++now.calm;
      if (--now.level == 0) now.is_held = false;
      continue;
    }
    now.calm = 0;
    if (now.is_beyond) continue;
    now.is_beyond = true;
    if (now.level == 0) {
      now.since = count_ - 1;
      now.begun = 0;
    }
    ++now.begun;
    now.level = std::min(now.level + rule.rise, rule.limit + rule.rise);
    if (now.level <= rule.limit) continue;
    now.is_told = !now.is_held && !now.is_accepted;
    is_any_told |= now.is_told;
    now.is_held = true;
    if (!latch_) {
      now.level = 0;
      now.is_held = false;
    }
  }
  return is_any_told;
}

InferenceAlarms InferenceMonitor::update(std::span<const double> row, bool repeats_previous,
                                         std::uint64_t nonfinite, bool same_answer,
                                         std::int64_t label) noexcept {
  ++count_;
  alarms_ = {};
  bool is_flat = false;
  if (bank_) {
    alarms_.bank = bank_->update(row);
    bank_->scores(scores_);
    window_.push(std::span<const double>(scores_));
    for (const Flat& rule : flat_) is_flat |= row[rule.index] < rule.least;
    alarms_.few = take_few(row);
  }
  last_nonfinite_ = nonfinite;
  nonfinite_ += nonfinite;
  alarms_.nonfinite = nonfinite != 0 && (!latch_ || since_nonfinite_ >= kSettled);
  since_nonfinite_ = nonfinite != 0 ? 0 : std::min<std::uint64_t>(kSettled, since_nonfinite_ + 1);
  flats_ = is_flat ? flats_ + 1 : 0;
  alarms_.flat = is_told(flats_, kInARow);
  repeats_ = repeats_previous ? repeats_ + 1 : 0;
  alarms_.repeats = is_told(repeats_, max_repeats_);
  if (!repeats_previous) {  // the same input has the same answer
    frozen_ = same_answer ? frozen_ + 1 : 0;
    alarms_.frozen = is_told(frozen_, max_frozen_);
  }
  if (mix_) alarms_.label_mix = mix_->update(repeats_previous || nonfinite != 0 ? -1 : label);
  const bool goes_on = nonfinite != 0 || flats_ >= kInARow ||
                       (max_repeats_ != 0 && repeats_ >= max_repeats_) ||
                       (max_frozen_ != 0 && frozen_ >= max_frozen_);
  // An alarm that a latch holds back is one all the same.
  const bool is_held_back = (bank_ && bank_->is_any_alarmed()) || (mix_ && mix_->is_any_alarmed());
  since_alarm_ = alarms_.any() || goes_on || is_held_back ? 0 : since_alarm_ + 1;
  return alarms_;
}

void InferenceMonitor::accept() noexcept {
  for (FewCount& one : few_counts_) one.is_accepted |= one.is_held;
  if (mix_) mix_->accept();
  if (!bank_) return;
  for (std::size_t signal = 0; signal < bank_->signals(); ++signal) {
    if (bank_->is_latched(signal)) bank_->accept(signal);
  }
}

bool InferenceMonitor::settled() const noexcept {
  if (since_alarm_ < kSettled) return false;
  for (const FewCount& one : few_counts_) {
    // A count that was driven to its limit comes back late.
    if (one.is_held && !one.is_accepted && one.calm < kSettled) return false;
  }
  if (mix_ && !mix_->looks_normal()) return false;
  if (!bank_) return true;
  if (window_.size() < kSettled) return false;
  const std::size_t width = window_.width();
  const auto spans = window_.spans();
  const std::size_t newer = std::min(kSettled, spans.newer.size() / width);
  const auto late = spans.newer.last(newer * width);
  const auto early = spans.older.last((kSettled - newer) * width);
  for (const auto rows : {early, late}) {
    for (std::size_t i = 0; i < rows.size(); i += width) {
      const auto row = rows.subspan(i, width);
      if (std::none_of(row.begin(), row.end(), [](double x) { return std::isfinite(x); })) {
        return false;
      }
    }
  }
  for (std::size_t signal = 0; signal < width; ++signal) {
    // A signal may be without a value at times, as the distance to a class that was never seen.
    double sum = 0.0;
    double known = 0.0;
    const Preparation& preparation = bank_->reference(signal).preparation();
    for (const auto rows : {early, late}) {
      for (std::size_t i = signal; i < rows.size(); i += width) {
        if (!std::isfinite(rows[i])) continue;
        sum += preparation.clip(rows[i]);  // as charts do, and what was accepted is
        known += 1.0;
      }
    }
    const double away = known > 0.0 ? sum / known - bank_->accepted(signal) : 0.0;
    if (!(std::fabs(away) < kSettledMean)) return false;
  }
  return true;
}

[[gnu::cold]] void InferenceMonitor::reset() noexcept {
  // What has settled is over but for shifts too small to matter, which were told: their latches
  // stay. After a repair everything is heard anew.
  const bool stays_told = settled();
  if (bank_ && stays_told) bank_->restart();
  if (bank_ && !stays_told) bank_->reset();
  if (mix_ && stays_told) mix_->restart();
  if (mix_ && !stays_told) mix_->reset();
  window_.clear();
  alarms_ = {};
  for (FewCount& one : few_counts_) {
    if (!stays_told) one = {};  // otherwise what was told goes on until it is back at zero
  }
  repeats_ = flats_ = frozen_ = since_alarm_ = 0;
  since_nonfinite_ = kSettled;
}

[[gnu::cold]] std::vector<std::byte> InferenceMonitor::state(History history) const {
  StateWriter writer(kTag, 3);  // 1 knew nothing of rare kinds, 2 nothing of the mix of classes
  writer.u8(bank_ ? 1 : 0);
  if (bank_) writer.part(bank_->state(history));
  writer.u64(flat_.size());
  for (const Flat& rule : flat_) {
    writer.u64(rule.index);
    writer.f64(rule.least);
  }
  writer.part(history == History::kKept ? window_.state()
                                        : RingBuffer<double>(kWindow, window_.width()).state());
  for (const std::uint64_t number : {max_repeats_, max_frozen_, count_, repeats_, flats_, frozen_,
                                     nonfinite_, last_nonfinite_, since_nonfinite_, since_alarm_}) {
    writer.u64(number);
  }
  for (const bool flag :
       {latch_, alarms_.bank, alarms_.nonfinite, alarms_.flat, alarms_.repeats, alarms_.frozen}) {
    writer.u8(flag ? 1 : 0);
  }
  writer.u8(alarms_.few ? 1 : 0);
  writer.u64(few_.size());
  for (std::size_t i = 0; i < few_.size(); ++i) {
    const FewCount& now = few_counts_[i];
    writer.u64(few_[i].index);
    writer.f64(few_[i].cut);
    for (const std::uint64_t number : {std::uint64_t{few_[i].rise}, std::uint64_t{few_[i].limit},
                                       std::uint64_t{now.level}, now.since, now.begun, now.calm}) {
      writer.u64(number);
    }
    for (const bool flag : {now.is_beyond, now.is_told, now.is_held, now.is_accepted}) {
      writer.u8(flag ? 1 : 0);
    }
  }
  writer.u8(alarms_.label_mix ? 1 : 0);
  writer.u8(mix_ ? 1 : 0);
  if (mix_) {
    writer.part(mix_->state(history));
  }
  return std::move(writer).finish();
}

[[gnu::cold]] InferenceMonitor InferenceMonitor::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 3);
  std::optional<MonitorBank> bank;
  if (reader.u8() != 0) bank = MonitorBank::from_state(reader.part());
  const std::uint64_t rules = reader.u64();
  StateReader::require(rules <= reader.remaining() / 16, "more rules than there is room for");
  const std::size_t signals = bank ? bank->signals() : 0;
  std::vector<Flat> flat;
  for (std::uint64_t i = 0; i < rules; ++i) {
    const std::uint64_t index = reader.u64();
    StateReader::require(index < signals, "a rule for a signal that is not there");
    flat.push_back({static_cast<std::size_t>(index), reader.f64()});
  }
  RingBuffer<double> window = RingBuffer<double>::from_state(reader.part());
  const std::uint64_t max_repeats = reader.u64();
  const std::uint64_t max_frozen = reader.u64();
  InferenceMonitor restored(std::move(bank), std::move(flat), max_repeats, max_frozen);
  StateReader::require(window.capacity() == kWindow && window.width() == restored.window_.width(),
                       "a window of another size");
  restored.window_ = std::move(window);
  for (std::uint64_t* const number :
       {&restored.count_, &restored.repeats_, &restored.flats_, &restored.frozen_,
        &restored.nonfinite_, &restored.last_nonfinite_, &restored.since_nonfinite_,
        &restored.since_alarm_}) {
    *number = reader.u64();
  }
  for (bool* const flag :
       {&restored.latch_, &restored.alarms_.bank, &restored.alarms_.nonfinite,
        &restored.alarms_.flat, &restored.alarms_.repeats, &restored.alarms_.frozen}) {
    *flag = reader.u8() != 0;
  }
  if (reader.version() >= 2) {
    restored.alarms_.few = reader.u8() != 0;
    const std::uint64_t kinds = reader.u64();
    StateReader::require(kinds <= reader.remaining() / 68, "more kinds than there is room for");
    for (std::uint64_t i = 0; i < kinds; ++i) {
      const std::uint64_t index = reader.u64();
      const double cut = reader.f64();
      const std::uint64_t rise = reader.u64();
      const std::uint64_t limit = reader.u64();
      const std::uint64_t level = reader.u64();
      StateReader::require(index < signals && std::isfinite(cut) && rise >= 1 && rise <= limit &&
                               limit <= kMostFew && level <= limit + rise,
                           "a count out of range");
      restored.few_.push_back({static_cast<std::size_t>(index), cut,
                               static_cast<std::uint32_t>(rise),
                               static_cast<std::uint32_t>(limit)});
      FewCount& now = restored.few_counts_.emplace_back();
      now.level = static_cast<std::uint32_t>(level);
      now.since = reader.u64();
      now.begun = reader.u64();
      now.calm = reader.u64();
      for (bool* const flag : {&now.is_beyond, &now.is_told, &now.is_held, &now.is_accepted}) {
        *flag = reader.u8() != 0;
      }
    }
  }
  if (reader.version() >= 3) {
    restored.alarms_.label_mix = reader.u8() != 0;
    if (reader.u8() != 0) restored.mix_ = LabelMix::from_state(reader.part());
  }
  reader.finish();
  return restored;
}

std::size_t InferenceMonitor::memory_bytes() const noexcept {
  return sizeof *this + (bank_ ? bank_->memory_bytes() - sizeof *bank_ : 0) +
         (mix_ ? mix_->memory_bytes() - sizeof *mix_ : 0) + window_.memory_bytes() -
         sizeof window_ + scores_.capacity() * sizeof(double) + flat_.capacity() * sizeof(Flat) +
         few_.capacity() * sizeof(Few) + few_counts_.capacity() * sizeof(FewCount);
}

}  // namespace selfheal
