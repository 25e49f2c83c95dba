#include "selfheal/learn/float_graph.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "learn/exact_math.hpp"
#include "learn/small_algebra.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kFirst = 0.9;
constexpr double kSecond = 0.999;
constexpr double kTiny = 1e-8;
constexpr float kLeastGain = 0.05F;
constexpr std::uint32_t kMostSize = 1U << 20;

// to += factor * from: each sum is taken in one order, however wide a machine's vectors are.
inline void add_row(const float* SELFHEAL_RESTRICT from, float factor, float* SELFHEAL_RESTRICT to,
                    std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

inline void add_product(const float* SELFHEAL_RESTRICT a, const float* SELFHEAL_RESTRICT b,
                        float* SELFHEAL_RESTRICT to, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] += a[i] * b[i];
}

[[gnu::cold]] void require_numbers(const char* name, std::size_t expected, std::size_t got) {
  if (got != expected) refuse(name, std::to_string(expected) + " numbers", got);
}

[[gnu::cold]] void require_all_finite(const char* name, std::span<const float> values) {
  for (const float number : values) {
    if (!std::isfinite(number)) refuse(name, "finite numbers", static_cast<double>(number));
  }
}

}  // namespace

// Visits each product of an output's place and a kernel's: indices of the output's place, the
// kernel's tap and the input's place.
template <typename Visit>
void FloatGraph::for_each_tap(const Layer& layer, Visit visit) noexcept {
  for (std::size_t oy = 0; oy < layer.out_height; ++oy) {
    for (std::size_t ox = 0; ox < layer.out_width; ++ox) {
      for (std::size_t ky = 0; ky < layer.kernel_height; ++ky) {
        const std::size_t y = oy * layer.stride_height + ky - layer.pad_top;
        if (y >= layer.in_height) continue;  // below 0 as well
        for (std::size_t kx = 0; kx < layer.kernel_width; ++kx) {
          const std::size_t x = ox * layer.stride_width + kx - layer.pad_left;
          if (x >= layer.in_width) continue;
          visit(oy * layer.out_width + ox, ky * layer.kernel_width + kx, y * layer.in_width + x);
        }
      }
    }
  }
}

[[gnu::cold]] FloatGraph::FloatGraph(std::span<const Layer> layers, std::span<const float> weights,
                                     std::span<const float> biases, std::size_t max_bytes) {
  if (layers.empty()) refuse("layers", "1 or more", layers.size());
  layers_.assign(layers.begin(), layers.end());
  lay_out(layers);
  std::size_t channels = 0;
  for (const Layer& layer : layers_) {
    if (has_weights(layer.kind)) channels += layer.out_channels;
  }
  const std::size_t count = places_.back().weights + places_.back().size;
  require_numbers("weights", count, weights.size());
  require_numbers("biases", channels, biases.size());
  require_all_finite("weights", weights);
  require_all_finite("biases", biases);
  std::size_t numbers = 2 * channels;
  for (std::size_t n = 0; n < layers_.size(); ++n) {
    if (layers_[n].learns_weights) numbers += places_[n].size;
  }
  const std::size_t bytes = sizeof(float) * (2 * count + 2 * offsets_.back() + 5 * numbers);
  if (bytes > max_bytes) refuse("max_bytes", "at least " + std::to_string(bytes), max_bytes);
  weights_.assign(weights.begin(), weights.end());
  turned_.resize(count);
  values_.resize(offsets_.back());
  slopes_.resize(offsets_.back());
  parameters_.resize(numbers);
  gradient_.resize(numbers);
  first_.resize(numbers);
  second_.resize(numbers);
  rates_.assign(numbers, 1.0F);
  row_.resize(classes());
  std::size_t at = 0;
  const float* bias = biases.data();
  for (std::size_t n = 0; n < layers_.size(); ++n) {
    places_[n].parameters = at;
    if (!has_weights(layers_[n].kind)) continue;
    const std::size_t wide = layers_[n].out_channels;
    std::fill_n(parameters_.begin() + static_cast<std::ptrdiff_t>(at), wide, 1.0F);
    std::copy_n(bias, wide, parameters_.begin() + static_cast<std::ptrdiff_t>(at + wide));
    bias += wide;
    at += 2 * wide;
    if (layers_[n].learns_weights) {
      std::copy_n(weights_.begin() + static_cast<std::ptrdiff_t>(places_[n].weights),
                  places_[n].size, parameters_.begin() + static_cast<std::ptrdiff_t>(at));
      at += places_[n].size;
    }
    transpose(n);
  }
}

