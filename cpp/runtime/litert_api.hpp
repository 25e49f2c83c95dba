#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// LiteRT's C API as far as this library uses it, bound when it is first needed.
///
/// The ABI has no promise: argument lists moved between releases (until 2.1 the creation of a model
/// took no environment), and a wrong one crashes. So this file is the only one that knows it, it
/// was compared with the releases in kTestedVersions, and any other version is refused.
namespace selfheal::runtime {

struct LiteRtObject;
using LiteRtEnvironment = LiteRtObject*;
using LiteRtModel = LiteRtObject*;
using LiteRtSubgraph = LiteRtObject*;
using LiteRtTensor = LiteRtObject*;
using LiteRtOptions = LiteRtObject*;
using LiteRtOpaqueOptions = LiteRtObject*;
using LiteRtCompiled = LiteRtObject*;
using LiteRtRequirements = LiteRtObject*;
using LiteRtBuffer = LiteRtObject*;

/// 0 is success.
using LiteRtStatus = int;

/// Shape of a tensor, laid out as the library has it.
struct LiteRtLayout {
  static constexpr std::size_t kMaxRank = 8;
  static constexpr std::uint32_t kRankMask = 0x7f;

  std::uint32_t rank_and_flags = 0;  // rank in the low 7 bits, then "has strides"
  std::int32_t dimensions[kMaxRank] = {};
  std::uint32_t strides[kMaxRank] = {};

  std::size_t rank() const noexcept { return rank_and_flags & kRankMask; }
};

/// Type and shape.
struct LiteRtTensorType {
  std::int32_t element_type = 0;
  LiteRtLayout layout;
};
static_assert(sizeof(LiteRtTensorType) == 72);

inline constexpr int kLiteRtCpu = 1;

/// A setting of an environment, laid out as the library has it; our settings are integers.
struct LiteRtEnvironmentOption {
  static constexpr std::int32_t kInteger = 2;

  std::int32_t tag = 0;
  alignas(8) std::int32_t type = kInteger;
  alignas(8) std::int64_t value = 0;
};
static_assert(sizeof(LiteRtEnvironmentOption) == 24);

inline constexpr std::int32_t kLiteRtRegisteredAccelerators = 24;
inline constexpr std::int32_t kLiteRtMinimumSeverity = 25;
inline constexpr std::int64_t kLiteRtErrors = 3;
/// Alignment that the library asks of memory it is given for tensors, in bytes.
inline constexpr std::size_t kLiteRtAlignment = 64;

/// Functions of the installed library; names as there, without the prefix. Indices count from 0.
struct LiteRtApi {
  LiteRtStatus (*create_environment)(int, const LiteRtEnvironmentOption*, LiteRtEnvironment*);
  LiteRtStatus (*create_model_from_buffer)(LiteRtEnvironment, const void*, std::size_t,
                                           LiteRtModel*);
  void (*destroy_model)(LiteRtModel);
  LiteRtStatus (*get_model_subgraph)(LiteRtModel, std::size_t, LiteRtSubgraph*);
  LiteRtStatus (*get_num_subgraph_inputs)(LiteRtSubgraph, std::size_t*);
  LiteRtStatus (*get_num_subgraph_outputs)(LiteRtSubgraph, std::size_t*);
  LiteRtStatus (*get_subgraph_input)(LiteRtSubgraph, std::size_t, LiteRtTensor*);
  LiteRtStatus (*get_subgraph_output)(LiteRtSubgraph, std::size_t, LiteRtTensor*);
  LiteRtStatus (*get_ranked_tensor_type)(LiteRtTensor, LiteRtTensorType*);
  LiteRtStatus (*create_options)(LiteRtOptions*);
  void (*destroy_options)(LiteRtOptions);
  LiteRtStatus (*set_options_hardware_accelerators)(LiteRtOptions, int);
  LiteRtStatus (*create_opaque_options)(const char*, void*, void (*)(void*), LiteRtOpaqueOptions*);
  void (*destroy_opaque_options)(LiteRtOpaqueOptions);
  /// Takes ownership when it succeeds.
  LiteRtStatus (*add_opaque_options)(LiteRtOptions, LiteRtOpaqueOptions);
  LiteRtStatus (*create_compiled_model)(LiteRtEnvironment, LiteRtModel, LiteRtOptions,
                                        LiteRtCompiled*);
  void (*destroy_compiled_model)(LiteRtCompiled);
  LiteRtStatus (*get_input_layout)(LiteRtCompiled, std::size_t, std::size_t, LiteRtLayout*);
  LiteRtStatus (*get_output_layouts)(LiteRtCompiled, std::size_t, std::size_t, LiteRtLayout*, bool);
  LiteRtStatus (*get_input_requirements)(LiteRtCompiled, std::size_t, std::size_t,
                                         LiteRtRequirements*);
  LiteRtStatus (*get_output_requirements)(LiteRtCompiled, std::size_t, std::size_t,
                                          LiteRtRequirements*);
  LiteRtStatus (*get_requirements_buffer_size)(LiteRtRequirements, std::size_t*);
  LiteRtStatus (*create_buffer_from_host_memory)(const LiteRtTensorType*, void*, std::size_t,
                                                 void (*)(void*), LiteRtBuffer*);
  void (*destroy_buffer)(LiteRtBuffer);
  LiteRtStatus (*run)(LiteRtCompiled, std::size_t, std::size_t, LiteRtBuffer*, std::size_t,
                      LiteRtBuffer*);
};

/// Loads `library` (a path to libLiteRt.so) of release `version` and returns its functions; they
/// stay loaded until the process ends. Calling it again with the same path is cheap.
///
/// Throws Refusal for a version that was not tested, a library that cannot be loaded, and a symbol
/// that is not there.
const LiteRtApi& litert_api(const std::string& library, const std::string& version);

/// The environment that all models of this process share, made at the first call and never
/// destroyed; a child made by fork gets one of its own. Throws Refusal.
LiteRtEnvironment litert_environment(const LiteRtApi& api);

/// Throws Refusal that names `step`, unless `status` is success.
void require_ok(LiteRtStatus status, const char* step);

}  // namespace selfheal::runtime
