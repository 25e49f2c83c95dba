#include "selfheal/base/state_codec.hpp"

#include <array>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "selfheal/base/crc32c.hpp"

namespace selfheal {
namespace {

constexpr std::uint32_t kMagic = state_tag("SHST");
constexpr std::uint16_t kCodecVersion = 1;
constexpr std::size_t kLengthOffset = 12;
constexpr std::size_t kHeaderBytes = 20;
constexpr std::size_t kChecksumBytes = 4;

std::uint64_t load(std::span<const std::byte> bytes, std::size_t offset, std::size_t count) {
  std::uint64_t value = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&value, bytes.data() + offset, count);
  } else {
    for (std::size_t i = count; i-- > 0;) {
      value = (value << 8) | std::to_integer<std::uint64_t>(bytes[offset + i]);
    }
  }
  return value;
}

std::string letters(std::uint64_t tag) {
  std::string text;
  for (int i = 0; i < 4; ++i) {
    const auto letter = static_cast<unsigned char>(tag >> (8 * i));
    text.push_back(letter >= 0x20 && letter < 0x7f ? static_cast<char>(letter) : '?');
  }
  return text;
}

}  // namespace

StateWriter::StateWriter(StateTag tag, std::uint16_t version) {
  little_endian(kMagic, 4);
  little_endian(kCodecVersion, 2);
  little_endian(version, 2);
  little_endian(tag, 4);
  little_endian(0, 8);
}

void StateWriter::little_endian(std::uint64_t value, std::size_t bytes) {
  std::array<std::byte, 8> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(value >> (8 * i));
  bytes_.insert(bytes_.end(), all.begin(), all.begin() + bytes);
}

void StateWriter::part(std::span<const std::byte> state) {
  u64(state.size());
  bytes_.insert(bytes_.end(), state.begin(), state.end());
}

void StateWriter::u8(std::uint8_t value) { little_endian(value, 1); }
void StateWriter::u32(std::uint32_t value) { little_endian(value, 4); }
void StateWriter::u64(std::uint64_t value) { little_endian(value, 8); }

void StateWriter::f32(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  u32(bits);
}

void StateWriter::f64(double value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  u64(bits);
}

std::vector<std::byte> StateWriter::finish() && {
  const std::uint64_t length = bytes_.size() - kHeaderBytes;
  for (std::size_t i = 0; i < 8; ++i) {
    bytes_[kLengthOffset + i] = static_cast<std::byte>(length >> (8 * i));
  }
  u32(crc32c(bytes_));
  return std::move(bytes_);
}

StateReader::StateReader(std::span<const std::byte> blob, StateTag tag,
                         std::uint16_t newest_version, std::size_t most_bytes) {
  if (blob.size() < kHeaderBytes + kChecksumBytes) {
    throw StateTruncatedError("state: expected at least 24 bytes, got " +
                              std::to_string(blob.size()));
  }
  if (load(blob, 0, 4) != kMagic) {
    throw StateCorruptError("state: expected the magic SHST, got " + letters(load(blob, 0, 4)));
  }
  if (load(blob, 4, 2) != kCodecVersion) {
    throw StateVersionError("state: expected codec version 1, got " +
                            std::to_string(load(blob, 4, 2)));
  }
  const std::uint64_t length = load(blob, kLengthOffset, 8);
  const std::size_t held = blob.size() - kHeaderBytes - kChecksumBytes;
  if (length != held) {
    throw StateTruncatedError("state: expected a payload of " + std::to_string(length) +
                              " bytes, got " + std::to_string(held));
  }
  const std::size_t checked = kHeaderBytes + held;
  if (crc32c(blob.first(checked)) != load(blob, checked, kChecksumBytes)) {
    throw StateCorruptError("state: the checksum does not match");
  }
  if (load(blob, 8, 4) != tag) {
    throw StateTypeError("state: expected type " + letters(tag) + ", got " +
                         letters(load(blob, 8, 4)));
  }
  version_ = static_cast<std::uint16_t>(load(blob, 6, 2));
  if (version_ < 1 || version_ > newest_version) {
    throw StateVersionError("state: expected version 1 to " + std::to_string(newest_version) +
                            " of type " + letters(tag) + ", got " + std::to_string(version_));
  }
  payload_ = blob.subspan(kHeaderBytes, held);
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  const std::size_t own = held < kMost / 4 ? 4 * held : kMost;
  claimable_ = most_bytes < kMost - own ? most_bytes + own : kMost;
}

std::uint64_t StateReader::little_endian(std::size_t bytes) {
  require(payload_.size() >= bytes, "a payload that ends too early");
  const std::uint64_t value = load(payload_, 0, bytes);
  payload_ = payload_.subspan(bytes);
  return value;
}

std::uint8_t StateReader::u8() { return static_cast<std::uint8_t>(little_endian(1)); }
std::uint32_t StateReader::u32() { return static_cast<std::uint32_t>(little_endian(4)); }
std::uint64_t StateReader::u64() { return little_endian(8); }

float StateReader::f32() {
  const std::uint32_t bits = u32();
  float value = 0.0F;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

double StateReader::f64() {
  const std::uint64_t bits = u64();
  double value = 0.0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::span<const std::byte> StateReader::part() {
  const std::uint64_t size = u64();
  require(size <= payload_.size(), "a part longer than the whole");
  const std::span<const std::byte> state = payload_.first(static_cast<std::size_t>(size));
  payload_ = payload_.subspan(state.size());
  return state;
}

void StateReader::require(bool fact, const char* what) {
  if (!fact) throw StateCorruptError(std::string("state: impossible content: ") + what);
}

std::size_t StateReader::claim(std::uint64_t count, std::size_t item_bytes) {
  if (count > claimable_ / item_bytes) {
    throw StateTooLargeError("state: expected an object of at most " + std::to_string(claimable_) +
                             " bytes, got one of " + std::to_string(count) + " times " +
                             std::to_string(item_bytes) + "; from_state takes another limit");
  }
  const auto fits = static_cast<std::size_t>(count);
  claimable_ -= fits * item_bytes;
  return fits;
}

void StateReader::require_exactly(std::uint64_t count, std::size_t item_bytes) const {
  require(payload_.size() % item_bytes == 0 && payload_.size() / item_bytes == count,
          "a payload of the wrong length");
}

void StateReader::finish() const { require(payload_.empty(), "bytes left over"); }

}  // namespace selfheal
