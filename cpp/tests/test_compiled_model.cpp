#define DOCTEST_CONFIG_IMPLEMENT
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compiled_model.hpp"
#include "refusal.hpp"

using namespace selfheal::runtime;

namespace {

// The installed library's functions, set before the tests run.
const LiteRtApi* real = nullptr;

// Open descriptors of packed images in this process: ours, and what the runtime keeps of its own.
std::vector<std::string> packed_files() {
  std::vector<std::string> found;
  DIR* const folder = opendir("/proc/self/fd");
  REQUIRE(folder != nullptr);
  while (const dirent* entry = readdir(folder)) {
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    std::array<char, 256> target{};
    const ssize_t size = readlink(path.c_str(), target.data(), target.size());
    const std::string_view name(target.data(),
                                static_cast<std::size_t>(std::max(size, ssize_t{0})));
    if (name.find("selfheal-packed") != std::string_view::npos) found.push_back(path);
  }
  closedir(folder);
  return found;
}

// Calls `act` with a descriptor of the one packed image that is open, writable.
template <typename Act>
void with_packed_file(Act act) {
  const std::vector<std::string> files = packed_files();
  REQUIRE_FALSE(files.empty());
  const int fd = open(files.front().c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  act(fd);
  close(fd);
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Refusal& reason) {
    return reason.what();
  }
  return {};
}

// Inputs that differ from seed to seed; the outputs that follow.
std::vector<std::byte> answer(CompiledModel& model, unsigned seed) {
  for (const TensorSlot& slot : model.inputs()) {
    for (std::size_t i = 0; i < slot.nbytes; ++i) {
      seed = seed * 1664525 + 1013904223;
      model.data(slot)[i] = std::byte(seed >> 24);
    }
  }
  REQUIRE(model.run() == 0);
  std::vector<std::byte> values;
  for (const TensorSlot& slot : model.outputs()) {
    values.insert(values.end(), model.data(slot), model.data(slot) + slot.nbytes);
  }
  return values;
}

std::vector<std::byte> answers(CompiledModel& model) {
  std::vector<std::byte> all;
  for (unsigned seed = 0; seed < 16; ++seed) {
    const std::vector<std::byte> one = answer(model, seed);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

// The real functions, counting what is made and not destroyed yet.
LiteRtApi counting;
long alive = 0;

template <auto kMake, auto kDestroy, typename Object, typename... Arguments>
void count(LiteRtStatus (*LiteRtApi::*)(Arguments...), void (*LiteRtApi::*)(Object)) {
  counting.*kMake = [](Arguments... arguments) -> LiteRtStatus {
    const LiteRtStatus status = (real->*kMake)(arguments...);
    alive += status == 0;
    return status;
  };
  counting.*kDestroy = [](Object object) {
    --alive;
    (real->*kDestroy)(object);
  };
}

template <auto kMake, auto kDestroy>
void count() {
  count<kMake, kDestroy>(kMake, kDestroy);
}

// A table in which something goes wrong.
LiteRtApi table;
int calls_left = 0;

template <auto kMember, typename... Arguments>
void fail_later(LiteRtStatus (*LiteRtApi::*)(Arguments...)) {
  table.*kMember = [](Arguments... arguments) -> LiteRtStatus {
    if (calls_left-- == 0) return 3;
    return (counting.*kMember)(arguments...);
  };
}

// Makes a model with the n-th call of a function failing, for every n that occurs.
template <auto kMember>
void fail_each_call() {
  int calls = 0;
  for (; calls < 100; ++calls) {
    table = counting;
    calls_left = calls;
    fail_later<kMember>(kMember);
    const std::string reason = refusal([] { const CompiledModel model(table, SELFHEAL_MODEL, 1); });
    CHECK(alive == 0);
    CHECK(packed_files().empty());
    if (reason.empty()) break;  // fewer calls than that
    CHECK(reason.find("status 3 (runtime failure)") != std::string::npos);
  }
  CHECK(calls > 0);
  CHECK(calls < 100);
}

}  // namespace

TEST_CASE("what is packed is what runs, and comes back with its bytes") {
  CompiledModel model(*real, SELFHEAL_MODEL, 1);
  REQUIRE(model.packed() != nullptr);
  const std::span<std::byte> image = model.packed()->bytes();
  const std::vector<std::byte> golden = answers(model);
  CHECK(answers(model) == golden);
  std::byte* const damaged = image.data() + image.size() / 2;
  for (int i = 0; i < 256; ++i) damaged[i] ^= std::byte{0x55};
  CHECK(answers(model) != golden);
  for (int i = 0; i < 256; ++i) damaged[i] ^= std::byte{0x55};
  CHECK(answers(model) == golden);
  CHECK(model.memory_bytes() > image.size());
}

TEST_CASE("two models of the same bytes agree, whatever the number of threads") {
  CompiledModel first(*real, SELFHEAL_MODEL, 1);
  const std::vector<std::byte> golden = answers(first);
  for (const int threads : {1, 4}) {
    CompiledModel second(*real, SELFHEAL_MODEL, threads);
    CHECK(answers(second) == golden);
    const auto source = Mapping::of_path(SELFHEAL_MODEL);
    const std::vector<std::byte> packed = pack_weights(*real, source->bytes(), threads);
    CHECK(std::ranges::equal(packed, second.packed()->bytes()));
  }
}

TEST_CASE("the image is sealed: it can be written, and neither shrunk nor grown") {
  const CompiledModel model(*real, SELFHEAL_MODEL, 1);
  const auto nbytes = static_cast<off_t>(model.packed()->bytes().size());
  with_packed_file([&](int fd) {
    for (const off_t other : {off_t{0}, nbytes - 1, nbytes + 1}) {
      CHECK(ftruncate(fd, other) == -1);
      CHECK(errno == EPERM);
    }
    const auto value = std::byte{9};
    CHECK(pwrite(fd, &value, 1, nbytes / 2) == 1);
    CHECK(model.packed()->bytes()[static_cast<std::size_t>(nbytes / 2)] == value);
  });
}

TEST_CASE("the image outlives its model") {
  std::shared_ptr<Mapping> packed;
  {
    const CompiledModel model(*real, SELFHEAL_MODEL, 1);
    packed = model.packed();
  }
  CHECK(packed_files().empty());
  packed->bytes().front() = packed->bytes().back();
}

TEST_CASE("weights that are packed twice and differently are refused") {
  // The second time that the model has run, one packed byte is another.
  static int runs = 0;
  table = *real;
  table.run = [](LiteRtCompiled compiled, std::size_t signature, std::size_t num_inputs,
                 LiteRtBuffer* inputs, std::size_t num_outputs, LiteRtBuffer* outputs) {
    const LiteRtStatus status =
        real->run(compiled, signature, num_inputs, inputs, num_outputs, outputs);
    if (++runs == 2) {
      with_packed_file([](int fd) {
        std::byte value{};
        REQUIRE(pread(fd, &value, 1, 1000) == 1);
        value ^= std::byte{1};
        REQUIRE(pwrite(fd, &value, 1, 1000) == 1);
      });
    }
    return status;
  };
  CHECK(refusal([] { const CompiledModel model(table, SELFHEAL_MODEL, 1); }) ==
        "LiteRT packed the same weights twice and differently");
  CHECK(runs == 2);
  CHECK(packed_files().empty());
  CHECK_NOTHROW(CompiledModel(table, SELFHEAL_MODEL, 1));
}

TEST_CASE("whatever fails, at whichever call, is refused and leaves nothing behind") {
  counting = *real;
  count<&LiteRtApi::create_model_from_buffer, &LiteRtApi::destroy_model>();
  count<&LiteRtApi::create_options, &LiteRtApi::destroy_options>();
  count<&LiteRtApi::create_compiled_model, &LiteRtApi::destroy_compiled_model>();
  count<&LiteRtApi::create_buffer_from_host_memory, &LiteRtApi::destroy_buffer>();
  fail_each_call<&LiteRtApi::create_model_from_buffer>();
  fail_each_call<&LiteRtApi::get_model_subgraph>();
  fail_each_call<&LiteRtApi::get_num_subgraph_inputs>();
  fail_each_call<&LiteRtApi::get_num_subgraph_outputs>();
  fail_each_call<&LiteRtApi::get_subgraph_input>();
  fail_each_call<&LiteRtApi::get_subgraph_output>();
  fail_each_call<&LiteRtApi::get_ranked_tensor_type>();
  fail_each_call<&LiteRtApi::create_options>();
  fail_each_call<&LiteRtApi::set_options_hardware_accelerators>();
  fail_each_call<&LiteRtApi::create_opaque_options>();
  fail_each_call<&LiteRtApi::add_opaque_options>();
  fail_each_call<&LiteRtApi::create_compiled_model>();
  fail_each_call<&LiteRtApi::get_input_layout>();
  fail_each_call<&LiteRtApi::get_output_layouts>();
  fail_each_call<&LiteRtApi::get_input_requirements>();
  fail_each_call<&LiteRtApi::get_output_requirements>();
  fail_each_call<&LiteRtApi::get_requirements_buffer_size>();
  fail_each_call<&LiteRtApi::create_buffer_from_host_memory>();
  fail_each_call<&LiteRtApi::run>();
}

TEST_CASE("wrong arguments are refused") {
  CHECK(refusal([] { const CompiledModel model(*real, SELFHEAL_MODEL, 0); }) ==
        "num_threads: expected at least 1");
  CHECK(refusal([] {
          const CompiledModel model(*real, "/nowhere/model", 1);
        }).find("No such file") != std::string::npos);
  const std::vector<std::byte> zeros(64);
  CHECK(refusal([&] { pack_weights(*real, zeros, 1); }).find("loading the model") !=
        std::string::npos);
}

TEST_CASE("a child of fork is told from its parent, and destroys nothing it has not") {
  std::optional<CompiledModel> model(std::in_place, *real, SELFHEAL_MODEL, 4);
  const std::vector<std::byte> golden = answers(*model);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // joining threads that are not there would wait for ever
    const bool noticed = model->forked();
    model.reset();
    _exit(noticed ? 42 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
  CHECK_FALSE(model->forked());
  CHECK(answers(*model) == golden);
}

int main(int argc, char** argv) {
  const char* const library = std::getenv("SELFHEAL_LITERT_LIBRARY");
  const char* const version = std::getenv("SELFHEAL_LITERT_VERSION");
  if (library == nullptr || version == nullptr) {
    std::cout
        << "skipped: SELFHEAL_LITERT_LIBRARY and SELFHEAL_LITERT_VERSION do not name LiteRT's "
           "libLiteRt.so and its release\n";
    return 77;
  }
  real = &litert_api(library, version);
  return doctest::Context(argc, argv).run();
}
