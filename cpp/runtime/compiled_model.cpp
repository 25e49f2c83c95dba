#include "compiled_model.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "quiet_stderr.hpp"
#include "refusal.hpp"

namespace selfheal::runtime {

namespace {

// XNNPACK may read, never write, some bytes behind a tensor.
constexpr std::size_t kSlack = 128;

// What a model of `nbytes` may take when it is packed: XNNPACK fills up tiles of at most 64
// outputs, and writes an index. Saturates.
std::size_t most_packed(std::size_t nbytes) {
  constexpr std::size_t kTile = 64;
  constexpr std::size_t kIndex = std::size_t{1} << 20;
  std::size_t most = 0;
  const bool is_large =
      __builtin_mul_overflow(nbytes, kTile, &most) || __builtin_add_overflow(most, kIndex, &most);
  return is_large ? std::numeric_limits<std::size_t>::max() : most;
}

std::size_t rounded(std::size_t nbytes) {
  return (nbytes + kLiteRtAlignment - 1) / kLiteRtAlignment * kLiteRtAlignment;
}

// Bytes of one element by LiteRT's number of the type; 0 for types that are not plain numbers.
std::size_t element_bytes(std::int32_t type) {
  switch (type) {
    case 3:
    case 6:
    case 9:
      return 1;  // uint8, bool, int8
    case 7:
    case 10:
    case 17:
      return 2;  // int16, float16, uint16
    case 1:
    case 2:
    case 16:
      return 4;  // float32, int32, uint32
    case 4:
    case 11:
    case 13:
      return 8;  // int64, float64, uint64
    default:
      return 0;
  }
}

std::size_t bytes_of(const LiteRtTensorType& type) {
  std::size_t nbytes = element_bytes(type.element_type);
  if (nbytes == 0) {
    throw Refusal("an input or output has element type " + std::to_string(type.element_type) +
                  ", expected plain numbers");
  }
  const LiteRtLayout& layout = type.layout;
  if (layout.rank() > LiteRtLayout::kMaxRank) throw Refusal("an input or output has too many axes");
  for (std::size_t axis = 0; axis < layout.rank(); ++axis) {
    if (layout.dimensions[axis] < 1)
      throw Refusal("an input or output has a shape that may change");
    if (__builtin_mul_overflow(nbytes, static_cast<std::size_t>(layout.dimensions[axis]),
                               &nbytes)) {
      throw Refusal("an input or output is too large");
    }
  }
  return nbytes;
}

}  // namespace

void CompiledModel::AlignedDelete::operator()(std::byte* data) const noexcept {
  operator delete[](data, std::align_val_t(kLiteRtAlignment));
}

// The runtime's objects of one build, destroyed in reverse order.
class CompiledModel::Build {
 public:
  Build(const LiteRtApi& api, std::span<const std::byte> source, int num_threads)
      : api_(api), file_("selfheal-packed") {
    // XNNPACK aborts the process where its file takes no more bytes.
    MemoryFile::require_room(most_packed(source.size()));
    try {
      compile(source, num_threads);
    } catch (...) {
      release();
      throw;
    }
  }
  Build(const Build&) = delete;
  Build& operator=(const Build&) = delete;
  ~Build() { release(); }

  MemoryFile& file() noexcept { return file_; }

  std::vector<TensorSlot> describe(bool is_input) const {
    LiteRtSubgraph graph = nullptr;
    require_ok(api_.get_model_subgraph(model_, 0, &graph), "reading the graph");
    const auto get_count = is_input ? api_.get_num_subgraph_inputs : api_.get_num_subgraph_outputs;
    const auto get_tensor = is_input ? api_.get_subgraph_input : api_.get_subgraph_output;
    const auto get_needs = is_input ? api_.get_input_requirements : api_.get_output_requirements;
    std::size_t count = 0;
    require_ok(get_count(graph, &count), "counting inputs and outputs");
    // The file's own shapes may have open axes; the compiled model's are those that it runs with.
    std::vector<LiteRtLayout> layouts(count);
    if (is_input) {
      for (std::size_t i = 0; i < count; ++i) {
        require_ok(api_.get_input_layout(compiled_, 0, i, &layouts[i]), "reading a shape");
      }
    } else {
      require_ok(api_.get_output_layouts(compiled_, 0, count, layouts.data(), false),
                 "reading shapes");
    }
    std::vector<TensorSlot> slots(count);
    for (std::size_t i = 0; i < count; ++i) {
      TensorSlot& slot = slots[i];
      LiteRtTensor tensor = nullptr;
      require_ok(get_tensor(graph, i, &tensor), "reading an input or output");
      require_ok(api_.get_ranked_tensor_type(tensor, &slot.type), "reading a tensor's type");
      slot.type.layout = layouts[i];
      slot.nbytes = bytes_of(slot.type);
      LiteRtRequirements needs = nullptr;
      require_ok(get_needs(compiled_, 0, i, &needs), "asking what buffers it needs");
      require_ok(api_.get_requirements_buffer_size(needs, &slot.capacity),
                 "asking for a buffer's size");
      slot.capacity = std::max(slot.capacity, slot.nbytes);
    }
    return slots;
  }

