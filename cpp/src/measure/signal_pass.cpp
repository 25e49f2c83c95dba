#include "selfheal/measure/signal_pass.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/backend_list.hpp"
#include "measure/answer_memory.hpp"
#include "measure/class_scores.hpp"
#include "measure/detection_signals.hpp"
#include "measure/embedding_signals.hpp"
#include "measure/inner_signals.hpp"
#include "measure/measured_tensor.hpp"
#include "measure/sample_ring.hpp"
#include "measure/tensor_sums.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Backends = detail::BackendList<const detail::TensorSums*, 3>;

const Backends& found_backends() noexcept {
  static const Backends found = [] {
    Backends list;
    const auto add = [&](const detail::TensorSums& sums, std::uint32_t needs) {
      list.add(sums.name, &sums, needs);
    };
#if defined(SELFHEAL_AVX2)
    add(detail::avx2_sums, detail::kX86Avx2);
#endif
#if defined(__SSE2__)
    add(detail::sse2_sums, detail::kNothing);
#endif
#if defined(__aarch64__)
    add(detail::neon_sums, detail::kNothing);
#endif
    add(detail::portable_sums, detail::kNothing);
    return list;
  }();
  return found;
}

const detail::TensorSums& backend_of(std::string_view name) {
  const Backends& list = found_backends();
  const std::size_t index = name.empty() ? 0 : list.find(name);
  if (index < list.names().size()) return *list.function(index);
  std::string known;
  for (const std::string_view one : list.names()) {
    known += (known.empty() ? "" : ", ") + quoted(one);
  }
  refuse("backend", "one of " + known, std::string_view(quoted(name)));
}

void check(std::string_view what, const TensorLayout& layout) {
  const std::string name(what);
  // Half of what can be addressed: the copies that are kept of a tensor are as large as it is.
  constexpr std::size_t kAddressable = std::numeric_limits<std::size_t>::max() / 2;
  const std::size_t most =
      std::min<std::size_t>(kAddressable / detail::bytes_of(layout.type), std::size_t{1} << 31U);
  if (layout.elements < 1 || layout.elements > most) {
    refuse(name + ".elements", "1 to " + std::to_string(most), layout.elements);
  }
  if (layout.channels < 1) refuse(name + ".channels", "at least 1", layout.channels);
  require_positive(name + ".scale", layout.quantization.scale);
  // Sums over 2^31 elements around a zero point in this range stay within 64 bits.
  constexpr std::int32_t kFarthestZero = 1 << 15;
  if (std::abs(static_cast<std::int64_t>(layout.quantization.zero_point)) > kFarthestZero) {
    refuse(name + ".zero_point", "-32768 to 32768",
           static_cast<double>(layout.quantization.zero_point));
  }
  if (layout.type == ElementType::kFloat32 &&
      (layout.quantization.scale != 1.0 || layout.quantization.zero_point != 0)) {
    refuse(name + ".scale", "1, with zero_point 0, for float32", layout.quantization.scale);
  }
}

void check_detections(const SignalPlan& plan) {
  const DetectionOutputs& at = *plan.detections;
  if (plan.classifier || plan.reconstructs) {
    refuse("detections", "none of a classifier or an autoencoder", std::string_view("some"));
  }
  const std::array<std::size_t, 4> all{at.boxes, at.classes, at.scores, at.count};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_used = std::find(all.begin(), all.begin() + i, all[i]) != all.begin() + i;
    if (is_used || all[i] >= plan.outputs.size() || !plan.outputs[all[i]] ||
        plan.outputs[all[i]]->type != ElementType::kFloat32) {
      refuse("detections", "four different measured outputs of float32", all[i]);
    }
  }
  const std::size_t most = plan.outputs[at.scores]->elements;
  const auto require = [&](std::size_t output, std::uint64_t elements) {
    if (plan.outputs[output]->elements == elements) return;
    refuse("detections", std::to_string(elements) + " elements in output " + std::to_string(output),
           plan.outputs[output]->elements);
  };
  require(at.boxes, std::uint64_t{4} * most);
  require(at.classes, most);
  require(at.count, 1);
}

