#include "memory_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "refusal.hpp"

namespace selfheal::runtime {

namespace {

Refusal system_refusal(const std::string& step) {
  Refusal refusal(step + " failed: " + std::strerror(errno));
  return refusal;
}

std::size_t size_of(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) throw system_refusal("asking for a file's size");
  if (std::cmp_greater(status.st_size, std::numeric_limits<std::size_t>::max() / 2)) {
    throw Refusal("a file of " + std::to_string(status.st_size) +
                  " bytes does not fit into the addresses of this machine");
  }
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

std::shared_ptr<Mapping> Mapping::of_path(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw system_refusal("opening the model's bytes");
  try {
    const std::size_t nbytes = size_of(fd);
    if (nbytes == 0) throw Refusal("the model's bytes are empty");
    auto mapping = of_descriptor(fd, nbytes, false);
    close(fd);
    return mapping;
  } catch (...) {
    close(fd);
    throw;
  }
}

std::shared_ptr<Mapping> Mapping::of_descriptor(int fd, std::size_t nbytes, bool is_writable) {
  const int protection = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const address = mmap(nullptr, nbytes, protection, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) throw system_refusal("mapping a file");
  return std::shared_ptr<Mapping>(new Mapping({static_cast<std::byte*>(address), nbytes}));
}

Mapping::~Mapping() { munmap(bytes_.data(), bytes_.size()); }

#ifdef __linux__

MemoryFile::MemoryFile(const char* name)
    : fd_(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  if (fd_ < 0) throw system_refusal("making a file in memory");
  if (access(path().c_str(), R_OK | W_OK) != 0) {
    const Refusal refusal = system_refusal("opening a file in memory by its path in /proc");
    close(fd_);
    throw refusal;
  }
}

std::string MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(fd_); }

void MemoryFile::seal() {
  if (fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    throw system_refusal("sealing a file in memory");
  }
}

#else

MemoryFile::MemoryFile(const char*) : fd_(-1) {
  throw Refusal("this system has no anonymous memory files");
}

std::string MemoryFile::path() const { return {}; }

void MemoryFile::seal() {}

#endif

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

std::size_t MemoryFile::nbytes() const { return size_of(fd_); }

void MemoryFile::require_room(std::size_t nbytes) {
  struct rlimit limit {};
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0) throw system_refusal("asking how large a file may be");
  if (limit.rlim_cur == RLIM_INFINITY || std::cmp_greater_equal(limit.rlim_cur, nbytes)) return;
  throw Refusal("this process may write files of " + std::to_string(limit.rlim_cur) +
                " bytes (RLIMIT_FSIZE), and packed weights may take " + std::to_string(nbytes));
}

std::shared_ptr<Mapping> MemoryFile::map() const {
  const std::size_t size = nbytes();
  return size == 0 ? nullptr : Mapping::of_descriptor(fd_, size, true);
}

}  // namespace selfheal::runtime
