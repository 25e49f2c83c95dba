#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>

#include "memory_file.hpp"
#include "refusal.hpp"

using namespace selfheal::runtime;

namespace {

constexpr std::size_t kSize = 10000;

// Another way to the same file, as a runtime that is given its path opens it.
class Opened {
 public:
  explicit Opened(const MemoryFile& file) : fd_(open(file.path().c_str(), O_RDWR | O_CLOEXEC)) {
    REQUIRE(fd_ >= 0);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { close(fd_); }

  int resize(std::size_t nbytes) const {
    return ftruncate(fd_, static_cast<off_t>(nbytes)) == 0 ? 0 : errno;
  }
  std::byte read(std::size_t at) const {
    std::byte value{};
    REQUIRE(pread(fd_, &value, 1, static_cast<off_t>(at)) == 1);
    return value;
  }
  ssize_t write(std::size_t at, std::byte value) const {
    return pwrite(fd_, &value, 1, static_cast<off_t>(at));
  }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("an empty file has no bytes to map") {
  const MemoryFile file("test");
  CHECK(file.nbytes() == 0);
  CHECK(file.map() == nullptr);
}

TEST_CASE("mappings, the file and what opens its path share the bytes") {
  const MemoryFile file("test");
  const Opened other(file);
  REQUIRE(other.resize(kSize) == 0);
  REQUIRE(file.nbytes() == kSize);
  const auto first = file.map();
  const auto second = file.map();
  REQUIRE(first->bytes().size() == kSize);
  CHECK(first->bytes().data() != second->bytes().data());
  first->bytes()[kSize - 1] = std::byte{7};
  CHECK(second->bytes()[kSize - 1] == std::byte{7});
  CHECK(other.read(kSize - 1) == std::byte{7});
  CHECK(other.write(0, std::byte{9}) == 1);
  CHECK(first->bytes()[0] == std::byte{9});
  const auto reading = Mapping::of_path(file.path());
  CHECK(std::ranges::equal(reading->bytes(), first->bytes()));
}

TEST_CASE("a sealed file can be written, and neither shrunk nor grown") {
  MemoryFile file("test");
  const Opened other(file);
  REQUIRE(other.resize(kSize) == 0);
  const auto mapping = file.map();
  file.seal();
  CHECK(other.resize(kSize - 1) == EPERM);
  CHECK(other.resize(0) == EPERM);
  CHECK(other.resize(kSize + 1) == EPERM);
  CHECK(other.write(kSize, std::byte{1}) < 1);
  CHECK(file.nbytes() == kSize);
  mapping->bytes()[5] = std::byte{5};
  CHECK(other.read(5) == std::byte{5});
  CHECK(other.write(6, std::byte{6}) == 1);
  CHECK(mapping->bytes()[6] == std::byte{6});
  CHECK_NOTHROW(file.seal());
}

TEST_CASE("no other user can open it") {
  const MemoryFile file("test");
  struct stat status {};
  REQUIRE(stat(file.path().c_str(), &status) == 0);
  CHECK(status.st_nlink == 0);
  CHECK(file.path().rfind("/proc/self/fd/", 0) == 0);
}

TEST_CASE("a mapping outlives its file, and the file's descriptor does not") {
  std::shared_ptr<Mapping> mapping;
  std::string path;
  {
    const MemoryFile file("test");
    REQUIRE(Opened(file).resize(kSize) == 0);
    mapping = file.map();
    path = file.path();
  }
  mapping->bytes()[kSize / 2] = std::byte{3};
  CHECK(mapping->bytes()[kSize / 2] == std::byte{3});
  CHECK(access(path.c_str(), F_OK) != 0);
}

TEST_CASE("what cannot be mapped is refused with the reason") {
  CHECK_THROWS_WITH_AS(Mapping::of_path("/nowhere/model"),
                       "opening the model's bytes failed: No such file or directory", Refusal);
  const MemoryFile empty("test");
  CHECK_THROWS_WITH_AS(Mapping::of_path(empty.path()), "the model's bytes are empty", Refusal);
  CHECK_THROWS_AS(Mapping::of_path("/"), Refusal);
  CHECK_THROWS_AS(Mapping::of_descriptor(-1, 16, true), Refusal);
  const int reading = open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(reading >= 0);
  CHECK_THROWS_AS(Mapping::of_descriptor(reading, 16, true), Refusal);
  close(reading);
}

TEST_CASE("a file beyond 32 bits is itself, or refused; never its first few bytes") {
  constexpr std::int64_t kSize = (std::int64_t{1} << 32) + 10;
  const MemoryFile file("test");
  const int fd = open(file.path().c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(ftruncate64(fd, kSize) == 0);  // no page of it is touched
  close(fd);
  if (sizeof(std::size_t) > 4) {
    CHECK(std::cmp_equal(file.nbytes(), kSize));
  } else {
    CHECK_THROWS_AS(static_cast<void>(file.nbytes()), Refusal);
    CHECK_THROWS_AS(Mapping::of_path(file.path()), Refusal);
  }
}

TEST_CASE("refusals leave no descriptor behind") {
  const auto next = [] {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
  };
  const MemoryFile empty("test");
  const int before = next();
  for (int i = 0; i < 10; ++i) {
    CHECK_THROWS_AS(Mapping::of_path(empty.path()), Refusal);
    CHECK_THROWS_AS(Mapping::of_path("/"), Refusal);
  }
  CHECK(next() == before);
}