void check(const SignalPlan& plan) {
  for (const auto& layout : plan.inputs) {
    if (layout) check("inputs", *layout);
  }
  for (const auto& layout : plan.outputs) {
    if (layout) check("outputs", *layout);
  }
  const bool has_output = !plan.outputs.empty() && plan.outputs[0];
  if (plan.classifier && !has_output) {
    refuse("classifier", "an output 0 that is measured", std::string_view("none"));
  }
  if (plan.reconstructs) {
    const bool has_both = has_output && !plan.inputs.empty() && plan.inputs[0];
    if (plan.classifier || !has_both) {
      refuse("reconstructs", "false for classifiers and without both tensors measured",
             std::string_view("true"));
    }
    if (plan.inputs[0]->elements != plan.outputs[0]->elements) {
      refuse("reconstructs",
             "an output of " + std::to_string(plan.inputs[0]->elements) + " elements",
             plan.outputs[0]->elements);
    }
  }
  for (const TensorLayout& layout : plan.inner) check("inner", layout);
  if (plan.embedding) {
    check("embedding", *plan.embedding);
  }
  if (plan.detections) check_detections(plan);
  detail::check_places(plan);
}

std::size_t bytes_of(const TensorLayout& layout) noexcept {
  return layout.elements * detail::bytes_of(layout.type);
}

// How many inputs are kept.
std::size_t rows_of_inputs(const SignalPlan& plan) noexcept {
  std::uint64_t bytes = 0;
  for (const auto& layout : plan.inputs) bytes += layout ? bytes_of(*layout) : 0;
  if (bytes == 0 || plan.recent_bytes == 0) return 1;
  const std::uint64_t few =
      std::clamp<std::uint64_t>(SignalPass::kFewRecentBytes / bytes, 1, SignalPass::kFewRecent);
  return static_cast<std::size_t>(
      std::clamp<std::uint64_t>(plan.recent_bytes / bytes, few, SignalPass::kRecent));
}

}  // namespace

struct SignalPass::State {
  const detail::TensorSums& sums;
  std::vector<SignalName> names;
  std::vector<detail::MeasuredInput> inputs;    // the measured ones
  std::vector<detail::MeasuredOutput> outputs;  // of a model without classes
  std::optional<detail::ClassScores> scores;
  std::optional<detail::DetectionSignals> detections;
  std::vector<detail::InnerSignals> inner;
  std::optional<detail::EmbeddingSignals> embedding;
  bool reconstructs = false;
  std::vector<detail::AnswerMemory> answers;  // of the outputs that decide
  std::optional<detail::SampleRing> embeddings;
  std::vector<std::int64_t> labels;  // kRecent, or none
  std::uint64_t count = 0;           // of inferences that were kept
  std::int64_t label = -1;           // of what was looked at last
  // Where signals are left out: those of a whole row that stay, and the whole row.
  std::vector<std::size_t> kept;
  std::vector<double> whole;
};

