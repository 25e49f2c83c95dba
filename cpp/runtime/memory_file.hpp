#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace selfheal::runtime {

/// Pages of a file, shared with every other mapping of it; unmapped on destruction.
class Mapping {
 public:
  /// Maps all of the file at `path`. Throws Refusal when it cannot be opened or is empty.
  static std::shared_ptr<Mapping> of_path(const std::string& path);
  /// Maps the first `nbytes` > 0 bytes of `fd`, which may be closed afterwards.
  static std::shared_ptr<Mapping> of_descriptor(int fd, std::size_t nbytes, bool is_writable);

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;
};

/// An anonymous file in memory that no other user can open, closed on destruction.
class MemoryFile {
 public:
  /// Throws Refusal where the system has none, refuses it, or has no path to it.
  explicit MemoryFile(const char* name);
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();

  /// A path under which code in this process can open it.
  std::string path() const;
  std::size_t nbytes() const;
  /// Throws Refusal where this process may not write `nbytes` into a file (RLIMIT_FSIZE).
  static void require_room(std::size_t nbytes);
  /// Fixes its size, for every process, so that no mapping of it can fault. Throws Refusal.
  void seal();
  /// Its bytes, writable; null when it is empty.
  std::shared_ptr<Mapping> map() const;

 private:
  int fd_;
};

}  // namespace selfheal::runtime
