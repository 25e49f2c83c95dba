#include "selfheal/learn/softmax_head.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "learn/small_algebra.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kEnough = 1e-4;           // of the decrease that the slope promises
constexpr int kHalvings = 30;              // of a step
constexpr std::uint32_t kMostSteps = 100;  // of Newton
// A gradient so small that rounding made it, as a share of what one sample may have.
constexpr double kNothing = 1e-9;
// Of a vector's length: what is left of it beside others is rounding.
constexpr double kDependent = 1e-5;

void require_size(std::string_view name, std::size_t expected, std::size_t got) {
  if (got != expected) refuse(name, std::to_string(expected) + " numbers", got);
}

template <typename Number>
void require_all_finite(std::string_view name, std::span<const Number> values) {
  for (const Number value : values) {
    if (!std::isfinite(value)) refuse(name, "finite numbers", static_cast<double>(value));
  }
}

}  // namespace

[[gnu::cold]] SoftmaxHead::SoftmaxHead(std::size_t classes, std::size_t dimensions,
                                       std::size_t capacity, std::size_t max_bytes)
    : classes_(classes), dimensions_(dimensions), capacity_(capacity) {
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max() / 2;
  if (classes < 2 || classes > kMost) refuse("classes", "2 or more", classes);
  if (dimensions < 1 || dimensions > kMost) refuse("dimensions", "1 or more", dimensions);
  if (capacity < 1 || capacity > kMost) refuse("capacity", "1 or more", capacity);
  const std::size_t width = dimensions + 1;
  const std::size_t rank = std::min(capacity, width);
  const double bytes =
      4.0 * static_cast<double>(capacity) * static_cast<double>(rank) +
      4.0 * static_cast<double>(std::min(capacity, dimensions)) * static_cast<double>(width) +
      32.0 * static_cast<double>(capacity) * static_cast<double>(classes) +
      48.0 * static_cast<double>(rank) * static_cast<double>(classes);
  if (bytes > static_cast<double>(max_bytes)) {
    refuse("max_bytes",
           "at least " + std::to_string(static_cast<std::uint64_t>(bytes)) + " for " +
               std::to_string(classes) + " classes, " + std::to_string(dimensions) +
               " dimensions and " + std::to_string(capacity) + " samples",
           max_bytes);
  }
  features_.resize(capacity * rank);
  basis_.resize(std::min(capacity, dimensions) * width);
  norms_.resize(capacity);
  centre_.resize(dimensions);
  scale_.resize(dimensions);
  weights_.resize(capacity);
  active_.resize(capacity);
  for (auto* values : {&start_, &targets_}) values->resize(capacity * classes);
  for (auto* values : {&logits_, &probabilities_, &moving_}) {
    values->resize(capacity * classes);
  }
  for (auto* values : {&theta_, &gradient_, &direction_, &residual_, &conjugate_, &curved_}) {
    values->resize(rank * classes);
  }
  rows_.resize(kTogether * classes);
}

[[gnu::cold]] void SoftmaxHead::load(std::span<const float> embeddings,
                                     std::span<const double> mean, std::span<const double> spread,
                                     std::span<const double> logits) {
  samples_ = active_count_ = 0;
  const std::size_t samples = embeddings.size() / dimensions_;
  if (samples > capacity_) {
    refuse("embeddings", "at most " + std::to_string(capacity_) + " samples", samples);
  }
  require_size("embeddings", samples * dimensions_, embeddings.size());
  require_size("mean", dimensions_, mean.size());
  require_size("spread", dimensions_, spread.size());
  require_size("logits", samples * classes_, logits.size());
  require_all_finite("embeddings", embeddings);
  require_all_finite("mean", mean);
  require_all_finite("logits", logits);
  for (const double value : spread) require_positive("spread", value);
  for (const double value : logits) {
    if (std::fabs(value) > double{std::numeric_limits<float>::max()}) {
      refuse("logits", "numbers of 32 bits", value);
    }
  }
  for (std::size_t j = 0; j < dimensions_; ++j) {
    centre_[j] = mean[j];
    scale_[j] = 1.0 / spread[j];
  }
  samples_ = samples;
  is_spanned_ = samples < dimensions_ + 1;
  const std::size_t width = dimensions_ + 1;
  rank_ = is_spanned_ ? samples : width;
  float* const rows = is_spanned_ ? basis_.data() : features_.data();
  for (std::size_t i = 0; i < samples; ++i) {
    double square = 1.0;
    for (std::size_t j = 0; j < dimensions_; ++j) {
      const double away = (double{embeddings[i * dimensions_ + j]} - centre_[j]) * scale_[j];
      const double u = std::clamp(away, -kFarthest, kFarthest);
      rows[i * width + j] = static_cast<float>(u);
      square += u * u;
    }
    rows[i * width + dimensions_] = 1.0F;
    norms_[i] = std::sqrt(square);
  }
  std::transform(logits.begin(), logits.end(), start_.begin(),
                 [](double value) { return static_cast<float>(value); });
  std::fill(theta_.begin(), theta_.end(), 0.0);
  if (is_spanned_) orthogonalise();
}