[[gnu::cold]] SignalPass::SignalPass(SignalPlan plan, std::string_view backend)
    : state_(std::make_unique<State>(State{
          backend_of(backend), {}, {}, {}, {}, {}, {}, {}, false, {}, {}, {}, 0, -1, {}, {}})) {
  check(plan);
  State& state = *state_;
  const auto name = [&](SignalRole role, std::size_t tensor) {
    state.names.push_back({role, tensor});
  };
  const std::size_t input_rows = rows_of_inputs(plan);
  const auto rows_of = [&](const TensorLayout& layout) {
    const bool is_kept = plan.recent_bytes != 0 && bytes_of(layout) <= kMostRecentBytes;
    return is_kept ? kRecent : 1;
  };
  if (plan.recent_bytes != 0) state.labels.assign(kRecent, -1);
  for (std::size_t i = 0; i < plan.inputs.size(); ++i) {
    if (!plan.inputs[i]) continue;
    const detail::MeasuredInput& input =
        state.inputs.emplace_back(*plan.inputs[i], i, state.sums, input_rows);
    for (const SignalRole role : input.roles()) name(role, i);
  }
  if (plan.classifier) {
    state.scores.emplace(*plan.outputs[0], *plan.classifier);
    for (const SignalRole role :
         {SignalRole::kConfidence, SignalRole::kMargin, SignalRole::kEntropy}) {
      name(role, 0);
    }
  }
  if (plan.detections) {
    state.detections.emplace(plan);
    for (const SignalRole role : {SignalRole::kDetections, SignalRole::kTopScore,
                                  SignalRole::kMeanScore, SignalRole::kBoxArea}) {
      name(role, 0);
    }
  }
  state.reconstructs = plan.reconstructs;
  if (plan.reconstructs) name(SignalRole::kReconstructionError, 0);
  for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
    if (plan.classifier || !plan.outputs[i]) continue;
    if (state.detections && state.detections->holds(i)) continue;
    state.outputs.emplace_back(*plan.outputs[i], i, state.sums);
    name(SignalRole::kOutputMean, i);
    name(SignalRole::kOutputStd, i);
  }
  for (std::size_t i = 0; i < (plan.classifier ? 1 : plan.outputs.size()); ++i) {
    if (!plan.outputs[i]) continue;
    const TensorLayout& layout = *plan.outputs[i];
    state.answers.emplace_back(layout, i, plan.classifier ? rows_of(layout) : 1);
  }
  for (std::size_t i = 0; i < plan.inner.size(); ++i) {
    state.inner.emplace_back(plan.inner[i], state.sums);
    name(SignalRole::kInnerMean, i);
    name(SignalRole::kInnerActive, i);
  }
  if (plan.embedding) {
    state.embedding.emplace(plan, state.sums);
    const std::size_t rows = rows_of(*plan.embedding);
    if (rows > 1) state.embeddings.emplace(bytes_of(*plan.embedding), rows);
    name(SignalRole::kEmbeddingNorm, 0);
    name(SignalRole::kEmbeddingActive, 0);
    if (!plan.centroids.empty()) name(SignalRole::kEmbeddingDistance, 0);
  }
  leave_out(plan.left_out);
}

[[gnu::cold]] void SignalPass::leave_out(const std::vector<SignalName>& left_out) {
  State& state = *state_;
  std::vector<SignalName> names;
  for (std::size_t i = 0; i < state.names.size(); ++i) {
    const SignalName& name = state.names[i];
    if (std::find(left_out.begin(), left_out.end(), name) != left_out.end()) continue;
    state.kept.push_back(i);
    names.push_back(name);
  }
  if (names.size() == state.names.size()) {
    state.kept.clear();
    return;
  }
  state.whole.resize(state.names.size());
  state.names = std::move(names);
}

SignalPass::SignalPass(SignalPass&&) noexcept = default;
SignalPass& SignalPass::operator=(SignalPass&&) noexcept = default;
SignalPass::~SignalPass() = default;

std::size_t SignalPass::signals() const noexcept { return state_->names.size(); }
const std::vector<SignalName>& SignalPass::names() const noexcept { return state_->names; }

std::size_t SignalPass::inner() const noexcept { return state_->inner.size(); }

bool SignalPass::has_labels() const noexcept { return state_->scores || state_->detections; }

PassResult SignalPass::look(std::span<const void* const> inputs,
                            std::span<const void* const> outputs, const void* embedding,
                            std::span<double> row, std::span<const void* const> inner) noexcept {
  State& state = *state_;
  if (state.whole.empty()) return measure_all(inputs, outputs, embedding, row.data(), inner);
  const PassResult result = measure_all(inputs, outputs, embedding, state.whole.data(), inner);
  for (std::size_t i = 0; i < state.kept.size(); ++i) row[i] = state.whole[state.kept[i]];
  return result;
}

