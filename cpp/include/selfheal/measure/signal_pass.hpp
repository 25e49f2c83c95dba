#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

/// Everything that is measured on the raw tensors of one inference, in one call.
///
/// Dequantised value of an integer q: scale * (q - zero_point).
namespace selfheal {

struct Quantization {
  double scale = 1.0;
  std::int32_t zero_point = 0;  // -32768 to 32768: sums over 2^31 elements stay within 64 bits
};

enum class ElementType : std::uint8_t { kInt8, kUint8, kInt16, kFloat32 };

/// One tensor, C-contiguous and aligned to its elements.
struct TensorLayout {
  ElementType type = ElementType::kInt8;
  /// 1 to 2^31, and what half of the addresses of a 32-bit machine hold.
  std::size_t elements = 0;
  /// Elements of the innermost dimension, >= 1: roughness compares x[i + channels] with x[i], so
  /// that a colour is compared with the same colour of the next pixel. Where that leaves no pair
  /// (channels >= elements, a vector) neighbours are compared.
  std::size_t channels = 1;
  /// scale > 0; 1 and 0 for floats.
  Quantization quantization;
};

enum class OutputKind : std::uint8_t {
  /// Values are probabilities that sum to about 1. A single one is a sigmoid's: of class 1, where
  /// class 0 has the rest.
  kProbabilities,
  kLogits,  ///< values go through a softmax first
};

/// What one number of a row is.
enum class SignalRole : std::uint8_t {
  kInputMean,  ///< of the finite elements; NaN if there are none
  kInputStd,   ///< divided by n
  /// Share of elements at the smallest and at the largest value of an integer type, 0 to 1.
  kInputSaturatedLow,
  kInputSaturatedHigh,
  /// Mean of |x - previous x|, over pairs that are both finite; NaN without a previous input. Near
  /// 0: a stuck sensor.
  kInputChange,
  /// Mean of |x[i + channels] - x[i]|, over pairs that are both finite.
  kInputRoughness,
  /// Largest probability, as dequantised (probabilities) or after the softmax (logits).
  kConfidence,
  /// Confidence minus the second largest probability; of a single logit 1.
  kMargin,
  /// Entropy in nats, 0 to ln(classes), of the probabilities clipped at 0 and divided by their
  /// sum; NaN if that sum is 0 (quantised answers over very many classes).
  kEntropy,
  /// Euclidean length.
  kEmbeddingNorm,
  /// Share of elements above zero.
  kEmbeddingActive,
  /// Mahalanobis distance, with a diagonal covariance, to the centroid of the class that the
  /// output names, times the class's scale; NaN where that class has none.
  kEmbeddingDistance,
  /// Mean of (output 0 - input 0)^2, over pairs that are both finite.
  kReconstructionError,
  kOutputMean,
  kOutputStd,
  /// Of a detector: how many detections have a score of 0.5 or more.
  kDetections,
  kTopScore,     ///< The largest score of a detection; 0 without any.
  kMeanScore,    ///< Of those with 0.5 or more; NaN without any.
  kBoxArea,      ///< Mean area of their boxes; NaN without any.
  kInnerMean,    ///< Of an inner tensor.
  kInnerActive,  ///< Share of its elements above zero.
};

struct SignalName {
  SignalRole role;
  /// Of which input or output; 0 for what there is only once.
  std::size_t tensor;

