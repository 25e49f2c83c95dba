#include "selfheal/learn/committee.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "learn/short_powers.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {

namespace {

constexpr double kSmoothing = 1.0 / (std::numbers::e - 1.0);
constexpr double kFloor = 1e-6;
constexpr float kLog2E = 1.44269504F;
constexpr double kTimes = 4.0;
constexpr double kPartingPace = 1.0 / 16.0;
constexpr double kFewPartings = 1.0 / 64.0;

std::size_t bytes_of(Committee::Number number) noexcept {
  return number == Committee::Number::kFloat32 ? 4 : number == Committee::Number::kInt16 ? 2 : 1;
}

template <typename T>
std::int64_t largest(std::span<const T> values) noexcept {
  std::size_t best = 0;
  T top = values[0];
  for (std::size_t j = 1; j < values.size(); ++j) {  // selections, which no branch has to guess
    const bool is_larger = values[j] > top;
    top = is_larger ? values[j] : top;
    best = is_larger ? j : best;
  }
  return static_cast<std::int64_t>(best);
}

}  // namespace

Committee::Committee(std::size_t members, std::size_t width, std::size_t capacity, Combine combine,
                     bool has_classes)
    : members_(members),
      width_(width),
      stride_(detail::in_fours(width)),
      capacity_(capacity),
      combine_(combine),
      has_classes_(has_classes) {
  if (members < 1 || members > FixedShare::kMostMembers) refuse("members", "1 to 16", members);
  if (width < 1 || width > static_cast<std::size_t>(kMostWidth)) {
    refuse("width", "1 to 65536", width);
  }
  if (has_classes && width < 2) refuse("width", "at least 2 classes", width);
  if (capacity < 1 || capacity > 65536) refuse("capacity", "1 to 65536 answers", capacity);
  readers_.resize(members);
  tables_.resize(members * kLevels);
  rows_.resize(capacity);
  kept_.resize(capacity * members * stride_);
  combined_.resize(stride_);
  others_.resize(stride_);
}

void Committee::set_reader(std::size_t member, const Reader& reader) {
  if (member >= members_) refuse("member", "one of the members", member);
  require_positive("temperature", reader.temperature);
  require_positive("scale", reader.scale);
  if (has_classes_ == (reader.scores == Scores::kValues)) {
    refuse("scores", has_classes_ ? "those of classes" : "values",
           std::string_view(has_classes_ ? "values" : "those of classes"));
  }
  if (reader.scores == Scores::kSigmoid && width_ != 2) {
    refuse("width", "2 classes for a sigmoid", width_);
  }
  readers_[member] = reader;
  // What one level counts for, before all are divided by their sum.
  const bool is_signed = reader.raw == Number::kInt8;
  if (bytes_of(reader.raw) != 1) return;
  for (std::size_t level = 0; level < kLevels; ++level) {
    const int q = is_signed ? static_cast<int>(level) - 128 : static_cast<int>(level);
    const double value = reader.scale * static_cast<double>(q - reader.zero_point);
    double entry = value;
    if (reader.scores == Scores::kProbabilities) {
      entry = std::pow(std::max({value, reader.scale / 2.0, kFloor}), 1.0 / reader.temperature);
    } else if (reader.scores == Scores::kLogits) {
      entry = value / reader.temperature;
    }
    tables_[member * kLevels + level] = static_cast<float>(entry);
  }
}

void Committee::set_reach(double reach) {
  require_positive("reach", reach);
  reach_ = reach;
}

bool Committee::watch(double share, double memory, double interval) noexcept {
  chart_ = {};
  level_ = 0;
  was_parted_ = false;
  if (!(share > 0.0 && memory >= 0.0 && memory < 1.0 && interval >= 1.0)) return false;
  chart_ = solve_rising(EventChain::of(share, memory), kTimes, std::log(interval));
  return chart_.limit > 0;
}

