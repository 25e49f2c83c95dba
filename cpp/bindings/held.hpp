#pragma once

// The core's objects as Python holds them: with the buffer that they watch, and with each other.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "selfheal/base/keyed_hash.hpp"
#include "selfheal/guard/image_guard.hpp"
#include "selfheal/guard/parity.hpp"
#include "selfheal/guard/snapshot_pool.hpp"
#include "selfheal/guard/weight_image.hpp"

namespace selfheal::python {

using RegionTuple = std::tuple<std::string, std::string, std::int64_t, std::int64_t>;

/// 16 bytes, little-endian, as in the authors' reference code; None: all zero.
HashKey to_key(const std::optional<py::bytes>& key);

/// A WeightImage with the Python buffer that it watches, until release(). Its table outlives that,
/// because arrays may refer to it; so does the buffer, while a call reads it or a hot path sweeps
/// it.
class HeldImage {
 public:
  HeldImage(py::handle buffer, const std::vector<RegionTuple>& regions, std::int64_t block_bytes,
            const std::optional<py::bytes>& key);

  WeightImage& get() {
    if (is_released_) {
      throw std::invalid_argument("image: expected a live image, got a released one");
    }
    return *image_;
  }
  bool is_released() const { return is_released_; }
  void release();
  void rebind(py::handle buffer);
  std::size_t memory_bytes() const { return is_released_ ? 0 : image_->memory_bytes(); }
  /// The buffer, for a call that goes on without the GIL: another thread may release the image.
  std::shared_ptr<HeldBuffer> buffer() const { return buffer_; }

 private:
  friend class Watch;

  void let_go();

  std::shared_ptr<HeldBuffer> buffer_;
  std::optional<WeightImage> image_;
  bool is_released_ = false;
  std::vector<bool*> watches_;  // to be told of the release
};

/// What a hot path knows of the images that it sweeps: it keeps their buffers, and hears when one
/// of them was released.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { clear(); }

  void clear();
  void add(std::shared_ptr<HeldImage> image);
  /// Whether an image was released since it was added.
  bool is_cut() const noexcept { return is_cut_; }

 private:
  std::vector<std::shared_ptr<HeldImage>> images_;
  bool is_cut_ = false;
};

struct HeldPool {
  std::shared_ptr<HeldImage> image;
  SnapshotPool pool;
  std::vector<std::uint32_t> found;

  SnapshotPool& get() {
    image->get();
    return pool;
  }
};

struct HeldParity {
  std::shared_ptr<HeldImage> image;
  Parity parity;

  Parity& get() {
    image->get();
    return parity;
  }
};

struct HeldGuard {
  std::shared_ptr<HeldImage> image;
  std::shared_ptr<HeldPool> pool;
  std::shared_ptr<HeldParity> parity;
  ImageGuard guard;
  std::vector<Finding> found;

  ImageGuard& get() {
    image->get();
    return guard;
  }
};

/// Python's RestoreReport, a named tuple: an object of pybind11's takes longer to make than a small
/// restore.
void bind_restore_report(py::module_& m);
py::object restore_report(const RestoreResult& result,
                          std::span<const std::uint32_t> refused_blocks);

/// first .. first + count, checked against the image; None: to its end.
BlockRange block_range(const WeightImage& image, std::int64_t first,
                       std::optional<std::int64_t> count);
/// offset .. offset + nbytes, likewise.
void check_byte_range(const WeightImage& image, std::size_t offset, std::size_t nbytes);
/// What the core says in a status, Python raises.
void require_ok(SnapshotStatus status, Generation generation);

inline std::size_t found_bytes(const std::vector<std::uint32_t>& found) {
  return found.capacity() * sizeof(std::uint32_t);
}

/// A writable array of memory that `owner` keeps, for tests that damage it.
inline py::array_t<std::uint8_t> writable(std::span<std::byte> bytes, py::handle owner) {
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(bytes.size()),
                                   reinterpret_cast<std::uint8_t*>(bytes.data()), owner);
}

}  // namespace selfheal::python
