#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "fork_guard.hpp"
#include "litert_api.hpp"
#include "memory_file.hpp"

namespace selfheal::runtime {

/// One input or output: its type, and the memory that the runtime reads or writes.
struct TensorSlot {
  LiteRtTensorType type;
  std::size_t nbytes = 0;    // of the values
  std::size_t offset = 0;    // in the arena
  std::size_t capacity = 0;  // given to the runtime; at least nbytes
};

/// A model compiled by LiteRT whose packed weights lie in memory that we own.
///
/// Construction packs the weights twice, into two private files in memory, and refuses when the
/// two differ: then no copy could tell a fault from an accident of packing. The second is kept,
/// sealed against shrinking and growing, and mapped: what is written to packed() runs next.
///
/// The source bytes are mapped and used in place, and must be a valid model without SignatureDefs.
///
/// Memory: the runtime's own; one mapping of the source; one packed image; one arena for all
/// inputs and outputs, whose addresses never change. Nothing of ours allocates in run().
/// One thread at a time: hold mutex() from the writing of inputs to the reading of outputs.
class CompiledModel {
 public:
  /// source_path: where the model's bytes can be mapped. num_threads >= 1.
  /// Throws Refusal when LiteRT does not take the model.
  CompiledModel(const LiteRtApi& api, const std::string& source_path, int num_threads);
  CompiledModel(const CompiledModel&) = delete;
  CompiledModel& operator=(const CompiledModel&) = delete;
  /// In a child made by fork it releases nothing: the runtime's threads are not there to join.
  ~CompiledModel();

  const std::vector<TensorSlot>& inputs() const noexcept { return inputs_; }
  const std::vector<TensorSlot>& outputs() const noexcept { return outputs_; }
  std::byte* data(const TensorSlot& slot) const noexcept { return arena_.get() + slot.offset; }

  /// All bytes of the packed image; null when nothing was packed. May outlive this object.
  std::shared_ptr<Mapping> packed() const noexcept { return packed_; }

  /// Computes the outputs from the inputs; 0 is success. Not to be called in a forked child.
  LiteRtStatus run() noexcept;

  bool forked() const noexcept { return guard_.forked(); }
  std::mutex& mutex() noexcept { return mutex_; }
  /// Bytes of the arena and of the packed image.
  std::size_t memory_bytes() const noexcept;

 private:
  friend std::vector<std::byte> pack_weights(const LiteRtApi&, std::span<const std::byte>, int);
  class Build;
  struct AlignedDelete {
    void operator()(std::byte* data) const noexcept;
  };

  ForkGuard guard_;
  std::mutex mutex_;
  const LiteRtApi& api_;
  std::shared_ptr<Mapping> source_;
  std::shared_ptr<Mapping> packed_;
  std::vector<TensorSlot> inputs_;
  std::vector<TensorSlot> outputs_;
  std::size_t arena_bytes_ = 0;
  std::unique_ptr<std::byte[], AlignedDelete> arena_;
  std::unique_ptr<Build> build_;
};

/// Packs the weights of a model once and returns the packed image: what a CompiledModel of the same
/// bytes would hold. Empty when nothing is packed. Throws Refusal.
std::vector<std::byte> pack_weights(const LiteRtApi& api, std::span<const std::byte> source,
                                    int num_threads);

}  // namespace selfheal::runtime