[[gnu::cold]] void FloatGraph::lay_out(std::span<const Layer> layers) {
  places_.resize(layers.size());
  std::size_t count = 0;
  const Layer& first = layers.front();
  sizes_ = {std::size_t{first.in_height} * first.in_width * first.in_channels};
  for (std::size_t n = 0; n < layers.size(); ++n) {
    const Layer& layer = layers[n];
    for (const std::uint32_t size :
         {layer.in_height, layer.in_width, layer.in_channels, layer.out_height, layer.out_width,
          layer.out_channels, layer.kernel_height, layer.kernel_width, layer.stride_height,
          layer.stride_width}) {
      if (size < 1 || size > kMostSize) refuse("layers", "sizes from 1 to 2^20", std::size_t{size});
    }
    const double in = double(layer.in_height) * layer.in_width * layer.in_channels;
    const double out = double(layer.out_height) * layer.out_width * layer.out_channels;
    const double kernel = double(layer.kernel_height) * layer.kernel_width * layer.out_channels *
                          (layer.kind == Kind::kConvolution ? layer.in_channels : 1.0);
    const bool is_narrow = layer.kind != Kind::kConvolution;
    if (layer.input > n || layer.other > n) {
      refuse("layers", "inputs that come before a layer", std::size_t{layer.input});
    }
    const bool fits =
        std::max({in, out, kernel}) <= kMostSize &&
        sizes_[layer.input] == static_cast<std::size_t>(in) &&
        (layer.kind != Kind::kAdd || (in == out && sizes_[layer.other] == sizes_[layer.input])) &&
        (!is_narrow || layer.in_channels == layer.out_channels) &&
        layer.pad_top < layer.kernel_height && layer.pad_left < layer.kernel_width &&
        layer.lowest < layer.highest && (!layer.learns_weights || has_weights(layer.kind));
    if (!fits) refuse("layers", "layers that fit together", n);
    sizes_.push_back(static_cast<std::size_t>(out));
    places_[n].weights = count;
    places_[n].size = has_weights(layer.kind) ? static_cast<std::size_t>(kernel) : 0;
    count += places_[n].size;
  }
  offsets_.assign(1, 0);
  for (const std::size_t size : sizes_) offsets_.push_back(offsets_.back() + size);
}

void FloatGraph::transpose(std::size_t n) noexcept {
  const Layer& layer = layers_[n];
  const float* const from = weights_.data() + places_[n].weights;
  float* const to = turned_.data() + places_[n].weights;
  if (layer.kind == Kind::kDepthwise) {
    std::copy_n(from, places_[n].size, to);
    return;
  }
  const std::size_t out = layer.out_channels;
  const std::size_t in = places_[n].size / out;
  for (std::size_t o = 0; o < out; ++o) {
    for (std::size_t i = 0; i < in; ++i) to[i * out + o] = from[o * in + i];
  }
}

