#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "counting_new.hpp"
#include "hot_path_model.hpp"

using namespace selfheal;
using selfheal::testing::GuardedAdder;

TEST_CASE("nothing allocates while inferences are served, whatever comes up") {
  constexpr std::size_t kCount = 4000;
  GuardedAdder model({600, 200, 1.0, 10.0}, 8);
  auto in = testing::random_bytes(kCount * GuardedAdder::kSize, 3);
  std::fill_n(in.begin() + 800, 400, std::byte{5});
  std::vector<std::byte> out(in.size());
  std::size_t damages = 0, alarms = 0;
  model.path.due_number = 100;
  testing::allocations = 0;
  testing::counts = true;
  model.feed(in, out);
  for (std::size_t n = 0; n < kCount;) {
    if (n % 500 == 1) model.live[n + GuardedAdder::kSize] ^= std::byte{1};
    const double now = 0.001 * static_cast<double>(n);
    const runtime::HotPath::Progress progress =
        model.serve(n, std::min(kCount, n + 1 + n % 20), now);
    n = progress.next;
    if ((progress.up & runtime::kDamage) != 0) damages += model.path.damage().size();
    if ((progress.up & runtime::kAlarm) != 0) ++alarms;
    if ((progress.up & runtime::kDue) != 0) {
      model.path.due_number = model.path.number() + 100;
      model.path.again(model.job, n - 1);
    }
  }
  testing::counts = false;
  CHECK(testing::allocations == 0);
  CHECK(damages > 0);
  CHECK(alarms > 0);
  CHECK(out == model.answers(in));
  CHECK(model.path.memory_bytes() > sizeof model.path);
}

TEST_CASE("memory_bytes is what was allocated") {
  GuardedAdder model;
  const std::vector<runtime::Outside> tensors(3, GuardedAdder::outside());
  const std::vector<ImageGuard*> guards(2, &model.guard);
  std::unique_ptr<runtime::HotPath> path;
  const std::size_t made = testing::bytes_held_by([&] {
    path = std::make_unique<runtime::HotPath>(model.signals, model.bank_monitor, tensors, tensors,
                                              runtime::HotPath::Pace{});
  });
  CHECK(path->memory_bytes() == made);
  const std::size_t more = testing::bytes_held_by([&] { path->guard(guards, nullptr); });
  CHECK(more > 0);
  CHECK(path->memory_bytes() == made + more);
}
