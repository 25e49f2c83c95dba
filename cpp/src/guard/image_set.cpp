#include "selfheal/guard/image_set.hpp"

#include <algorithm>
#include <string>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr int kTries = 3;
constexpr std::size_t kMostChanges = std::size_t{1} << 20;

bool hold_the_same(const SnapshotPool& a, const SnapshotPool& b) {
  std::vector<Generation> first(a.generation_count());
  std::vector<Generation> second(b.generation_count());
  a.generations(first);
  b.generations(second);
  return first == second;
}

}  // namespace

ImageSet::ImageSet(std::span<ImageGuard* const> guards, std::uint64_t most_changes)
    : guards_(guards.begin(), guards.end()) {
  if (guards.empty() || guards.size() > kMaxImages) {
    refuse("guards", "1 to 8 guards of images", guards.size());
  }
  if (most_changes < 1 || most_changes > kMostChanges) {
    refuse("most_changes", "an integer from 1 to 1048576", most_changes);
  }
  std::size_t places = 1;
  for (std::size_t i = 0; i < guards.size(); ++i) {
    if (guards[i] == nullptr) refuse("guards", "guards of images", "none at " + std::to_string(i));
    for (std::size_t j = 0; j < i; ++j) {
      if (&guards[i]->image() == &guards[j]->image()) {
        refuse("guards", "guards of different images", "one image twice");
      }
    }
    const SnapshotPool* const pool = guards[i]->pool();
    const SnapshotPool* const first = guards.front()->pool();
    if ((pool == nullptr) != (first == nullptr)) {
      refuse("guards", "pools for all images or for none", "one without beside one with a pool");
    }
    if (pool == nullptr) continue;
    if (!hold_the_same(*pool, *first)) {
      refuse("guards", "pools that hold the same generations", "different ones");
    }
    places = std::max(places, pool->max_generations());
  }
  origins_.resize(places);
  if (has_snapshots()) {
    std::vector<Generation> held(guards.front()->pool()->generation_count());
    generations(held);
    for (const Generation generation : std::span(held).subspan(1)) {
      note_origin(generation, generation);
    }
    changes_.reserve(static_cast<std::size_t>(most_changes));
    ranges_.reserve(static_cast<std::size_t>(most_changes));
  }
}

Generation ImageSet::next_generation() const noexcept {
  Generation number = 1;
  if (!has_snapshots()) return number;
  // A pool that could store where another could not is ahead.
  for (const ImageGuard* guard : guards_)
    number = std::max(number, guard->pool()->next_generation());
  return number;
}

Generation ImageSet::origin(Generation generation) const noexcept {
  for (std::size_t i = 0; i < origin_count_; ++i) {
    if (origins_[i].generation == generation) return origins_[i].origin;
  }
  return 0;
}

void ImageSet::note_origin(Generation generation, Generation origin) noexcept {
  // Those that were dropped make room; there are never more than the pools hold.
  const auto end = std::remove_if(
      origins_.begin(), origins_.begin() + static_cast<std::ptrdiff_t>(origin_count_),
      [this](const Origin& entry) { return !contains(entry.generation); });
  origin_count_ = static_cast<std::size_t>(end - origins_.begin());
  if (origin_count_ < origins_.size()) origins_[origin_count_++] = {generation, origin};
}

bool ImageSet::contains(Generation generation) const noexcept {
  return has_snapshots() && pool(0).contains(generation);
}

std::size_t ImageSet::generations(std::span<Generation> found) const noexcept {
  return has_snapshots() ? pool(0).generations(found) : 0;
}

TakeResult ImageSet::take(bool is_changed, Generation at_least) noexcept {
  const TakeResult result = store({}, at_least);
  if (result.status == SnapshotStatus::kOk) {
    note_origin(result.generation, is_changed ? result.generation : origin(active_));
  }
  return result;
}

// A generation of the live bytes and the changes in every pool, or in none.
TakeResult ImageSet::store(std::span<const ImageChange> changes, Generation at_least) noexcept {
  if (!has_snapshots()) return {SnapshotStatus::kNoSnapshots, 0};
  const Generation number = std::max(at_least, next_generation());  // one for all
  for (std::size_t i = 0; i < guards_.size(); ++i) {
    changes_.clear();
    for (const ImageChange& change : changes) {
      if (change.image == i) changes_.push_back({change.offset, change.bytes});
    }
    const TakeResult taken = pool(i).take(number, changes_);
    if (taken.status == SnapshotStatus::kOk) continue;
    for (std::size_t j = 0; j < i; ++j) pool(j).drop(number);
    return taken;
  }
  return {SnapshotStatus::kOk, number};
}

