#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace selfheal::runtime {

/// Memory of one input or output.
struct TensorMemory {
  std::byte* data = nullptr;
  std::size_t nbytes = 0;
};

/// A built model whose tensors stay where they are: write the inputs, run, read the outputs.
///
/// One thread at a time: the one that holds the model's inference lock.
class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  /// Whether run() has to be called by a thread that holds the lock of its language's interpreter.
  virtual bool needs_interpreter_lock() const noexcept = 0;
  virtual std::span<const TensorMemory> inputs() const noexcept = 0;
  /// The user's own outputs.
  virtual std::span<const TensorMemory> outputs() const noexcept = 0;
  /// Inner tensors, valid after a run.
  virtual std::span<const TensorMemory> taps() const noexcept = 0;
  /// What a recurrent model carries from one run to the next, as far as it has an address.
  virtual std::span<const TensorMemory> variables() const noexcept { return {}; }
  /// False when the runtime failed, or the engine was closed.
  virtual bool run() noexcept = 0;
  /// Keeps the tensors where they are, also after the engine was closed; null where they live as
  /// long as this object.
  virtual std::shared_ptr<const void> memory() const { return nullptr; }
};

/// An engine that has the places of its tensors in vectors.
class TensorEngine : public Engine {
 public:
  TensorEngine() = default;
  TensorEngine(std::vector<TensorMemory> inputs, std::vector<TensorMemory> outputs,
               std::vector<TensorMemory> taps, std::vector<TensorMemory> variables = {})
      : inputs_memory_(std::move(inputs)),
        outputs_memory_(std::move(outputs)),
        taps_memory_(std::move(taps)),
        variables_memory_(std::move(variables)) {}

  std::span<const TensorMemory> inputs() const noexcept override { return inputs_memory_; }
  std::span<const TensorMemory> outputs() const noexcept override { return outputs_memory_; }
  std::span<const TensorMemory> taps() const noexcept override { return taps_memory_; }
  std::span<const TensorMemory> variables() const noexcept override { return variables_memory_; }

 protected:
  std::vector<TensorMemory> inputs_memory_;
  std::vector<TensorMemory> outputs_memory_;
  std::vector<TensorMemory> taps_memory_;
  std::vector<TensorMemory> variables_memory_;
};

}  // namespace selfheal::runtime
