#include <algorithm>
#include <cstdint>

#include "selfheal/detect/label_mix.hpp"

namespace selfheal {
namespace {

constexpr StateTag kTag = state_tag("LBLM");

}  // namespace

std::vector<std::byte> LabelMix::state(History history) const {
  StateWriter writer(kTag, 1);
  writer.part(reference_.state());
  writer.f64(arl0_);
  const std::uint64_t began = history == History::kKept ? began_ : count_;
  for (const std::uint64_t number :
       {count_, used_, deadline_, began, changed_, alarmed_, rising_,
        static_cast<std::uint64_t>(last_), static_cast<std::uint64_t>(told_),
        static_cast<std::uint64_t>(told_chart_)}) {
    writer.u64(number);
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    for (const std::uint64_t number : {slot.at, slot.since, slot.seen}) writer.u64(number);
    for (const std::uint32_t level : slot.level) writer.u32(level);
    for (const CountChart& chart : slot.chart) {
      for (const std::uint32_t number : {chart.begin, chart.stay, chart.limit}) writer.u32(number);
    }
    latches_[i].write(writer);
  }
  const std::uint64_t oldest = std::max(began, count_ > kHistory ? count_ - kHistory : 0);
  for (std::uint64_t i = oldest; i < count_; ++i) {
    writer.u8(history_[static_cast<std::size_t>(i % kHistory)]);
  }
  return std::move(writer).finish();
}

LabelMix LabelMix::from_state(std::span<const std::byte> blob) {
  StateReader reader(blob, kTag, 1);
  LabelMix read;
  read.reference_ = LabelReference::from_state(reader.part());
  read.arl0_ = reader.f64();
  StateReader::require(read.arl0_ >= 10.0 && read.arl0_ <= 1e15, "a run length out of range");
  read.index();
  read.latches_.assign(read.slots_.size(), Latch());
  for (std::uint64_t* const number : {&read.count_, &read.used_, &read.deadline_, &read.began_,
                                      &read.changed_, &read.alarmed_, &read.rising_}) {
    *number = reader.u64();
  }
  const std::uint64_t last = reader.u64();
  const std::uint64_t told = reader.u64();
  const std::uint64_t told_chart = reader.u64();
  const std::size_t events = read.slots_.size();
  StateReader::require(read.used_ <= read.count_ && read.began_ <= read.count_ &&
                           read.changed_ <= read.count_ && read.alarmed_ >> events == 0 &&
                           read.rising_ >> events == 0 && (last < events || last == kNone) &&
                           (told < events || told == kNone) && told_chart < kCharts,
                       "counters out of range");
  read.last_ = static_cast<std::size_t>(last);
  read.told_ = static_cast<std::size_t>(told);
  read.told_chart_ = static_cast<std::size_t>(told_chart);
  for (std::size_t i = 0; i < events; ++i) {
    Slot& slot = read.slots_[i];
    for (std::uint64_t* const number : {&slot.at, &slot.since, &slot.seen}) *number = reader.u64();
    StateReader::require(
        slot.at <= read.used_ && slot.since <= slot.at && slot.seen <= read.used_ - slot.since,
        "an event out of range");
    for (std::uint32_t& level : slot.level) level = reader.u32();
    for (std::size_t k = 0; k < kCharts; ++k) {
      CountChart& chart = slot.chart[k];
      for (std::uint32_t* const number : {&chart.begin, &chart.stay, &chart.limit}) {
        *number = reader.u32();
      }
      StateReader::require(chart.begin <= CountChart::kMostWeight &&
                               chart.stay <= CountChart::kMostWeight &&
                               chart.limit <= CountChart::kMostLevels &&
                               slot.level[k] <= chart.limit + CountChart::kMostWeight &&
                               (k != kDown || slot.level[k] <= chart.limit),
                           "a chart out of range");
      if (chart.limit == 0) chart = {};
    }
    read.latches_[i].read(reader, read.used_);
  }
  const std::uint64_t oldest =
      std::max(read.began_, read.count_ > kHistory ? read.count_ - kHistory : 0);
  reader.require_exactly(read.count_ - oldest, 1);
  std::uint64_t labels = 0;
  for (std::uint64_t i = oldest; i < read.count_; ++i) {
    const std::uint8_t held = reader.u8();
    StateReader::require(held < events || held == kNone, "a label out of range");
    labels += held == kNone ? 0 : 1;
    read.history_[static_cast<std::size_t>(i % kHistory)] = held;
  }
  StateReader::require(labels <= read.used_, "more labels than were counted");
  reader.finish();
  return read;
}

}  // namespace selfheal