PassResult SignalPass::measure_all(std::span<const void* const> inputs,
                                   std::span<const void* const> outputs, const void* embedding,
                                   double* to, std::span<const void* const> inner) noexcept {
  State& state = *state_;
  PassResult result;
  result.confidence = kNan;
  result.repeats_previous = !state.inputs.empty();
  for (detail::MeasuredInput& input : state.inputs) {
    const detail::InputResult found = input.measure(inputs[input.index()], to);
    to += input.signals();
    result.nonfinite += found.nonfinite;
    result.repeats_previous = result.repeats_previous && found.repeats;
  }
  if (state.scores) {
    detail::ClassSignals found{kNan, kNan, kNan, -1};
    if (outputs[0] != nullptr) {
      found = state.scores->measure(outputs[0]);
      if (found.label < 0) result.nonfinite_outputs = 1;
    }
    *to++ = found.confidence;
    *to++ = found.margin;
    *to++ = found.entropy;
    result.label = found.label;
    result.confidence = found.confidence;
  }
  if (state.detections) {
    const detail::DetectionSignals::Surest found = state.detections->measure(outputs, to);
    to += detail::DetectionSignals::kSignals;
    result.label = found.label;
    if (found.label >= 0) result.confidence = found.score;
    if (!found.is_finite) ++result.nonfinite_outputs;
  }
  double* const error = to;
  if (state.reconstructs) *to++ = kNan;
  for (detail::MeasuredOutput& output : state.outputs) {
    const bool imitates = state.reconstructs && output.index() == 0;
    const bool is_finite = output.measure(outputs[output.index()],
                                          imitates ? &state.inputs.front() : nullptr, to, error);
    to += 2;
    if (!is_finite) ++result.nonfinite_outputs;
  }
  for (std::size_t i = 0; i < state.inner.size(); ++i) {
    state.inner[i].measure(i < inner.size() ? inner[i] : nullptr, to);
    to += 2;
  }
  if (state.embedding) state.embedding->measure(embedding, result.label, to);
  if (state.embeddings) {
    std::byte* const copy = state.embeddings->next();
    if (embedding != nullptr) {
      std::memcpy(copy, embedding, state.embeddings->bytes());
    } else {
      std::memset(copy, 0, state.embeddings->bytes());
    }
  }
  state.label = result.label;
  result.same_answer = !state.answers.empty();
  for (detail::AnswerMemory& answer : state.answers) {
    result.same_answer = answer.repeats(outputs[answer.index()]) && result.same_answer;
  }
  return result;
}

void SignalPass::keep() noexcept {
  State& state = *state_;
  for (detail::MeasuredInput& input : state.inputs) input.keep();
  for (detail::AnswerMemory& answer : state.answers) answer.keep();
  if (state.embeddings) state.embeddings->keep();
  if (!state.labels.empty()) state.labels[state.count % kRecent] = state.label;
  ++state.count;
}

void SignalPass::amend() noexcept {
  State& state = *state_;
  if (state.count == 0) return;
  for (detail::AnswerMemory& answer : state.answers) answer.amend();
  if (state.embeddings) state.embeddings->amend();
  if (!state.labels.empty()) state.labels[(state.count - 1) % kRecent] = state.label;
}

void SignalPass::forget() noexcept {
  for (detail::MeasuredInput& input : state_->inputs) input.forget();
  for (detail::AnswerMemory& answer : state_->answers) answer.forget();
  state_->count = 0;
}

std::size_t SignalPass::recent() const noexcept {
  return state_->labels.empty()
             ? 0
             : static_cast<std::size_t>(std::min<std::uint64_t>(state_->count, kRecent));
}