// Gram and Schmidt, modified, each row twice: after the second time what is left is orthogonal to
// the precision of its numbers. Sample i is features row i times the basis.
void SoftmaxHead::orthogonalise() noexcept {
  const std::size_t width = dimensions_ + 1;
  std::fill(features_.begin(), features_.end(), 0.0F);
  for (std::size_t i = 0; i < samples_; ++i) {
    float* const row = basis_.data() + i * width;
    float* const into = features_.data() + i * rank_;
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t k = 0; k < i; ++k) {
        const float* const other = basis_.data() + k * width;
        double along = 0.0;
        for (std::size_t j = 0; j < width; ++j) along += double{row[j]} * double{other[j]};
        into[k] += static_cast<float>(along);
        const auto part = static_cast<float>(along);
        for (std::size_t j = 0; j < width; ++j) row[j] -= part * other[j];
      }
    }
    double square = 0.0;
    for (std::size_t j = 0; j < width; ++j) square += double{row[j]} * double{row[j]};
    const double left = std::sqrt(square);
    const bool is_new = left > kDependent * norms_[i];
    into[i] = is_new ? static_cast<float>(left) : 0.0F;
    const auto factor = static_cast<float>(is_new ? 1.0 / left : 0.0);
    for (std::size_t j = 0; j < width; ++j) row[j] *= factor;
  }
}

[[gnu::cold]] void SoftmaxHead::take_weights(std::span<const double> weights, double reach) {
  active_count_ = 0;
  require_size("sample_weights", samples_, weights.size());
  require_positive("reach", reach);
  for (const double weight : weights) {
    require_not_negative("sample_weights", weight);
    if (weight > 1e6) refuse("sample_weights", "at most 1e6", weight);
  }
  const double most = reach * std::sqrt(static_cast<double>(dimensions_ + 1));
  for (std::size_t i = 0; i < samples_; ++i) {
    weights_[i] = weights[i] * std::min(1.0, most / norms_[i]);
    if (weights_[i] > 0.0) active_[active_count_++] = static_cast<std::uint32_t>(i);
  }
}

void SoftmaxHead::aim(std::span<const std::int64_t> labels, std::span<const double> weights,
                      double reach) {
  active_count_ = 0;
  require_size("labels", samples_, labels.size());
  for (const std::int64_t label : labels) {
    if (label < 0 || static_cast<std::uint64_t>(label) >= classes_) {
      refuse("labels", "classes from 0 to " + std::to_string(classes_ - 1),
             std::string_view(std::to_string(label)));
    }
  }
  std::fill(targets_.begin(), targets_.end(), 0.0F);
  for (std::size_t i = 0; i < samples_; ++i) {
    targets_[i * classes_ + static_cast<std::size_t>(labels[i])] = 1.0F;
  }
  take_weights(weights, reach);
}

