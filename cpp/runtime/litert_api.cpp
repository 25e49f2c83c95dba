#include "litert_api.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "fork_guard.hpp"
#include "refusal.hpp"

namespace selfheal::runtime {

namespace {

constexpr std::array<std::string_view, 2> kTestedVersions = {"2.2.0", "2.3.0"};

// Only errors are printed, and no library of an accelerator that we never use is looked for.
constexpr std::array<LiteRtEnvironmentOption, 2> kQuietCpu{{
    {.tag = kLiteRtMinimumSeverity, .value = kLiteRtErrors},
    {.tag = kLiteRtRegisteredAccelerators, .value = kLiteRtCpu},
}};

template <typename Function>
void bind(void* library, const char* name, Function*& function) {
  void* const symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw Refusal(std::string("LiteRT's library lacks the function ") + name);
  }
  function = reinterpret_cast<Function*>(symbol);
}

std::unique_ptr<LiteRtApi> bind_all(void* library) {
  auto api = std::make_unique<LiteRtApi>();
  bind(library, "LiteRtCreateEnvironment", api->create_environment);
  bind(library, "LiteRtCreateModelFromBuffer", api->create_model_from_buffer);
  bind(library, "LiteRtDestroyModel", api->destroy_model);
  bind(library, "LiteRtGetModelSubgraph", api->get_model_subgraph);
  bind(library, "LiteRtGetNumSubgraphInputs", api->get_num_subgraph_inputs);
  bind(library, "LiteRtGetNumSubgraphOutputs", api->get_num_subgraph_outputs);
  bind(library, "LiteRtGetSubgraphInput", api->get_subgraph_input);
  bind(library, "LiteRtGetSubgraphOutput", api->get_subgraph_output);
  bind(library, "LiteRtGetRankedTensorType", api->get_ranked_tensor_type);
  bind(library, "LiteRtCreateOptions", api->create_options);
  bind(library, "LiteRtDestroyOptions", api->destroy_options);
  bind(library, "LiteRtSetOptionsHardwareAccelerators", api->set_options_hardware_accelerators);
  bind(library, "LiteRtCreateOpaqueOptions", api->create_opaque_options);
  bind(library, "LiteRtDestroyOpaqueOptions", api->destroy_opaque_options);
  bind(library, "LiteRtAddOpaqueOptions", api->add_opaque_options);
  bind(library, "LiteRtCreateCompiledModel", api->create_compiled_model);
  bind(library, "LiteRtDestroyCompiledModel", api->destroy_compiled_model);
  bind(library, "LiteRtGetCompiledModelInputTensorLayout", api->get_input_layout);
  bind(library, "LiteRtGetCompiledModelOutputTensorLayouts", api->get_output_layouts);
  bind(library, "LiteRtGetCompiledModelInputBufferRequirements", api->get_input_requirements);
  bind(library, "LiteRtGetCompiledModelOutputBufferRequirements", api->get_output_requirements);
  bind(library, "LiteRtGetTensorBufferRequirementsBufferSize", api->get_requirements_buffer_size);
  bind(library, "LiteRtCreateTensorBufferFromHostMemory", api->create_buffer_from_host_memory);
  bind(library, "LiteRtDestroyTensorBuffer", api->destroy_buffer);
  bind(library, "LiteRtRunCompiledModel", api->run);
  return api;
}

std::mutex& mutex() {
  static std::mutex instance;
  return instance;
}

}  // namespace

const LiteRtApi& litert_api(const std::string& library, const std::string& version) {
  if (std::find(kTestedVersions.begin(), kTestedVersions.end(), version) == kTestedVersions.end()) {
    std::string known;
    for (const std::string_view tested : kTestedVersions) {
      known += (known.empty() ? "" : ", ") + std::string(tested);
    }
    throw Refusal("LiteRT " + version + " was not tested with this release (tested: " + known +
                  ")");
  }
  const std::lock_guard lock(mutex());
  static std::map<std::string, std::unique_ptr<LiteRtApi>> loaded;
  auto& api = loaded[library];
  if (!api) {
    // Local: the runtime's Python modules carry a TFLite of their own with the same names.
    void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* const error = dlerror();
      throw Refusal("LiteRT's library cannot be loaded: " + std::string(error ? error : "unknown"));
    }
    api = bind_all(handle);
  }
  return *api;
}

LiteRtEnvironment litert_environment(const LiteRtApi& api) {
  const std::lock_guard lock(mutex());
  // Never destroyed, as what it points to.
  static auto& environments =
      *new std::map<const LiteRtApi*, std::pair<ForkGuard, LiteRtEnvironment>>();
  auto found = environments.find(&api);
  if (found == environments.end() || found->second.first.forked()) {
    LiteRtEnvironment environment = nullptr;
    const auto count = static_cast<int>(kQuietCpu.size());
    require_ok(api.create_environment(count, kQuietCpu.data(), &environment),
               "creating an environment");
    found = environments.insert_or_assign(&api, std::pair(ForkGuard(), environment)).first;
  }
  return found->second.second;
}

void require_ok(LiteRtStatus status, const char* step) {
  if (status == 0) return;
  const char* meaning = "";
  switch (status) {
    case 1:
      meaning = " (invalid argument)";
      break;
    case 2:
      meaning = " (out of memory)";
      break;
    case 3:
      meaning = " (runtime failure)";
      break;
    case 5:
      meaning = " (unsupported)";
      break;
    case 501:
      meaning = " (invalid flatbuffer)";
      break;
    case 504:
      meaning = " (compilation failed)";
      break;
    default:
      break;
  }
  throw Refusal("LiteRT failed when " + std::string(step) + ": status " + std::to_string(status) +
                meaning);
}

}  // namespace selfheal::runtime
