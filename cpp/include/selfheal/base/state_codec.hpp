#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <vector>

/// State blobs: how every stateful class survives a reboot, and travels between x86 and ARM.
///
/// Layout, all little-endian, no padding:
///
///     offset  bytes  field
///          0      4  magic "SHST"
///          4      2  codec version (1)
///          6      2  version of the type's payload
///          8      4  type tag, four ASCII letters
///         12      8  payload length n
///         20      n  payload
///     20 + n      4  CRC-32C of all bytes before
///
/// Floats are stored as their IEEE 754 bits, so a restored object continues bit for bit. The CRC
/// finds damage, not forgery: authenticity is the store's business. Writing and reading allocate;
/// neither happens in the loop.
///
/// A few bytes may name a capacity of gigabytes, so that a reader bounds what an object may cost:
/// `kStateBytes` and four times its state, unless from_state() was given another bound.
namespace selfheal {

/// Whether a state has the latest samples in it, and what follows from them alone: most of what
/// changes from one minute to the next.
enum class History : bool { kKept, kLeftOut };

/// A blob was refused. The subclass says why; the message says it in words.
class StateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// Shorter (or longer) than it says it is.
class StateTruncatedError : public StateError {
 public:
  using StateError::StateError;
};
/// Not a state blob, wrong checksum, or values that no object can have.
class StateCorruptError : public StateError {
 public:
  using StateError::StateError;
};
/// A state of another class.
class StateTypeError : public StateError {
 public:
  using StateError::StateError;
};
/// Whole and of this class, but the object would take more memory than the reader allows.
class StateTooLargeError : public StateError {
 public:
  using StateError::StateError;
};
/// Written by a newer version of this library.
class StateVersionError : public StateError {
 public:
  using StateError::StateError;
};

using StateTag = std::uint32_t;

/// Memory that a restored object may take beside what its state accounts for.
inline constexpr std::size_t kStateBytes = std::size_t{16} << 20;

/// Tag of four letters, e.g. state_tag("CUSM").
constexpr StateTag state_tag(const char (&letters)[5]) noexcept {
  StateTag tag = 0;
  for (int i = 3; i >= 0; --i) tag = (tag << 8) | static_cast<unsigned char>(letters[i]);
  return tag;
}

class StateWriter {
 public:
  StateWriter(StateTag tag, std::uint16_t version);

  void u8(std::uint8_t value);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  void f32(float value);
  void f64(double value);
  void number(float value) { f32(value); }
  void number(double value) { f64(value); }
  /// The state of a part: its size, then its bytes.
  void part(std::span<const std::byte> state);

  /// Appends length and checksum and gives the blob away.
  std::vector<std::byte> finish() &&;

 private:
  void little_endian(std::uint64_t value, std::size_t bytes);

  std::vector<std::byte> bytes_;
};

/// Checks the envelope in its constructor, then hands out fields in the order they were written.
/// Borrows the blob.
class StateReader {
 public:
  /// Throws a StateError unless `blob` is whole, undamaged, of type `tag` and of a payload version
  /// from 1 to `newest_version`.
  StateReader(std::span<const std::byte> blob, StateTag tag, std::uint16_t newest_version,
              std::size_t most_bytes = kStateBytes);

  std::uint16_t version() const noexcept { return version_; }
  std::size_t remaining() const noexcept { return payload_.size(); }

  std::uint8_t u8();
  std::uint32_t u32();
  std::uint64_t u64();
  float f32();
  double f64();
  void number(float& value) { value = f32(); }
  void number(double& value) { value = f64(); }
  /// The state of a part, in the blob that this borrows.
  std::span<const std::byte> part();

  /// The count, if that many items fit in what the object may still take; else StateTooLargeError.
  std::size_t claim(std::uint64_t count, std::size_t item_bytes);
  /// Throws StateCorruptError if `fact` is false: a value that no object can have.
  static void require(bool fact, const char* what);
  /// Throws unless the payload holds exactly `count` more items of `item_bytes` (overflow-safe).
  void require_exactly(std::uint64_t count, std::size_t item_bytes) const;
  /// Throws unless everything was read.
  void finish() const;

 private:
  std::uint64_t little_endian(std::size_t bytes);

  std::span<const std::byte> payload_;
  std::size_t claimable_ = 0;  // bytes
  std::uint16_t version_ = 0;
};

}  // namespace selfheal