void SoftmaxHead::aim_softly(std::span<const double> targets, std::span<const double> weights,
                             double reach) {
  active_count_ = 0;
  require_size("targets", samples_ * classes_, targets.size());
  for (std::size_t i = 0; i < samples_; ++i) {
    double sum = 0.0;
    for (const double share : targets.subspan(i * classes_, classes_)) {
      if (!(share >= 0.0 && share <= 1.0 + 1e-3)) refuse("targets", "shares from 0 to 1", share);
      sum += share;
    }
    if (!(std::fabs(sum - 1.0) <= 1e-3)) refuse("targets", "rows that sum to 1", sum);
    for (std::size_t c = 0; c < classes_; ++c) {
      targets_[i * classes_ + c] = static_cast<float>(targets[i * classes_ + c] / sum);
    }
  }
  take_weights(weights, reach);
}

void SoftmaxHead::add_logits(std::size_t sample, const double* SELFHEAL_RESTRICT theta,
                             double* SELFHEAL_RESTRICT out) const noexcept {
  const std::size_t n = classes_;
  const std::size_t count = is_spanned_ ? sample + 1 : rank_;
  const float* const row = features_.data() + sample * rank_;
  std::size_t j = 0;
  for (; j + kTogether <= count; j += kTogether) {
    const double a = row[j];
    const double b = row[j + 1];
    const double c = row[j + 2];
    const double d = row[j + 3];
    const double* const t = theta + j * n;
    for (std::size_t k = 0; k < n; ++k) {
      out[k] += (a * t[k] + b * t[n + k]) + (c * t[2 * n + k] + d * t[3 * n + k]);
    }
  }
  for (; j < count; ++j) add_scaled(theta + j * n, row[j], out, n);
}

template <typename WriteRow>
void SoftmaxHead::add_back(WriteRow write_row, double* out) noexcept {
  std::size_t at = 0;
  for (; at + kTogether <= active_count_; at += kTogether) {
    std::array<const float*, kTogether> features;
    for (std::size_t i = 0; i < kTogether; ++i) {
      write_row(active_[at + i], rows_.data() + i * classes_);
      features[i] = features_.data() + active_[at + i] * rank_;
    }
    const std::size_t count = is_spanned_ ? active_[at + kTogether - 1] + 1 : rank_;
    add_outer(features, count, rows_.data(), classes_, out);
  }
  for (; at < active_count_; ++at) {
    const std::size_t sample = active_[at];
    write_row(sample, rows_.data());
    const float* const features = features_.data() + sample * rank_;
    for (std::size_t j = 0; j < rank_; ++j) {
      add_scaled(rows_.data(), features[j], out + j * classes_, classes_);
    }
  }
}

// The data's part of the objective, a step along the direction away.
double SoftmaxHead::loss_at(double step) noexcept {
  double loss = 0.0;
  double* const row = rows_.data();
  for (std::size_t at = 0; at < active_count_; ++at) {
    const std::size_t first = active_[at] * classes_;
    double aimed = 0.0;
    for (std::size_t c = 0; c < classes_; ++c) {
      row[c] = logits_[first + c] + (step == 0.0 ? 0.0 : step * moving_[first + c]);
      aimed += double{targets_[first + c]} * row[c];
    }
    loss += weights_[active_[at]] * (log_sum(row, classes_) - aimed);
  }
  return loss;
}

void SoftmaxHead::set_probabilities() noexcept {
  for (std::size_t at = 0; at < active_count_; ++at) {
    const double* const z = logits_.data() + active_[at] * classes_;
    double* const p = probabilities_.data() + active_[at] * classes_;
    const double most = *std::max_element(z, z + classes_);
    double sum = 0.0;
    for (std::size_t c = 0; c < classes_; ++c) sum += p[c] = std::exp(z[c] - most);
    for (std::size_t c = 0; c < classes_; ++c) p[c] /= sum;
  }
}

void SoftmaxHead::set_gradient(double pull) noexcept {
  const std::size_t size = rank_ * classes_;
  for (std::size_t i = 0; i < size; ++i) gradient_[i] = pull * theta_[i];
  add_back(
      [this](std::size_t sample, double* row) {
        const double* const p = probabilities_.data() + sample * classes_;
        const float* const t = targets_.data() + sample * classes_;
        for (std::size_t c = 0; c < classes_; ++c) {
          row[c] = weights_[sample] * (p[c] - double{t[c]});
        }
      },
      gradient_.data());
}