  friend bool operator==(const SignalName&, const SignalName&) = default;
};

/// Which outputs hold what a detector has found, all of float32: boxes (n x 4: top, left, bottom,
/// right), their classes and scores (n each), and how many of the n there are (1).
struct DetectionOutputs {
  std::size_t boxes = 0;
  std::size_t classes = 1;
  std::size_t scores = 2;
  std::size_t count = 3;
};

struct SignalPlan {
  /// nullopt: a tensor that is not measured.
  std::vector<std::optional<TensorLayout>> inputs;
  std::vector<std::optional<TensorLayout>> outputs;
  /// What output 0 holds, one value a class; nullopt: a model without classes.
  std::optional<OutputKind> classifier;
  /// Output 0 imitates input 0: both measured, with equally many elements, and no classes.
  bool reconstructs = false;
  /// A model without classes of its own whose outputs are boxes, classes, scores and a count.
  std::optional<DetectionOutputs> detections;
  /// Further tensors in the middle of the model.
  std::vector<TensorLayout> inner;
  /// The input of a classifier's last layer, or what any other model has in its middle.
  std::optional<TensorLayout> embedding;
  /// Of a wide embedding: where the runs of kPartRun elements begin that are measured, one behind
  /// the other. Empty: all elements are.
  std::vector<std::size_t> embedding_part;
  static constexpr std::size_t kPartRun = 16;
  /// Of a classifier: where the classes lie, classes x measured elements, dequantised, row by row;
  /// a row that begins with NaN: a class without a known place. Empty: no distance is measured.
  std::vector<float> centroids;
  /// One over the variance of each measured element around its class's centroid, >= 0.
  std::vector<float> precision;
  /// What a distance to each class is multiplied by, > 0; empty: 1.
  std::vector<float> class_scales;
  /// As many as output 0 has elements; 2 where that is a single sigmoid.
  std::size_t classes = 0;
  /// Signals to leave out of the rows; one that is not measured anyway may be named.
  std::vector<SignalName> left_out;
  /// Bytes for copies of the latest inputs; 0: nothing is kept but the previous input and answer.
  std::size_t recent_bytes = std::size_t{512} << 10U;
};

/// "input_mean", "input_std" and so on.
std::string_view role_name(SignalRole role) noexcept;

struct PassResult {
  /// Every measured input equals the previous inference's and is finite; false without inputs.
  bool repeats_previous = false;
  /// Elements of measured inputs that are NaN or infinite.
  std::uint64_t nonfinite = 0;
  /// Index of the largest value of output 0, the first among equals (of a single sigmoid: whether
  /// it is above 0.5); -1 without classes, or when an element of output 0 is not finite. Of a
  /// detector the class of the detection with the largest score, -1 where that is below 0.5.
  std::int64_t label = -1;
  /// NaN where label is -1.
  double confidence = 0.0;
  /// Outputs that decide (output 0 of a classifier, else all measured ones) with an element that is
  /// NaN or infinite.
  std::uint32_t nonfinite_outputs = 0;
  /// Whether the outputs that decide equal the previous inference's to the bit; false without any.
  bool same_answer = false;
};

/// Measures one inference after the other.
///
/// A row holds, in the order of names(): for every measured input kInputMean to kInputRoughness
/// (saturation of integers only, roughness where there is more than one element); for a classifier
/// kConfidence to kEntropy; for a detector kDetections to kBoxArea; for any other model
/// kReconstructionError, if it reconstructs; but for a classifier kOutputMean and kOutputStd of
/// every measured output, without those of a detector's four; of every inner tensor kInnerMean and
/// kInnerActive; with an embedding kEmbeddingNorm and kEmbeddingActive, and with centroids
/// kEmbeddingDistance; without those that the plan leaves out.
///
/// Integer tensors are summed in integers, exactly, so that every backend gives the same signals to
/// the bit; floats in eight sums of doubles around their first element. Probabilities and
/// logits of 8 bits go through tables of 256 entries.
///
/// Backends, fastest first; the first one that this CPU has is taken:
///
///     "avx2"      x86-64 with AVX2
///     "sse2"      any x86-64
///     "neon"      aarch64
///     "portable"  anything
///
/// The copies of inputs and answers that are compared with the next ones are kept for a while, as
/// raw elements, so that questions can be asked of them after an alarm: measured inputs of as many
/// inferences as fit in recent_bytes, at least kFewRecent (as many as fit in 2 MiB where these are
/// larger, but one) and at most kRecent; output 0 of a classifier and the embedding, each of at
/// most kMostRecentBytes, and the labels, of kRecent.
///
/// measure: with AVX2 about 0.05 ns an element of 8 bits, 25 ns for twelve classes; noexcept, no
/// allocation. Bytes: memory_bytes(), mainly what is kept of the latest inferences, the centroids
/// of known classes, and 6 KiB of tables. One object, one thread.
class SignalPass {
 public:
  static constexpr std::size_t kRecent = 256;              ///< inferences; a power of two
  static constexpr std::size_t kFewRecent = 8;             ///< inputs
  static constexpr std::size_t kMostRecentBytes = 4096;    ///< of one output or embedding
  static constexpr std::size_t kFewRecentBytes = 2 << 20;  ///< that kFewRecent inputs may take

