#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "fork_guard.hpp"

using selfheal::runtime::ForkGuard;

namespace {

// What `check` returns in a child of fork.
template <typename Check>
bool in_child(Check check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 42 : 1);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

}  // namespace

TEST_CASE("a child of fork is noticed, its parent is not taken for one") {
  const ForkGuard guard;
  CHECK_FALSE(guard.forked());
  CHECK(in_child([&] { return guard.forked(); }));
  CHECK_FALSE(guard.forked());
}

TEST_CASE("a guard made in the child belongs there, and not to a grandchild") {
  const ForkGuard outer;
  CHECK(in_child([&] {
    const ForkGuard inner;
    if (inner.forked() || !outer.forked()) return false;
    return in_child([&] { return inner.forked() && outer.forked(); });
  }));
}

TEST_CASE("other threads of the process are no children") {
  const ForkGuard guard;
  bool forked = true;
  std::thread([&] { forked = guard.forked(); }).join();
  CHECK_FALSE(forked);
}

TEST_CASE("guards of different ages agree") {
  const ForkGuard older;
  CHECK(in_child([&] { return older.forked(); }));
  const ForkGuard younger;
  CHECK_FALSE(older.forked());
  CHECK_FALSE(younger.forked());
  CHECK(in_child([&] { return older.forked() && younger.forked(); }));
}
