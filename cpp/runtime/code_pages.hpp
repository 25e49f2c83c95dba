#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "selfheal/base/keyed_hash.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/weight_image.hpp"

namespace selfheal::runtime {

/// The read-only pages of loaded libraries, code and constants, watched by keyed hash.
///
/// What is mapped when this is made is hashed, and in the first round compared with the libraries'
/// files, which are read around the page cache where the file system allows that. Pages that a
/// library relocates itself (DT_TEXTREL), and those of a file that was replaced since, cannot be
/// proven by it: they are watched as they were found. A library that is watched stays loaded. From
/// then on every round compares hashes, in rows of 64 KiB in a secret order. Nothing is put back:
/// what runs code cannot be exchanged under it, and a page of a file comes back with the process.
///
/// Segments that may be written, relocated constants (RELRO) among them, are not watched. Elsewhere
/// than on Linux there is nothing to watch. Bytes: 16 for each 4 KiB. Reading a page that was never
/// used brings it into memory, from where the kernel may drop it again. One object, one thread.
class CodePages {
 public:
  static constexpr std::size_t kPage = 4096;

  struct Damage {
    std::string path;        ///< of the library
    std::uint64_t offset;    ///< of the first wrong byte in its file; of the page if unknown
    std::uintptr_t address;  ///< the same, in memory
    std::string symbol;      ///< the nearest one before it that the library exports; may be empty
    std::uint32_t wrong_bytes;  ///< of the page; 0 if unknown
  };

  /// names: libraries with one of these in their path. key, seed: from the operating system.
  CodePages(const std::vector<std::string>& names, HashKey key, std::uint64_t seed);

  /// Whether this system can say what is mapped.
  static bool is_supported() noexcept;

  /// Goes on by whole rows worth `nbytes`, at least one; what is damaged is reported once.
  std::vector<Damage> step(std::size_t nbytes);

  /// Bytes watched.
  std::size_t nbytes() const noexcept { return nbytes_; }
  /// Bytes of these that no file proves.
  std::size_t unproven_bytes() const noexcept { return unproven_bytes_; }
  /// Bytes that were compared with a file, read around the page cache.
  std::size_t direct_bytes() const noexcept { return direct_bytes_; }
  /// Complete rounds, the first one among them.
  std::uint64_t sweeps() const noexcept { return sweeps_; }
  std::size_t memory_bytes() const noexcept;

 private:
  /// A read-only segment of a library.
  struct Segment {
    std::shared_ptr<void> library;  // keeps it loaded
    std::string path;
    std::uint64_t offset;  // in the file
    std::uint64_t inode;   // of the file that is mapped; 0 where no file proves the pages
    std::unique_ptr<WeightImage> image;
    std::unique_ptr<ImageGuard> guard;
    std::vector<bool> is_reported;  // pages
  };

  void compare(Segment& segment, std::size_t first, std::size_t count, std::vector<Damage>& found);
  void report(Segment& segment, std::size_t page, std::vector<Damage>& found);

  std::vector<Segment> segments_;
  std::vector<Finding> found_;
  std::size_t nbytes_ = 0;
  std::size_t unproven_bytes_ = 0;
  std::size_t direct_bytes_ = 0;
  std::size_t next_ = 0;    // segment
  std::size_t within_ = 0;  // pages of it that this round has looked at
  std::uint64_t sweeps_ = 0;
};

}  // namespace selfheal::runtime
