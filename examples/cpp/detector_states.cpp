// Detectors without Python: which of them alarm at a change, and a checksum of the state of each,
// which is the same on every machine and with every compiler's flags.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "selfheal/base/crc32c.hpp"
#include "selfheal/base/moments.hpp"
#include "selfheal/detect/adwin.hpp"
#include "selfheal/detect/cusum.hpp"
#include "selfheal/detect/ddm.hpp"
#include "selfheal/detect/eddm.hpp"
#include "selfheal/detect/ewma.hpp"
#include "selfheal/detect/hddm_a.hpp"
#include "selfheal/detect/hddm_w.hpp"
#include "selfheal/detect/kswin.hpp"
#include "selfheal/detect/page_hinkley.hpp"
#include "selfheal/detect/page_hinkley_compat.hpp"

namespace {

constexpr int kSamples = 4000;

// Numbers from 0 to 1 that are the same everywhere.
class Uniform {
 public:
  double operator()() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state_ >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_ = 1;
};

// Normal enough: twelve uniform numbers, in a smaller mean after half of the samples.
std::vector<double> measurements() {
  Uniform uniform;
  std::vector<double> samples;
  for (int i = 0; i < kSamples; ++i) {
    double sum = i < kSamples / 2 ? -6.0 : -6.7;
    for (int k = 0; k < 12; ++k) sum += uniform();
    samples.push_back(sum);
  }
  return samples;
}

// 1 for a wrong answer; they become more after half of the samples.
std::vector<double> errors() {
  Uniform uniform;
  std::vector<double> samples;
  for (int i = 0; i < kSamples; ++i) {
    samples.push_back(uniform() < (i < kSamples / 2 ? 0.1 : 0.4) ? 1.0 : 0.0);
  }
  return samples;
}

// Batches of this many samples; after each, the state goes into the checksum. What compilers may do
// differently shows in the last bits of young sums, and drowns in old ones.
constexpr std::size_t kBatch = 16;

template <typename Detector>
void watch(const char* name, Detector detector, const std::vector<double>& samples) {
  int alarms = 0;
  std::ptrdiff_t first = -1;
  std::uint32_t checksum = 0;
  for (std::size_t begin = 0; begin < samples.size(); begin += kBatch) {
    detector.update_many(std::span(samples).subspan(begin, kBatch), [&](std::size_t i) {
      const auto at = static_cast<std::ptrdiff_t>(begin + i);
      if (at >= kSamples / 2 && first < 0) first = at;
      ++alarms;
    });
    const std::vector<std::byte> state = detector.state();
    const std::size_t own_checksum = 4;  // with it, all states would have the same one
    checksum = selfheal::crc32c(std::span(state).first(state.size() - own_checksum), checksum);
  }
  std::printf("%-18s %3d alarms, the first after the change at %4td, states %08x\n", name, alarms,
              first, checksum);
}

}  // namespace

int main() {
  const std::vector<double> values = measurements();
  watch("Cusum", selfheal::Cusum(0.0, 1.0, 0.5, 5.0), values);
  watch("PageHinkley", selfheal::PageHinkley(0.0, 1.0, 0.5, 5.0), values);
  watch("Ewma", selfheal::Ewma(0.0, 1.0, 0.1, 3.0), values);
  watch("Adwin", selfheal::Adwin(), values);
  watch("Kswin", selfheal::Kswin(0.005, 100, 30, 1), values);
  watch("Cusum, latched", selfheal::Cusum(0.0, 1.0, 0.5, 5.0, selfheal::Sides::kBoth, true, true),
        values);
  watch("RiverPageHinkley", selfheal::RiverPageHinkley(), values);
  const std::vector<double> wrong = errors();
  watch("Ddm", selfheal::Ddm(), wrong);
  watch("Eddm", selfheal::Eddm(), wrong);
  watch("HddmA", selfheal::HddmA(), wrong);
  watch("HddmW", selfheal::HddmW(), wrong);
  return 0;
}