// The Hessian times a direction.
void SoftmaxHead::multiply(const double* direction, double pull, double* out) noexcept {
  const std::size_t size = rank_ * classes_;
  for (std::size_t i = 0; i < size; ++i) out[i] = pull * direction[i];
  add_back(
      [this, direction](std::size_t sample, double* row) {
        std::fill_n(row, classes_, 0.0);
        add_logits(sample, direction, row);
        const double* const p = probabilities_.data() + sample * classes_;
        const double mean = dot(p, row, classes_);
        for (std::size_t c = 0; c < classes_; ++c) {
          row[c] = weights_[sample] * p[c] * (row[c] - mean);
        }
      },
      out);
}

// Conjugate gradients for Hessian * direction = -gradient; returns the products taken.
std::uint32_t SoftmaxHead::find_direction(double pull, double tolerance,
                                          std::uint32_t most) noexcept {
  const std::size_t size = rank_ * classes_;
  for (std::size_t i = 0; i < size; ++i) {
    direction_[i] = 0.0;
    conjugate_[i] = residual_[i] = -gradient_[i];
  }
  double square = dot(residual_.data(), residual_.data(), size);
  const double enough = tolerance * tolerance * square;
  std::uint32_t products = 0;
  while (products < most && square > enough) {
    multiply(conjugate_.data(), pull, curved_.data());
    ++products;
    const double curvature = dot(conjugate_.data(), curved_.data(), size);
    if (!(curvature > 0.0)) break;
    const double step = square / curvature;
    add_scaled(conjugate_.data(), step, direction_.data(), size);
    add_scaled(curved_.data(), -step, residual_.data(), size);
    const double next = dot(residual_.data(), residual_.data(), size);
    const double kept = next / square;
    for (std::size_t i = 0; i < size; ++i) {
      conjugate_[i] = residual_[i] + kept * conjugate_[i];
    }
    square = next;
  }
  return products;
}

SoftmaxHead::Outcome SoftmaxHead::descend(double pull, Effort effort) noexcept {
  const std::size_t size = rank_ * classes_;
  Outcome outcome;
  for (std::size_t at = 0; at < active_count_; ++at) {
    const std::size_t first = active_[at] * classes_;
    for (std::size_t c = 0; c < classes_; ++c) logits_[first + c] = double{start_[first + c]};
    add_logits(active_[at], theta_.data(), logits_.data() + first);
  }
  double ceiling = 0.0;  // of the gradient
  for (std::size_t at = 0; at < active_count_; ++at) {
    ceiling += weights_[active_[at]] * norms_[active_[at]];
  }
  double loss = loss_at(0.0);
  double square = dot(theta_.data(), theta_.data(), size);
  double first_gradient = 0.0;
  for (std::uint32_t step = 0; step < kMostSteps && outcome.products < effort.products; ++step) {
    set_probabilities();
    set_gradient(pull);
    ++outcome.products;
    const double gradient = std::sqrt(dot(gradient_.data(), gradient_.data(), size));
    if (step == 0) first_gradient = gradient;
    // The objective is pull-strongly convex: theta is within gradient / pull of the optimum.
    outcome.is_converged =
        gradient <= std::max(effort.tolerance * pull * std::sqrt(square), kNothing * ceiling);
    if (outcome.is_converged || outcome.products >= effort.products) break;
    const double forcing = std::min(0.3, std::sqrt(gradient / first_gradient));
    outcome.products += find_direction(pull, forcing, effort.products - outcome.products);
    for (std::size_t at = 0; at < active_count_; ++at) {
      double* const row = moving_.data() + active_[at] * classes_;
      std::fill_n(row, classes_, 0.0);
      add_logits(active_[at], direction_.data(), row);
    }
    const double slope = dot(gradient_.data(), direction_.data(), size);
    const double across = dot(theta_.data(), direction_.data(), size);
    const double along = dot(direction_.data(), direction_.data(), size);
    const double before = loss + 0.5 * pull * square;
    double length = 1.0;
    bool is_lower = false;
    for (int i = 0; i < kHalvings && !is_lower; ++i) {
      const double next_square = square + length * (2.0 * across + length * along);
      const double next_loss = loss_at(length);
      is_lower = next_loss + 0.5 * pull * next_square <= before + kEnough * length * slope;
      if (is_lower) {
        loss = next_loss;
      } else {
        length *= 0.5;
      }
    }
    if (!is_lower) break;  // rounding is all that is left
    add_scaled(direction_.data(), length, theta_.data(), size);
    square = dot(theta_.data(), theta_.data(), size);
    for (std::size_t at = 0; at < active_count_; ++at) {
      const std::size_t first = active_[at] * classes_;
      add_scaled(moving_.data() + first, length, logits_.data() + first, classes_);
    }
  }
  outcome.loss = loss;
  outcome.change = std::sqrt(square);
  return outcome;
}

