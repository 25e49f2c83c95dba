#include "code_pages.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#if defined(__linux__)
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#endif

namespace selfheal::runtime {
namespace {

constexpr std::size_t kRow = WeightImage::kRow;  // pages

#if defined(__linux__)

struct Found {
  std::string path;
  std::uint64_t offset;
  std::span<std::byte> bytes;
  bool has_text_relocations;
};

struct Search {
  const std::vector<std::string>* names;
  std::vector<Found> found;
};

bool relocates_text(const dl_phdr_info& info) noexcept {
  for (std::size_t i = 0; i < info.dlpi_phnum; ++i) {
    const auto& header = info.dlpi_phdr[i];
    if (header.p_type != PT_DYNAMIC) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): where the loader has put it.
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(info.dlpi_addr + header.p_vaddr);
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_TEXTREL) return true;
      if (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0) return true;
    }
  }
  return false;
}

int look_at(dl_phdr_info* info, std::size_t /*size*/, void* data) {
  auto& search = *static_cast<Search*>(data);
  const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  const auto is_in_path = [&](const std::string& name) {
    return path.find(name) != std::string::npos;
  };
  if (!std::any_of(search.names->begin(), search.names->end(), is_in_path)) return 0;
  for (std::size_t i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const bool is_read_only = (header.p_flags & (PF_R | PF_W)) == PF_R;
    if (header.p_type != PT_LOAD || !is_read_only || header.p_filesz == 0) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): likewise.
    auto* const begin = reinterpret_cast<std::byte*>(info->dlpi_addr + header.p_vaddr);
    search.found.push_back(
        {path, header.p_offset, {begin, header.p_filesz}, relocates_text(*info)});
  }
  return 0;
}

// The inode that is mapped at an address; 0 where that cannot be known.
std::uint64_t mapped_inode(const std::byte* address) {
  std::FILE* const maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return 0;
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::uint64_t inode = 0;
  char line[4096];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::uint64_t number = 0;
    // NOLINTNEXTLINE(cert-err34-c): the kernel's own format.
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %" SCNu64, &begin, &end,
                    &number) == 3 &&
        begin <= wanted && wanted < end) {
      inode = number;
      break;
    }
  }
  (void)std::fclose(maps);
  return inode;
}

/// Reads a file around the page cache where that is possible.
class FileReader {
 public:
  explicit FileReader(const std::string& path) {
#if defined(O_DIRECT)
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    is_direct_ = fd_ >= 0;
#endif
    if (fd_ < 0) fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    buffer_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, kSize));
  }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  ~FileReader() {
    if (fd_ >= 0) ::close(fd_);
    std::free(buffer_);  // NOLINT(cppcoreguidelines-no-malloc): aligned
  }

  bool is_open() const noexcept { return fd_ >= 0 && buffer_ != nullptr; }
  bool is_direct() const noexcept { return is_direct_; }
  /// Whether it is open, and the file that is mapped: another may have taken its name since.
  bool is_file(std::uint64_t inode) const noexcept {
    struct stat about {};
    return is_open() && inode != 0 && ::fstat(fd_, &about) == 0 && about.st_ino == inode;
  }
  /// `nbytes` from `offset`, at most 64 KiB; less at the end of the file, none if it fails.
  std::span<const std::byte> read(std::uint64_t offset, std::size_t nbytes) noexcept {
    const std::uint64_t begin = offset & ~std::uint64_t{kAlignment - 1};
    const auto skipped = static_cast<std::size_t>(offset - begin);
    const std::size_t wanted = (skipped + nbytes + kAlignment - 1) & ~(kAlignment - 1);
    ssize_t count = ::pread(fd_, buffer_, wanted, static_cast<off_t>(begin));
    if (count < 0 && is_direct_) {  // the file system says no when it is asked to read
      is_direct_ = false;
      const int flags = ::fcntl(fd_, F_GETFL);
#if defined(O_DIRECT)
      if (flags >= 0) (void)::fcntl(fd_, F_SETFL, flags & ~O_DIRECT);
#endif
      count = ::pread(fd_, buffer_, wanted, static_cast<off_t>(begin));
    }
    if (!is_direct_) {
      (void)::posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(wanted),
                            POSIX_FADV_DONTNEED);
    }
    if (count < static_cast<ssize_t>(skipped)) return {};
    const auto got = static_cast<std::size_t>(count) - skipped;
    return {buffer_ + skipped, std::min(got, nbytes)};
  }

 private:
  static constexpr std::size_t kAlignment = 4096;
  static constexpr std::size_t kSize = kRow * CodePages::kPage + 2 * kAlignment;

  int fd_ = -1;
  bool is_direct_ = false;
  std::byte* buffer_ = nullptr;
};