/// Counts a parting; whether there have been more than there should.
bool Committee::count(bool is_parted) noexcept {
  const bool goes_on = was_parted_;
  was_parted_ = is_parted;
  partings_ += is_parted ? 1U : 0U;
  parting_ += kPartingPace * ((is_parted ? 1.0 : 0.0) - parting_);
  if (chart_.limit == 0) return false;
  if (is_parted) {
    level_ += goes_on ? chart_.stay : chart_.begin;
  } else if (level_ > 0) {
    --level_;
  }
  if (level_ <= chart_.limit) return false;
  level_ = 0;
  return true;
}

double Committee::importance(bool has_parted) noexcept {
  told_parting_ += kPartingPace * ((has_parted ? 1.0 : 0.0) - told_parting_);
  return std::min(1.0, (parting_ + kFewPartings) / (told_parting_ + kFewPartings));
}

/// Looks levels of 8 bits up, where there is a table for them.
void Committee::look_up(std::size_t member, const Answer& answer, float* out) const noexcept {
  const Reader& reader = readers_[member];
  const float* const table = &tables_[member * kLevels];
  const bool is_signed = reader.raw == Number::kInt8;
  if (!answer.is_real) {
    const auto* const levels = static_cast<const std::uint8_t*>(answer.data);
    const std::uint8_t flip = is_signed ? 0x80 : 0;
    for (std::size_t j = 0; j < width_; ++j) out[j] = table[levels[j] ^ flip];
    return;
  }
  // Dequantised: back to the level.
  const auto* const reals = static_cast<const float*>(answer.data);
  const auto step = static_cast<float>(1.0 / reader.scale);
  const auto half = static_cast<float>(reader.zero_point + (is_signed ? 128 : 0)) + 0.5F;
  for (std::size_t j = 0; j < width_; ++j) {
    const float at = reals[j] * step + half;
    out[j] = table[at >= 256.0F ? 255 : at >= 0.0F ? static_cast<int>(at) : 0];
  }
}

float Committee::value_of(const Reader& reader, const Answer& answer, std::size_t index) noexcept {
  if (answer.is_real || reader.raw == Number::kFloat32) {
    return static_cast<const float*>(answer.data)[index];
  }
  int level = 0;
  if (reader.raw == Number::kInt16) {
    level = static_cast<const std::int16_t*>(answer.data)[index];
  } else if (reader.raw == Number::kInt8) {
    level = static_cast<const std::int8_t*>(answer.data)[index];
  } else {
    level = static_cast<const std::uint8_t*>(answer.data)[index];
  }
  return static_cast<float>(reader.scale * static_cast<double>(level - reader.zero_point));
}

/// Reads a member's answer; whether it is a number.
bool Committee::read(std::size_t member, const Answer& answer, float* out) const noexcept {
  const Reader& reader = readers_[member];
  const std::span<float> found(out, width_);
  if (reader.scores == Scores::kSigmoid) {
    const auto value = static_cast<double>(value_of(reader, answer, 0));
    const double one = std::clamp(value, kFloor, 1.0 - kFloor);
    const double odds = std::log(one / (1.0 - one)) / reader.temperature;
    out[1] = static_cast<float>(1.0 / (1.0 + std::exp(-odds)));
    out[0] = 1.0F - out[1];
    return std::isfinite(out[1]);
  }
  const bool has_table = bytes_of(reader.raw) == 1;
  if (has_table) {
    look_up(member, answer, out);
  } else if (reader.raw == Number::kFloat32) {
    const auto* const reals = static_cast<const float*>(answer.data);
    std::copy(reals, reals + width_, out);
  } else {
    for (std::size_t j = 0; j < width_; ++j) out[j] = value_of(reader, answer, j);
  }
  std::fill(out + width_, out + stride_, 0.0F);
  const auto inverse = static_cast<float>(1.0 / reader.temperature);
  if (reader.scores == Scores::kValues) {
    bool is_number = true;
    for (const float value : found) is_number &= std::isfinite(value);
    return is_number;
  }
  if (reader.scores == Scores::kLogits) {
    const float top = out[largest(std::span<const float>(found))];
    using detail::Four;
    const float unit = kLog2E * (has_table ? 1.0F : inverse);
    detail::for_fours(out, stride_,
                      [=](Four four) { return detail::short_exp2(unit * (four - top)); });
  } else if (!has_table) {
    for (float& value : found) value = std::max(value, static_cast<float>(kFloor));
    if (reader.temperature != 1.0) {
      using detail::Four;
      // The difference of what is infinite to itself is no number.
      detail::for_fours(out, stride_, [=](Four four) {
        return detail::short_exp2(inverse * detail::short_log2(four)) + (four - four);
      });
    }
  }
  std::fill(out + width_, out + stride_, 0.0F);
  detail::Four sums{};
  detail::for_fours(out, stride_, [&](detail::Four four) {
    sums += four;
    return four;
  });
  const float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  if (!(sum > 0.0F && std::isfinite(sum))) return false;
  const float scale = 1.0F / sum;
  detail::for_fours(out, stride_, [=](detail::Four four) { return scale * four; });
  return true;
}