void FloatGraph::convolve(std::size_t n) noexcept {
  const Layer& layer = layers_[n];
  const std::size_t in = layer.in_channels;
  const std::size_t out = layer.out_channels;
  const float* const x = value(layer.input);
  float* const y = values_.data() + offsets_[n + 1];
  const float* const w = turned_.data() + places_[n].weights;
  std::fill_n(y, sizes_[n + 1], 0.0F);
  const bool is_deep = layer.kind == Kind::kDepthwise;
  for_each_tap(layer, [=](std::size_t to, std::size_t tap, std::size_t from) noexcept {
    if (is_deep) {
      add_product(x + from * in, w + tap * in, y + to * out, in);
      return;
    }
    const float* const row = x + from * in;
    for (std::size_t i = 0; i < in; ++i) {
      if (row[i] != 0.0F) add_row(w + (tap * in + i) * out, row[i], y + to * out, out);
    }
  });
  const float* const gain = parameters_.data() + places_[n].parameters;
  for (std::size_t at = 0; at < sizes_[n + 1]; at += out) {
    for (std::size_t o = 0; o < out; ++o) {
      y[at + o] = std::clamp(gain[o] * y[at + o] + gain[out + o], layer.lowest, layer.highest);
    }
  }
}

void FloatGraph::convolve_back(std::size_t n) noexcept {
  const Layer& layer = layers_[n];
  const std::size_t in = layer.in_channels;
  const std::size_t out = layer.out_channels;
  const float* const x = value(layer.input);
  const float* const y = value(static_cast<std::uint32_t>(n + 1));
  float* const g = slope(static_cast<std::uint32_t>(n + 1));
  const float* const gain = parameters_.data() + places_[n].parameters;
  float* const dgain = gradient_.data() + places_[n].parameters;
  for (std::size_t at = 0; at < sizes_[n + 1]; at += out) {
    for (std::size_t o = 0; o < out; ++o) {
      const float here = y[at + o];
      const float slope = here > layer.lowest && here < layer.highest ? g[at + o] : 0.0F;
      dgain[o] += slope * ((here - gain[out + o]) / gain[o]);
      dgain[out + o] += slope;
      g[at + o] = slope * gain[o];
    }
  }
  float* const dx = layer.input == 0 ? nullptr : slope(layer.input);
  float* const dw = layer.learns_weights ? dgain + 2 * out : nullptr;
  const float* const w = weights_.data() + places_[n].weights;
  const std::size_t step = places_[n].size / out;  // of a convolution, from one output to the next
  const bool is_deep = layer.kind == Kind::kDepthwise;
  if (dx == nullptr && dw == nullptr) return;
  for_each_tap(layer, [=](std::size_t to, std::size_t tap, std::size_t from) noexcept {
    const float* const here = g + to * out;
    if (is_deep) {
      if (dx != nullptr) add_product(here, w + tap * in, dx + from * in, in);
      if (dw != nullptr) add_product(here, x + from * in, dw + tap * in, in);
      return;
    }
    for (std::size_t o = 0; o < out; ++o) {
      if (here[o] == 0.0F) continue;
      const std::size_t at = o * step + tap * in;
      if (dx != nullptr) add_row(w + at, here[o], dx + from * in, in);
      if (dw != nullptr) add_row(x + from * in, here[o], dw + at, in);
    }
  });
}

void FloatGraph::pool(std::size_t n) noexcept {
  const Layer& layer = layers_[n];
  const std::size_t wide = layer.out_channels;
  const float* const x = value(layer.input);
  float* const y = values_.data() + offsets_[n + 1];
  if (layer.kind == Kind::kAdd) {
    const float* const other = value(layer.other);
    for (std::size_t i = 0; i < sizes_[n + 1]; ++i) y[i] = x[i] + other[i];
  } else if (layer.kind == Kind::kMaxPool) {
    std::fill_n(y, sizes_[n + 1], std::numeric_limits<float>::lowest());
    for_each_tap(layer, [=](std::size_t to, std::size_t, std::size_t from) noexcept {
      for (std::size_t c = 0; c < wide; ++c) {
        y[to * wide + c] = std::max(y[to * wide + c], x[from * wide + c]);
      }
    });
  } else {
    std::fill_n(y, sizes_[n + 1], 0.0F);
    for_each_tap(layer, [=, this](std::size_t to, std::size_t, std::size_t from) noexcept {
      add_row(x + from * wide, 1.0F / taps(layers_[n], to), y + to * wide, wide);
    });
  }
  for (std::size_t i = 0; i < sizes_[n + 1]; ++i) {
    y[i] = std::clamp(y[i], layer.lowest, layer.highest);
  }
}

