#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace selfheal {

/// Learns how a classifier's last layer should change, from few samples: softmax regression that is
/// pulled to where it starts.
///
/// With u the embedding in units of its spread, (x - mean) / spread, and a 1 behind it for the
/// bias, the logits of a sample are those of the start plus D u, for a matrix D of classes by
/// dimensions
/// + 1. fit finds the D that minimises
///
///     sum over samples of weight * cross-entropy(target, softmax(logits)) + pull / 2 * |D|^2,
///
/// that is, the most probable change if each of its numbers is normal with variance 1 / pull. The
/// sum is not divided by the samples: the same pull is right for few and for many.
///
/// What one sample can do is bounded: leaving out one of weight w moves D by at most
/// sqrt(2) w |u| / pull, since the rest is pull-strongly convex; and |u| counts as at most `reach`
/// times sqrt(dimensions + 1), its usual length, for the weight of a longer one is cut. Coordinates
/// beyond kFarthest spreads count as kFarthest.
///
/// Newton's method by conjugate gradients with a backtracking line search (Dembo and Steihaug 1983;
/// for softmax regression Lin, Weng and Keerthi 2008): every step lowers the objective. With fewer
/// samples than dimensions everything happens in the space that the samples span, which the
/// solution lies in (a QR decomposition of the samples, once, in load).
///
/// Results depend on the machine's exp and log in the last bits. Cost of one product with the
/// Hessian: 4 * samples * min(samples, dimensions + 1) * classes operations (half of that in the
/// samples' space); 64 samples of 64 dimensions and 12 classes: some 50 us, and 10 to 60 products a
/// fit. Bytes: memory_bytes(), fixed at construction. One object, one thread.
class SoftmaxHead {
 public:
  static constexpr double kFarthest = 64.0;
  static constexpr std::size_t kMostBytes = std::size_t{64} << 20;  ///< unless asked for more

  /// How long to try.
  struct Effort {
    std::uint32_t products = 400;  ///< with the Hessian or of a gradient, at most; at least 1
    double tolerance = 1e-4;       ///< of D, relative to |D|; more than 0, less than 1
  };
  /// What a fit came to.
  struct Outcome {
    bool is_converged = false;   ///< D is as near to the optimum as was asked for
    std::uint32_t products = 0;  ///< that were taken
    double loss = 0.0;           ///< weighted sum of cross-entropies
    double change = 0.0;         ///< |D|
  };

  /// classes: 2 or more; dimensions: 1 or more; capacity: samples, 1 or more. Refuses what would
  /// take more than max_bytes.
  SoftmaxHead(std::size_t classes, std::size_t dimensions, std::size_t capacity,
              std::size_t max_bytes = kMostBytes);

  /// Takes samples: embeddings (samples x dimensions), and their logits by the start (samples x
  /// classes). mean and spread: by dimension; a spread is more than 0. Targets are to be set anew.
  /// Throws when a size does not fit or a number is not finite; then there are no samples.
  void load(std::span<const float> embeddings, std::span<const double> mean,
            std::span<const double> spread, std::span<const double> logits);

  /// Sets what the samples should be: a class each. weights: 0 leaves a sample out. reach: more
  /// than 0; see above.
  void aim(std::span<const std::int64_t> labels, std::span<const double> weights,
           double reach = 2.0);
  /// A distribution over the classes each (samples x classes), which sums to 1.
  void aim_softly(std::span<const double> targets, std::span<const double> weights,
                  double reach = 2.0);

  /// Finds the change for a pull, which is more than 0; from the last one on (`is_warm`), or from
  /// none. Infinity: no change. Before anything is aimed at: no change.
  Outcome fit(double pull, Effort effort, bool is_warm = false);
  Outcome fit(double pull) { return fit(pull, Effort{}); }

  /// Writes what to add to the start's weights (classes x dimensions, for embeddings as they were
  /// given) and biases.
  void change(std::span<double> weights, std::span<double> bias) const;
  /// Writes the logits of all samples, those left out too, after the last fit: samples x classes.
  void logits(std::span<double> out) const;

  std::size_t classes() const noexcept { return classes_; }
  std::size_t dimensions() const noexcept { return dimensions_; }
  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t samples() const noexcept { return samples_; }
  /// Weights as they count, with what `reach` has cut.
  std::span<const double> weights() const noexcept { return {weights_.data(), samples_}; }
  std::size_t memory_bytes() const noexcept;

 private:
  void take_weights(std::span<const double> weights, double reach);
  void orthogonalise() noexcept;
  /// out (classes) += features of a sample times theta (rank x classes).
  void add_logits(std::size_t sample, const double* theta, double* out) const noexcept;
  /// out (rank x classes) += features, transposed, times a row for each active sample, which
  /// write_row(sample, row) writes.
  template <typename WriteRow>
  void add_back(WriteRow write_row, double* out) noexcept;
  double loss_at(double step) noexcept;
  void set_probabilities() noexcept;
  void set_gradient(double pull) noexcept;
  void multiply(const double* direction, double pull, double* out) noexcept;
  std::uint32_t find_direction(double pull, double tolerance, std::uint32_t most) noexcept;
  Outcome descend(double pull, Effort effort) noexcept;

  std::size_t classes_;
  std::size_t dimensions_;
  std::size_t capacity_;
  std::size_t samples_ = 0;
  std::size_t rank_ = 0;         // columns of the features
  bool is_spanned_ = false;      // whether features are a triangle, and basis_ holds its rows
  std::vector<float> features_;  // samples x rank
  std::vector<float> basis_;     // samples x (dimensions + 1), orthonormal rows
  std::vector<double> norms_;
  std::vector<double> centre_;
  std::vector<double> scale_;  // 1 / spread
  std::vector<double> weights_;
  std::vector<std::uint32_t> active_;  // samples whose weight is not 0
  std::size_t active_count_ = 0;
  // samples x classes
  std::vector<float> start_;
  std::vector<float> targets_;
  std::vector<double> logits_;
  std::vector<double> probabilities_;
  std::vector<double> moving_;  // what a step along the direction adds to logits
  // rank x classes
  std::vector<double> theta_;
  std::vector<double> gradient_;
  std::vector<double> direction_;
  std::vector<double> residual_;
  std::vector<double> conjugate_;
  std::vector<double> curved_;
  std::vector<double> rows_;  // 4 x classes
};

}  // namespace selfheal