  // Hands the runtime our buffers and runs once: whatever that makes it pack belongs to the image.
  void start(const std::vector<TensorSlot>& inputs, const std::vector<TensorSlot>& outputs,
             std::byte* arena) {
    attach(inputs, arena, inputs_);
    attach(outputs, arena, outputs_);
    require_ok(run(), "running the model for the first time");
  }

  LiteRtStatus run() noexcept {
    return api_.run(compiled_, 0, inputs_.size(), inputs_.data(), outputs_.size(), outputs_.data());
  }

 private:
  void attach(const std::vector<TensorSlot>& slots, std::byte* arena,
              std::vector<LiteRtBuffer>& buffers) {
    buffers.reserve(slots.size());
    for (const TensorSlot& slot : slots) {
      LiteRtBuffer buffer = nullptr;
      require_ok(api_.create_buffer_from_host_memory(&slot.type, arena + slot.offset, slot.capacity,
                                                     nullptr, &buffer),
                 "wrapping a buffer");
      buffers.push_back(buffer);
    }
  }

  void compile(std::span<const std::byte> source, int num_threads) {
    const LiteRtEnvironment environment = litert_environment(api_);
    require_ok(api_.create_model_from_buffer(environment, source.data(), source.size(), &model_),
               "loading the model");
    require_ok(api_.create_options(&options_), "making options");
    require_ok(api_.set_options_hardware_accelerators(options_, kLiteRtCpu), "choosing the CPU");
    const std::string text = "num_threads = " + std::to_string(num_threads) +
                             "\nweight_cache_file_path = \"" + file_.path() + "\"\n";
    char* const payload = strdup(text.c_str());
    if (payload == nullptr) throw std::bad_alloc();
    LiteRtOpaqueOptions opaque = nullptr;
    if (const LiteRtStatus status =
            api_.create_opaque_options("xnnpack", payload, std::free, &opaque);
        status != 0) {
      std::free(payload);
      require_ok(status, "making CPU options");
    }
    if (const LiteRtStatus status = api_.add_opaque_options(options_, opaque); status != 0) {
      api_.destroy_opaque_options(opaque);
      require_ok(status, "adding CPU options");
    }
    require_ok(api_.create_compiled_model(environment, model_, options_, &compiled_),
               "compiling the model");
  }

  void release() noexcept {
    for (LiteRtBuffer buffer : inputs_) api_.destroy_buffer(buffer);
    for (LiteRtBuffer buffer : outputs_) api_.destroy_buffer(buffer);
    if (compiled_ != nullptr) api_.destroy_compiled_model(compiled_);
    if (options_ != nullptr) api_.destroy_options(options_);
    if (model_ != nullptr) api_.destroy_model(model_);
  }

  const LiteRtApi& api_;
  MemoryFile file_;
  LiteRtModel model_ = nullptr;
  LiteRtOptions options_ = nullptr;
  LiteRtCompiled compiled_ = nullptr;
  std::vector<LiteRtBuffer> inputs_;
  std::vector<LiteRtBuffer> outputs_;
};

CompiledModel::CompiledModel(const LiteRtApi& api, const std::string& source_path, int num_threads)
    : api_(api), source_(Mapping::of_path(source_path)) {
  if (num_threads < 1) throw Refusal("num_threads: expected at least 1");
  const QuietStderr quiet;
  auto first = std::make_unique<Build>(api_, source_->bytes(), num_threads);
  inputs_ = first->describe(true);
  outputs_ = first->describe(false);
  for (std::vector<TensorSlot>* slots : {&inputs_, &outputs_}) {
    for (TensorSlot& slot : *slots) {
      slot.offset = arena_bytes_;
      arena_bytes_ += rounded(slot.capacity + kSlack);
    }
  }
  arena_.reset(new (std::align_val_t(kLiteRtAlignment)) std::byte[arena_bytes_]());
  first->start(inputs_, outputs_, arena_.get());
  const std::shared_ptr<Mapping> witness = first->file().map();
  first.reset();
  build_ = std::make_unique<Build>(api_, source_->bytes(), num_threads);
  build_->start(inputs_, outputs_, arena_.get());
  build_->file().seal();
  packed_ = build_->file().map();
  const std::span<const std::byte> ours = packed_ ? packed_->bytes() : std::span<std::byte>();
  const std::span<const std::byte> theirs = witness ? witness->bytes() : std::span<std::byte>();
  if (!std::equal(ours.begin(), ours.end(), theirs.begin(), theirs.end())) {
    throw Refusal("LiteRT packed the same weights twice and differently");
  }
}

CompiledModel::~CompiledModel() {
  if (forked()) static_cast<void>(build_.release());
}

LiteRtStatus CompiledModel::run() noexcept { return build_->run(); }

std::size_t CompiledModel::memory_bytes() const noexcept {
  return arena_bytes_ + (packed_ ? packed_->bytes().size() : 0);
}

std::vector<std::byte> pack_weights(const LiteRtApi& api, std::span<const std::byte> source,
                                    int num_threads) {
  const QuietStderr quiet;
  CompiledModel::Build build(api, source, num_threads);
  const std::shared_ptr<Mapping> image = build.file().map();
  if (!image) return {};
  return {image->bytes().begin(), image->bytes().end()};
}

}  // namespace selfheal::runtime