/// Combines the answers of the members whose bits are set; returns the class, -1 for none.
std::int64_t Committee::mix(std::span<const double> weights, const Row& row, const float* rows,
                            std::uint32_t of, std::span<float> out) const noexcept {
  std::fill(out.begin(), out.end(), 0.0F);
  double sum = 0.0;
  double most = -1.0;
  std::size_t best = 0;
  for (std::size_t i = 0; i < members_; ++i) {
    if ((of >> i & 1U) == 0) continue;
    sum += weights[i];
    if (weights[i] > most) {
      most = weights[i];
      best = i;
    }
  }
  if (!(sum > 0.0)) return -1;
  for (std::size_t i = 0; i < members_; ++i) {
    if ((of >> i & 1U) == 0) continue;
    if (combine_ == Combine::kBest && i != best) continue;
    const auto share = combine_ == Combine::kBest ? 1.0F : static_cast<float>(weights[i] / sum);
    const float* const from = rows + i * stride_;
    if (combine_ == Combine::kVote && has_classes_) {
      out[static_cast<std::size_t>(row.labels[i])] += share;
    } else {
      detail::add_fours(from, stride_, share, out.data());
    }
  }
  return has_classes_ ? largest(std::span<const float>(out.first(width_))) : -1;
}

Committee::Verdict Committee::combine(std::span<const Answer> answers,
                                      std::span<const double> weights) noexcept {
  Verdict found;
  ++number_;
  const std::size_t at = place(number_);
  Row& row = rows_[at];
  float* const rows = &kept_[at * members_ * stride_];
  row.number = number_;
  std::uint32_t awake = 0;
  std::uint32_t trusted = 0;
  double of_trusted = 0.0;
  double of_all = 0.0;
  std::int32_t first = -1;
  for (std::size_t i = 0; i < members_; ++i) {
    row.labels[i] = -1;
    row.ids[i] = answers[i].data == nullptr ? -1 : answers[i].id;
    if (answers[i].data == nullptr) continue;
    float* const out = rows + i * stride_;
    if (!read(i, answers[i], out)) continue;  // no answer, of what is no number
    row.labels[i] =
        has_classes_ ? static_cast<std::int32_t>(largest(std::span<const float>(out, width_))) : 0;
    if (!(weights[i] > 0.0)) continue;
    awake |= 1U << i;
    of_all += weights[i];
    if (answers[i].is_trusted) {
      trusted |= 1U << i;
      of_trusted += weights[i];
    }
    found.is_parted |= first >= 0 && first != row.labels[i];
    if (first < 0) first = row.labels[i];
  }
  found.label = mix(weights, row, rows, awake, combined_);
  if (awake == 0)
    std::fill(combined_.begin(), combined_.end(), std::numeric_limits<float>::quiet_NaN());
  if (found.label >= 0) {
    found.confidence = static_cast<double>(combined_[static_cast<std::size_t>(found.label)]);
  }
  if (trusted == awake) {
    found.is_trusted = awake != 0;
  } else {
    found.is_trusted = 2.0 * of_trusted >= of_all && trusted != 0 &&
                       mix(weights, row, rows, trusted, others_) == found.label;
  }
  row.verdict = found.label;
  row.is_parted = found.is_parted;
  if (has_classes_) found.is_alarm = count(found.is_parted);
  return found;
}