SoftmaxHead::Outcome SoftmaxHead::fit(double pull, Effort effort, bool is_warm) {
  if (!(pull > 0.0)) refuse("pull", "more than 0", pull);
  if (effort.products < 1) refuse("products", "1 or more", effort.products);
  if (!(effort.tolerance > 0.0 && effort.tolerance < 1.0)) {
    refuse("tolerance", "more than 0 and less than 1", effort.tolerance);
  }
  const bool is_free = pull <= std::numeric_limits<double>::max();
  if (!is_warm || !is_free) std::fill(theta_.begin(), theta_.end(), 0.0);
  Outcome outcome = descend(is_free ? pull : 1.0, is_free ? effort : Effort{1, 0.5});
  outcome.is_converged |= !is_free;  // nothing is left to find
  return outcome;
}

[[gnu::cold]] void SoftmaxHead::change(std::span<double> weights, std::span<double> bias) const {
  require_size("weights", classes_ * dimensions_, weights.size());
  require_size("bias", classes_, bias.size());
  std::fill(weights.begin(), weights.end(), 0.0);
  std::fill(bias.begin(), bias.end(), 0.0);
  if (samples_ == 0) return;
  const std::size_t width = dimensions_ + 1;
  for (std::size_t k = 0; k < rank_; ++k) {
    const double* const theta = theta_.data() + k * classes_;
    for (std::size_t c = 0; c < classes_; ++c) {
      if (!is_spanned_) {
        (k < dimensions_ ? weights[c * dimensions_ + k] : bias[c]) = theta[c];
        continue;
      }
      const float* const row = basis_.data() + k * width;
      for (std::size_t j = 0; j < dimensions_; ++j) {
        weights[c * dimensions_ + j] += theta[c] * double{row[j]};
      }
      bias[c] += theta[c] * double{row[dimensions_]};
    }
  }
  for (std::size_t c = 0; c < classes_; ++c) {
    for (std::size_t j = 0; j < dimensions_; ++j) {
      double& weight = weights[c * dimensions_ + j];
      weight *= scale_[j];
      bias[c] -= weight * centre_[j];
    }
  }
}

void SoftmaxHead::logits(std::span<double> out) const {
  require_size("out", samples_ * classes_, out.size());
  for (std::size_t i = 0; i < samples_; ++i) {
    double* const row = out.data() + i * classes_;
    for (std::size_t c = 0; c < classes_; ++c) row[c] = double{start_[i * classes_ + c]};
    add_logits(i, theta_.data(), row);
  }
}

std::size_t SoftmaxHead::memory_bytes() const noexcept {
  const std::size_t floats =
      features_.capacity() + basis_.capacity() + start_.capacity() + targets_.capacity();
  const std::size_t doubles = norms_.capacity() + centre_.capacity() + scale_.capacity() +
                              weights_.capacity() + logits_.capacity() + probabilities_.capacity() +
                              moving_.capacity() + theta_.capacity() + gradient_.capacity() +
                              direction_.capacity() + residual_.capacity() + conjugate_.capacity() +
                              curved_.capacity() + rows_.capacity();
  return sizeof *this + 4 * (floats + active_.capacity()) + 8 * doubles;
}

}  // namespace selfheal
