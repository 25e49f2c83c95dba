#include "selfheal/guard/generation_lists.hpp"

#include <algorithm>

#include "guard/sizes.hpp"

namespace selfheal {
namespace {

// One for every generation and chunk: the factor is odd, so that no bit of the number is lost. It
// spreads them far from the tweaks of blocks and parity, which count from 0.
std::uint64_t tweak(Generation generation, std::size_t chunk) noexcept {
  return (generation * 0x9E3779B97F4A7C15U) ^ chunk;
}

bool admits(const std::array<std::uint64_t, 2>& hashes, std::uint64_t hash) noexcept {
  return hashes[0] == hash || hashes[1] == hash;
}

}  // namespace

GenerationLists::GenerationLists(std::size_t blocks, std::size_t places)
    : blocks_(blocks),
      entries_(places - 1),
      lists_(detail::product("max_generations", 2 * places - 2,
                             detail::product("buffer", blocks, sizeof(std::uint32_t))) /
                 sizeof(std::uint32_t),
             kGolden),
      hashes_((places - 1) * chunks()) {}

std::span<std::uint32_t> GenerationLists::copy(std::size_t place, std::size_t which) noexcept {
  return std::span(lists_).subspan((which * entries_.size() + place - 1) * blocks_, blocks_);
}

std::span<const std::uint32_t> GenerationLists::copy(std::size_t place,
                                                     std::size_t which) const noexcept {
  return std::span(lists_).subspan((which * entries_.size() + place - 1) * blocks_, blocks_);
}

std::span<const std::uint32_t> GenerationLists::chunk_of(std::size_t place, std::size_t which,
                                                         std::size_t chunk) const noexcept {
  const auto list = copy(place, which);
  const std::size_t begin = chunk * kChunk;
  return list.subspan(begin, std::min(kChunk, list.size() - begin));
}

std::size_t GenerationLists::find(Generation generation) const noexcept {
  if (generation == 0) return 0;
  for (std::size_t place = 1; place < count_; ++place) {
    const auto& number = entries_[place - 1].number;
    if (number[0] == generation || number[1] == generation) return place;
  }
  return count_;
}

bool GenerationLists::is_pinned(std::size_t place) const noexcept {
  if (place == 0) return true;
  const auto& pinned = entries_[place - 1].is_pinned;
  return pinned[0] != 0 || pinned[1] != 0;
}

void GenerationLists::append(Generation generation, const KeptKey& key) noexcept {
  const std::size_t place = count_;
  const HashSchedule schedule = key.fresh();
  entries_[place - 1] = {{generation, generation}, {0, 0}};
  const auto list = copy(place, 0);
  std::copy(list.begin(), list.end(), copy(place, 1).begin());
  for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
    const auto bytes = std::as_bytes(chunk_of(place, 0, chunk));
    hashes(place, chunk).fill(keyed_hash(schedule, tweak(generation, chunk), bytes));
  }
  ++count_;
}

bool GenerationLists::set(std::size_t place, std::size_t block, std::uint32_t slot,
                          const KeptKey& key) noexcept {
  const std::size_t chunk = block / kChunk;
  bool is_changed = false;
  // Damage around the entry must not get a hash of its own.
  if (!mend(place, chunk, key, &is_changed)) return false;
  for (const std::size_t which : {0U, 1U}) copy(place, which)[block] = slot;
  const auto bytes = std::as_bytes(chunk_of(place, 0, chunk));
  hashes(place, chunk).fill(keyed_hash(key.fresh(), tweak(at(place), chunk), bytes));
  return true;
}

void GenerationLists::remove(std::size_t place) noexcept {
  for (std::size_t next = place + 1; next < count_; ++next) {
    entries_[next - 2] = entries_[next - 1];
    for (const std::size_t which : {0U, 1U}) {
      const auto from = copy(next, which);
      std::copy(from.begin(), from.end(), copy(next - 1, which).begin());
    }
    for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
      hashes(next - 1, chunk) = hashes(next, chunk);
    }
  }
  --count_;
}

bool GenerationLists::is_sound(std::size_t place, std::size_t block,
                               const KeptKey& key) const noexcept {
  if (place == 0) return true;
  const std::size_t chunk = block / kChunk;
  const auto fits = [&](std::uint64_t hash) { return admits(hashes(place, chunk), hash); };
  const std::uint64_t name = tweak(entries_[place - 1].number[0], chunk);
  return fits(key.hash(name, std::as_bytes(chunk_of(place, 0, chunk)), fits));
}

bool GenerationLists::is_plain(std::size_t place, std::size_t chunk,
                               const KeptKey& key) const noexcept {
  const Entry& entry = entries_[place - 1];
  const auto first = chunk_of(place, 0, chunk);
  const auto second = chunk_of(place, 1, chunk);
  return entry.number[0] == entry.number[1] && entry.is_pinned[0] == entry.is_pinned[1] &&
         hashes(place, chunk)[0] == hashes(place, chunk)[1] &&
         std::equal(first.begin(), first.end(), second.begin()) &&
         is_sound(place, chunk * kChunk, key);
}

bool GenerationLists::mend(std::size_t place, std::size_t chunk, const KeptKey& key,
                           bool* changed) noexcept {
  *changed = false;
  if (place == 0 || place >= count_ || is_plain(place, chunk, key)) return true;
  *changed = true;
  Entry& entry = entries_[place - 1];
  entry.is_pinned.fill(is_pinned(place) ? 1 : 0);
  Hashes& kept = hashes(place, chunk);
  const auto fits = [&](std::uint64_t hash) { return admits(kept, hash); };
  for (const Generation number : entry.number) {
    for (const std::size_t which : {0U, 1U}) {
      const auto genuine = chunk_of(place, which, chunk);
      const std::uint64_t hash = key.hash(tweak(number, chunk), std::as_bytes(genuine), fits);
      if (!fits(hash)) continue;
      const auto other = copy(place, 1 - which).subspan(chunk * kChunk, genuine.size());
      std::copy(genuine.begin(), genuine.end(), other.begin());
      kept.fill(hash);
      entry.number.fill(number);
      return true;
    }
  }
  return false;
}

bool GenerationLists::mend(std::size_t place, const KeptKey& key) noexcept {
  bool is_whole = true;
  bool ignored = false;
  for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
    is_whole = mend(place, chunk, key, &ignored) && is_whole;
  }
  return is_whole;
}

std::size_t GenerationLists::memory_bytes() const noexcept {
  return sizeof *this + entries_.capacity() * sizeof(Entry) +
         lists_.capacity() * sizeof(std::uint32_t) + hashes_.capacity() * sizeof(Hashes);
}

}  // namespace selfheal