TakeResult ImageSet::patch(std::span<const ImageChange> changes, Generation at_least) noexcept {
  if (!has_snapshots()) return {SnapshotStatus::kNoSnapshots, 0};
  if (changes.size() > changes_.capacity()) return {SnapshotStatus::kBadRange, 0};
  ranges_.clear();
  for (const ImageChange& change : changes) {
    if (change.image >= guards_.size()) return {SnapshotStatus::kBadRange, 0};
    ranges_.push_back({change.image, change.offset, change.bytes.size()});
  }
  const TakeResult taken = store(changes, at_least);
  if (taken.status != SnapshotStatus::kOk) return taken;
  if (restore(taken.generation, ranges_).refused != 0) {
    for (std::size_t i = 0; i < guards_.size(); ++i) pool(i).drop(taken.generation);
    return {SnapshotStatus::kCorrupt, 0};
  }
  note_origin(taken.generation, taken.generation);
  active_ = taken.generation;
  return taken;
}

RestoreResult ImageSet::restore(Generation generation,
                                std::span<const ImageRange> ranges) noexcept {
  RestoreResult result;
  if (!contains(generation)) {
    result.status = SnapshotStatus::kUnknownGeneration;
    return result;
  }
  for (const ImageRange& range : ranges) {
    if (range.image < guards_.size()) continue;
    result.status = SnapshotStatus::kBadRange;
    return result;
  }
  for (int i = 0; i < kTries; ++i) {
    result.refused = 0;
    for (const auto& [image, offset, nbytes] : ranges) {
      result.refused += guards_[image]->examine(generation, offset, nbytes).refused;
    }
    if (result.refused != 0 && i == 0) return result;  // nothing has changed yet
    if (result.refused != 0) break;
    const RestoreResult part = put_back(generation, ranges);
    result.rewritten += part.rewritten;
    result.refused = part.refused;
    if (part.refused == 0) return result;
  }
  // Damaged between the looks and the writes, again and again: all images as they were meant to be.
  put_back(active_, ranges);
  return result;
}

RestoreResult ImageSet::put_back(Generation generation,
                                 std::span<const ImageRange> ranges) noexcept {
  RestoreResult result;
  for (const auto& [image, offset, nbytes] : ranges) {
    const RestoreResult part = guards_[image]->put_back(generation, offset, nbytes);
    result.rewritten += part.rewritten;
    // A list that was lost meanwhile refuses all of the range.
    result.refused += part.status == SnapshotStatus::kOk ? part.refused : 1;
  }
  return result;
}

SnapshotStatus ImageSet::activate(Generation generation) noexcept {
  if (generation != 0 && !contains(generation)) return SnapshotStatus::kUnknownGeneration;
  active_ = generation;
  return SnapshotStatus::kOk;
}

// The first image decides whether it can be done: what the pools hold is the same.
template <typename Action>
SnapshotStatus ImageSet::in_all(Action action) noexcept {
  if (!has_snapshots()) return SnapshotStatus::kNoSnapshots;
  const SnapshotStatus status = action(pool(0));
  if (status != SnapshotStatus::kOk) return status;
  for (std::size_t i = 1; i < guards_.size(); ++i) action(pool(i));
  return SnapshotStatus::kOk;
}

SnapshotStatus ImageSet::drop(Generation generation) noexcept {
  if (generation == active_ && generation != 0) return SnapshotStatus::kActive;
  return in_all([&](SnapshotPool& pool) noexcept { return pool.drop(generation); });
}

SnapshotStatus ImageSet::pin(Generation generation) noexcept {
  return in_all([&](SnapshotPool& pool) noexcept { return pool.pin(generation); });
}

SnapshotStatus ImageSet::unpin(Generation generation) noexcept {
  return in_all([&](SnapshotPool& pool) noexcept { return pool.unpin(generation); });
}

std::size_t ImageSet::memory_bytes() const noexcept {
  constexpr std::size_t kPointer = sizeof(void*);
  return sizeof *this + guards_.capacity() * kPointer + origins_.capacity() * sizeof(Origin) +
         changes_.capacity() * sizeof(ByteChange) + ranges_.capacity() * sizeof(ImageRange);
}

}  // namespace selfheal