void FloatGraph::pool_back(std::size_t n) noexcept {
  const Layer& layer = layers_[n];
  const std::size_t wide = layer.out_channels;
  const float* const x = value(layer.input);
  const float* const y = value(static_cast<std::uint32_t>(n + 1));
  float* const g = slope(static_cast<std::uint32_t>(n + 1));
  float* const dx = slope(layer.input);
  if (layer.kind == Kind::kMaxPool) {
    for_each_tap(layer, [=](std::size_t to, std::size_t, std::size_t from) noexcept {
      for (std::size_t c = 0; c < wide; ++c) {
        float& left = g[to * wide + c];  // the first one of equals gets it
        if (x[from * wide + c] != y[to * wide + c]) continue;
        dx[from * wide + c] += left;
        left = 0.0F;
      }
    });
    return;
  }
  for (std::size_t i = 0; i < sizes_[n + 1]; ++i) {
    if (!(y[i] > layer.lowest && y[i] < layer.highest)) g[i] = 0.0F;
  }
  if (layer.kind == Kind::kAdd) {
    float* const other = slope(layer.other);
    for (std::size_t i = 0; i < sizes_[n + 1]; ++i) {
      dx[i] += g[i];
      other[i] += g[i];
    }
    return;
  }
  for_each_tap(layer, [=, this](std::size_t to, std::size_t, std::size_t from) noexcept {
    add_row(g + to * wide, 1.0F / taps(layers_[n], to), dx + from * wide, wide);
  });
}

float FloatGraph::taps(const Layer& layer, std::size_t place) noexcept {
  const auto inside = [](std::size_t at, std::uint32_t stride, std::uint32_t pad,
                         std::uint32_t kernel, std::uint32_t size) noexcept {
    const std::size_t begin = at * stride;
    const std::size_t from = std::max<std::size_t>(begin, pad);
    return std::min<std::size_t>(begin + kernel, std::size_t{size} + pad) - from;
  };
  const std::size_t high = inside(place / layer.out_width, layer.stride_height, layer.pad_top,
                                  layer.kernel_height, layer.in_height);
  const std::size_t wide = inside(place % layer.out_width, layer.stride_width, layer.pad_left,
                                  layer.kernel_width, layer.in_width);
  return static_cast<float>(high * wide);
}

void FloatGraph::forward(const float* input) noexcept {
  std::copy_n(input, sizes_[0], values_.data());
  for (std::size_t n = 0; n < layers_.size(); ++n) {
    if (has_weights(layers_[n].kind)) {
      convolve(n);
    } else {
      pool(n);
    }
  }
}

void FloatGraph::backward() noexcept {
  for (std::size_t n = layers_.size(); n-- > 0;) {
    if (has_weights(layers_[n].kind)) {
      convolve_back(n);
    } else {
      pool_back(n);
    }
  }
}

void FloatGraph::logits(std::span<const float> inputs, std::span<float> out) {
  const std::size_t samples = inputs.size() / sizes_.front();
  require_numbers("inputs", samples * sizes_.front(), inputs.size());
  require_numbers("out", samples * classes(), out.size());
  for (std::size_t i = 0; i < samples; ++i) {
    forward(inputs.data() + i * sizes_.front());
    std::copy_n(value(static_cast<std::uint32_t>(layers_.size())), classes(),
                out.data() + i * classes());
  }
}