std::size_t SignalPass::recent_inputs() const noexcept {
  return state_->inputs.empty() ? 0 : std::min(recent(), state_->inputs.front().rows());
}

bool SignalPass::has_recent_output() const noexcept {
  return state_->scores && !state_->answers.front().ring().is_in_place();
}

bool SignalPass::has_recent_embedding() const noexcept { return state_->embeddings.has_value(); }

void SignalPass::copy_recent_input(std::size_t index, std::span<std::byte> to) const noexcept {
  for (const detail::MeasuredInput& input : state_->inputs) {
    if (input.index() != index) continue;
    input.copy_recent(std::min(recent_inputs(), to.size() / input.bytes()), to.data());
  }
}

void SignalPass::copy_recent_output(std::span<std::byte> to) const noexcept {
  const auto& ring = state_->answers.front().ring();
  ring.copy(std::min(recent(), to.size() / ring.bytes()), to.data());
}

void SignalPass::copy_recent_embedding(std::span<std::byte> to) const noexcept {
  const auto& ring = *state_->embeddings;
  ring.copy(std::min(recent(), to.size() / ring.bytes()), to.data());
}

void SignalPass::copy_recent_labels(std::span<std::int64_t> to) const noexcept {
  const std::size_t count = std::min(recent(), to.size());
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = state_->labels[(state_->count - count + i) % kRecent];
  }
}

std::size_t SignalPass::memory_bytes() const noexcept {
  const State& state = *state_;
  std::size_t bytes = sizeof *this + sizeof state + state.names.capacity() * sizeof(SignalName) +
                      state.outputs.capacity() * sizeof(detail::MeasuredOutput) +
                      state.inner.capacity() * sizeof(detail::InnerSignals) +
                      state.kept.capacity() * sizeof(std::size_t) +
                      state.whole.capacity() * sizeof(double) +
                      state.labels.capacity() * sizeof(std::int64_t);
  for (const detail::MeasuredInput& input : state.inputs) bytes += input.memory_bytes();
  for (const detail::AnswerMemory& answer : state.answers) bytes += answer.memory_bytes();
  if (state.scores) bytes += state.scores->memory_bytes();
  if (state.embedding) bytes += state.embedding->memory_bytes();
  if (state.embeddings) bytes += state.embeddings->memory_bytes();
  return bytes;
}

std::span<const std::string_view> SignalPass::backends() noexcept {
  return found_backends().names();
}

std::string_view role_name(SignalRole role) noexcept {
  switch (role) {
    case SignalRole::kInputMean:
      return "input_mean";
    case SignalRole::kInputStd:
      return "input_std";
    case SignalRole::kInputSaturatedLow:
      return "input_saturated_low";
    case SignalRole::kInputSaturatedHigh:
      return "input_saturated_high";
    case SignalRole::kInputRoughness:
      return "input_roughness";
    case SignalRole::kInputChange:
      return "input_change";
    case SignalRole::kConfidence:
      return "confidence";
    case SignalRole::kMargin:
      return "margin";
    case SignalRole::kEntropy:
      return "entropy";
    case SignalRole::kEmbeddingNorm:
      return "embedding_norm";
    case SignalRole::kEmbeddingActive:
      return "embedding_active";
    case SignalRole::kEmbeddingDistance:
      return "embedding_distance";
    case SignalRole::kReconstructionError:
      return "reconstruction_error";
    case SignalRole::kOutputMean:
      return "output_mean";
    case SignalRole::kInnerMean:
      return "inner_mean";
    case SignalRole::kInnerActive:
      return "inner_active";
    case SignalRole::kDetections:
      return "detections";
    case SignalRole::kTopScore:
      return "top_score";
    case SignalRole::kMeanScore:
      return "mean_score";
    case SignalRole::kBoxArea:
      return "box_area";
    case SignalRole::kOutputStd:
      break;
  }
  return "output_std";
}

}  // namespace selfheal