const Committee::Row* Committee::find(std::uint64_t number) const noexcept {
  return holds(number) ? &rows_[place(number)] : nullptr;
}

const float* Committee::values(const Row& row, std::size_t member) const noexcept {
  if (member >= members_ || row.labels[member] < 0) return nullptr;
  return &kept_[(place(row.number) * members_ + member) * stride_];
}

/// What a member without probabilities has lost: all, where its answer was no number.
double Committee::loss_of_none(const Row& row, std::size_t member) noexcept {
  return row.ids[member] >= 0 ? 1.0 : std::numeric_limits<double>::quiet_NaN();
}

double Committee::class_loss(double probability) noexcept {
  return std::clamp(std::log((1.0 + kSmoothing) / (probability + kSmoothing)), 0.0, 1.0);
}

bool Committee::losses_of_class(std::uint64_t number, std::size_t label,
                                std::span<double> losses) const noexcept {
  const Row* const row = find(number);
  if (row == nullptr || label >= width_ || losses.size() != members_) return false;
  for (std::size_t i = 0; i < members_; ++i) {
    const float* const from = values(*row, i);
    losses[i] =
        from == nullptr ? loss_of_none(*row, i) : class_loss(static_cast<double>(from[label]));
  }
  return true;
}

bool Committee::losses_of_wrong(std::uint64_t number, std::size_t answered,
                                std::span<double> losses) const noexcept {
  const Row* const row = find(number);
  if (row == nullptr || answered >= width_ || losses.size() != members_) return false;
  for (std::size_t i = 0; i < members_; ++i) {
    const float* const from = values(*row, i);
    losses[i] = from == nullptr ? loss_of_none(*row, i)
                                : class_loss(1.0 - static_cast<double>(from[answered]));
  }
  return true;
}

bool Committee::losses_of_values(std::uint64_t number, std::span<const float> target,
                                 std::span<double> losses) const noexcept {
  const Row* const row = find(number);
  if (row == nullptr || target.size() != width_ || losses.size() != members_) return false;
  for (std::size_t i = 0; i < members_; ++i) {
    const float* const from = values(*row, i);
    if (from == nullptr) {
      losses[i] = loss_of_none(*row, i);
      continue;
    }
    double sum = 0.0;
    for (std::size_t j = 0; j < width_; ++j) {
      const double away = (static_cast<double>(from[j]) - static_cast<double>(target[j])) / reach_;
      sum += away * away;
    }
    losses[i] = std::min(1.0, sum / static_cast<double>(width_));
  }
  return true;
}

std::span<const float> Committee::kept(std::uint64_t number, std::size_t member) const noexcept {
  const Row* const row = find(number);
  const float* const from = row == nullptr ? nullptr : values(*row, member);
  return from == nullptr ? std::span<const float>() : std::span<const float>(from, width_);
}

std::int64_t Committee::kept_label(std::uint64_t number, std::size_t member) const noexcept {
  const Row* const row = find(number);
  return row == nullptr || member >= members_ || !has_classes_ ? -1 : row->labels[member];
}

std::int64_t Committee::kept_id(std::uint64_t number, std::size_t member) const noexcept {
  const Row* const row = find(number);
  return row == nullptr || member >= members_ ? -1 : row->ids[member];
}

std::int64_t Committee::kept_verdict(std::uint64_t number) const noexcept {
  const Row* const row = find(number);
  return row == nullptr ? -1 : row->verdict;
}

bool Committee::was_parted(std::uint64_t number) const noexcept {
  const Row* const row = find(number);
  return row != nullptr && row->is_parted;
}

std::size_t Committee::memory_bytes() const noexcept {
  return sizeof(*this) + readers_.capacity() * sizeof(Reader) +
         (tables_.capacity() + kept_.capacity() + combined_.capacity() + others_.capacity()) *
             sizeof(float) +
         rows_.capacity() * sizeof(Row);
}

}  // namespace selfheal