double FloatGraph::learn(std::span<const float> inputs, std::span<const float> targets,
                         std::span<const float> sample_weights) {
  const std::size_t samples = sample_weights.size();
  require_numbers("inputs", samples * sizes_.front(), inputs.size());
  require_numbers("targets", samples * classes(), targets.size());
  double total = 0.0;
  for (const float weight : sample_weights) {
    if (!(weight >= 0.0F) || !std::isfinite(weight)) {
      refuse("sample_weights", "finite numbers from 0 on", static_cast<double>(weight));
    }
    total += weight;
  }
  std::fill(gradient_.begin(), gradient_.end(), 0.0F);
  if (!(total > 0.0)) return 0.0;
  double loss = 0.0;
  for (std::size_t i = 0; i < samples; ++i) {
    if (sample_weights[i] == 0.0F) continue;
    forward(inputs.data() + i * sizes_.front());
    const float* const z = value(static_cast<std::uint32_t>(layers_.size()));
    const float* const target = targets.data() + i * classes();
    const double most = *std::max_element(z, z + classes());
    double sum = 0.0;
    for (std::size_t c = 0; c < classes(); ++c) sum += row_[c] = detail::exact_exp(z[c] - most);
    const double logs = most + detail::exact_log(sum);
    const double weight = sample_weights[i] / total;
    std::fill(slopes_.begin(), slopes_.end(), 0.0F);
    float* const g = slope(static_cast<std::uint32_t>(layers_.size()));
    for (std::size_t c = 0; c < classes(); ++c) {
      loss -= weight * target[c] * (z[c] - logs);
      g[c] = static_cast<float>(weight * (row_[c] / sum - target[c]));
    }
    backward();
  }
  return loss;
}

double FloatGraph::step(std::span<const float> inputs, std::span<const float> targets,
                        std::span<const float> sample_weights, double rate) {
  require_not_negative("rate", rate);
  const double loss = learn(inputs, targets, sample_weights);
  decay_first_ *= kFirst;
  decay_second_ *= kSecond;
  const double whole = rate / (1.0 - decay_first_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const double slope = gradient_[i];
    if (!std::isfinite(slope)) continue;
    first_[i] = static_cast<float>(kFirst * first_[i] + (1.0 - kFirst) * slope);
    second_[i] = static_cast<float>(kSecond * second_[i] + (1.0 - kSecond) * slope * slope);
    const double width = std::sqrt(second_[i] / (1.0 - decay_second_)) + kTiny;
    parameters_[i] = static_cast<float>(parameters_[i] - rates_[i] * (whole * first_[i] / width));
  }
  take_parameters();
  return loss;
}

void FloatGraph::take_parameters() noexcept {
  for (std::size_t n = 0; n < layers_.size(); ++n) {
    if (!has_weights(layers_[n].kind)) continue;
    float* const gain = parameters_.data() + places_[n].parameters;
    const std::size_t wide = layers_[n].out_channels;
    for (std::size_t o = 0; o < wide; ++o) gain[o] = std::max(gain[o], kLeastGain);
    if (!layers_[n].learns_weights) continue;
    std::copy_n(gain + 2 * wide, places_[n].size, weights_.data() + places_[n].weights);
    transpose(n);
  }
}

void FloatGraph::set_parameters(std::span<const float> values) {
  require_numbers("values", parameters_.size(), values.size());
  require_all_finite("values", values);
  std::copy(values.begin(), values.end(), parameters_.begin());
  take_parameters();
  std::fill(first_.begin(), first_.end(), 0.0F);
  std::fill(second_.begin(), second_.end(), 0.0F);
  decay_first_ = decay_second_ = 1.0;
}

void FloatGraph::set_rates(std::span<const float> rates) {
  require_numbers("rates", rates_.size(), rates.size());
  require_all_finite("rates", rates);
  std::copy(rates.begin(), rates.end(), rates_.begin());
}

[[gnu::cold]] std::size_t FloatGraph::memory_bytes() const noexcept {
  const std::size_t floats = weights_.size() + turned_.size() + values_.size() + slopes_.size() +
                             parameters_.size() + gradient_.size() + first_.size() +
                             second_.size() + rates_.size();
  return sizeof(*this) + sizeof(float) * floats + sizeof(Layer) * layers_.size() +
         sizeof(Place) * places_.size() + sizeof(std::size_t) * (sizes_.size() + offsets_.size()) +
         sizeof(double) * row_.size();
}

}  // namespace selfheal