std::string symbol_at(const std::byte* address) {
  Dl_info info{};
  if (::dladdr(address, &info) == 0 || info.dli_sname == nullptr) return "";
  return info.dli_sname;
}

#endif

}  // namespace

bool CodePages::is_supported() noexcept {
#if defined(__linux__)
  return true;
#else
  return false;
#endif
}

CodePages::CodePages(const std::vector<std::string>& names, HashKey key, std::uint64_t seed)
    : found_(kRow) {
#if defined(__linux__)
  Search search{&names, {}};
  ::dl_iterate_phdr(&look_at, &search);
  for (const Found& one : search.found) {
    // Runtimes open libraries to try them, and close them: what is read here has to stay.
    void* const library = ::dlopen(one.path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) continue;  // it is closed again
    std::shared_ptr<void> held(library, [](void* opened) { (void)::dlclose(opened); });
    std::uint64_t inode = one.has_text_relocations ? 0 : mapped_inode(one.bytes.data());
    if (!FileReader(one.path).is_file(inode)) inode = 0;
    auto image = std::make_unique<WeightImage>(one.bytes, std::vector<Region>{}, kPage, key);
    auto guard = std::make_unique<ImageGuard>(*image, nullptr, nullptr, seed + segments_.size());
    const std::size_t pages = image->block_count();
    segments_.push_back({std::move(held), one.path, one.offset, inode, std::move(image),
                         std::move(guard), std::vector<bool>(pages)});
    nbytes_ += one.bytes.size();
    if (inode == 0) unproven_bytes_ += one.bytes.size();
  }
#else
  (void)names;
  (void)key;
  (void)seed;
#endif
}

std::vector<CodePages::Damage> CodePages::step(std::size_t nbytes) {
  std::vector<Damage> found;
  if (segments_.empty()) return found;
  std::size_t rows = std::max<std::size_t>(1, nbytes / (kRow * kPage));
  for (; rows > 0; --rows) {
    Segment& segment = segments_[next_];
    const std::size_t pages = segment.image->block_count();
    const std::size_t count = std::min(kRow, pages - within_);
    if (sweeps_ == 0 && segment.inode != 0) compare(segment, within_, count, found);
    const std::size_t damaged = segment.guard->look(count * kPage, found_);
    for (std::size_t i = 0; i < damaged; ++i) report(segment, found_[i].block, found);
    within_ += count;
    if (within_ < pages) continue;
    within_ = 0;
    if (++next_ < segments_.size()) continue;
    next_ = 0;
    ++sweeps_;
  }
  return found;
}

// With the file: what was damaged before it was hashed differs from that alone.
void CodePages::compare(Segment& segment, std::size_t first, std::size_t count,
                        std::vector<Damage>& found) {
#if defined(__linux__)
  const std::size_t begin = first * kPage;
  const std::size_t size = std::min(count * kPage, segment.image->nbytes() - begin);
  FileReader file(segment.path);
  const auto right = file.is_file(segment.inode) ? file.read(segment.offset + begin, size)
                                                 : std::span<const std::byte>{};
  if (right.size() != size) {
    unproven_bytes_ += size;
    return;
  }
  if (file.is_direct()) direct_bytes_ += size;
  for (std::size_t at = 0; at < size; at += kPage) {
    const auto page = segment.image->block(first + at / kPage);
    if (std::memcmp(page.data(), right.data() + at, page.size()) == 0) continue;
    report(segment, first + at / kPage, found);
  }
#else
  (void)segment;
  (void)first;
  (void)count;
  (void)found;
#endif
}

void CodePages::report(Segment& segment, std::size_t page, std::vector<Damage>& found) {
  if (segment.is_reported[page]) return;
  segment.is_reported[page] = true;
#if defined(__linux__)
  const auto live = segment.image->block(page);
  std::size_t first = 0;
  std::uint32_t wrong = 0;
  if (FileReader file(segment.path); file.is_file(segment.inode)) {
    const auto right = file.read(segment.offset + page * kPage, live.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      if (live[i] == right[i]) continue;
      if (wrong++ == 0) first = i;
    }
  }
  const std::byte* const address = live.data() + first;
  found.push_back({segment.path, segment.offset + page * kPage + first,
                   reinterpret_cast<std::uintptr_t>(address), symbol_at(address), wrong});
#else
  (void)found;
#endif
}

std::size_t CodePages::memory_bytes() const noexcept {
  std::size_t bytes = sizeof *this + found_.capacity() * sizeof(Finding);
  for (const Segment& one : segments_) {
    bytes += sizeof one + one.path.capacity() + one.image->memory_bytes() +
             one.guard->memory_bytes() + one.is_reported.capacity() / 8;
  }
  return bytes;
}

}  // namespace selfheal::runtime