  /// Throws std::invalid_argument naming a member of the plan. `backend`: a name out of
  /// backends(); empty: the fastest.
  explicit SignalPass(SignalPlan plan, std::string_view backend = {});
  SignalPass(SignalPass&&) noexcept;
  SignalPass& operator=(SignalPass&&) noexcept;
  ~SignalPass();

  /// Numbers in a row.
  std::size_t signals() const noexcept;
  const std::vector<SignalName>& names() const noexcept;
  /// Whether results have labels: of classifiers and detectors.
  bool has_labels() const noexcept;
  /// Inner tensors that look() takes; one that is missing or nullptr measures as NaN.
  std::size_t inner() const noexcept;

  /// Measures one inference into `row`, of signals() numbers, and keeps it. `inputs` and `outputs`
  /// hold one pointer per tensor of the plan; those that are not measured are not looked at. An
  /// output that is nullptr (no elements this time) measures as NaN. `embedding`: nullptr without
  /// one.
  PassResult measure(std::span<const void* const> inputs, std::span<const void* const> outputs,
                     const void* embedding, std::span<double> row,
                     std::span<const void* const> inner = {}) noexcept {
    const PassResult result = look(inputs, outputs, embedding, row, inner);
    keep();
    return result;
  }
  /// Measures one inference; keep() then makes it the previous one. One that is not kept leaves no
  /// trace (where a single input is kept, its copy).
  PassResult look(std::span<const void* const> inputs, std::span<const void* const> outputs,
                  const void* embedding, std::span<double> row,
                  std::span<const void* const> inner = {}) noexcept;
  void keep() noexcept;
  /// What was looked at is what the latest inference that was kept answers, whose inputs it had: it
  /// was served anew.
  void amend() noexcept;

  /// Forgets all inferences: the next one repeats nothing and has changed from nothing.
  void forget() noexcept;

  /// How many of the latest inferences are kept, at most kRecent; 0 without recent_bytes.
  std::size_t recent() const noexcept;
  /// Of how many of these the inputs are; at most recent().
  std::size_t recent_inputs() const noexcept;
  bool has_recent_output() const noexcept;
  bool has_recent_embedding() const noexcept;
  /// Copies rows of raw elements, oldest first: recent_inputs() of input `index` of the plan, which
  /// is measured; recent() of output 0, of the embedding (zeros where there was none), and labels.
  /// Of the latest of them as many as there is room for.
  void copy_recent_input(std::size_t index, std::span<std::byte> to) const noexcept;
  void copy_recent_output(std::span<std::byte> to) const noexcept;
  void copy_recent_embedding(std::span<std::byte> to) const noexcept;
  void copy_recent_labels(std::span<std::int64_t> to) const noexcept;

  std::size_t memory_bytes() const noexcept;

  /// Backends that this build has and this CPU can run, fastest first.
  static std::span<const std::string_view> backends() noexcept;

 private:
  struct State;
  void leave_out(const std::vector<SignalName>& left_out);
  PassResult measure_all(std::span<const void* const> inputs, std::span<const void* const> outputs,
                         const void* embedding, double* to,
                         std::span<const void* const> inner) noexcept;

  std::unique_ptr<State> state_;
};

}  // namespace selfheal
