#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "detect/sided_scan.hpp"
#include "samples.hpp"

using namespace selfheal;

namespace {

// Bytes, because signs of zero count as well.
template <typename T>
bool same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

bool same(const ScanResult& a, const ScanResult& b) {
  return same(a.sum, b.sum) && same(a.z_sum, b.z_sum) && same(a.up_end, b.up_end) &&
         same(a.up_top, b.up_top) && same(a.down_end, b.down_end) && same(a.down_top, b.down_top);
}

SideLanes lanes(std::size_t used) {
  SideLanes made{};
  for (std::size_t i = 0; i < used; ++i) {
    const auto n = static_cast<double>(i);
    made.mean[i] = 0.1 * n;
    made.reciprocal_std[i] = 1.0 / (0.7 + n);
    made.up_allowance[i] = 0.25 * n;
    made.down_allowance[i] = 0.5;
    made.upper[i] = 0.125 * n;
    made.lower[i] = 1.0;
  }
  return made;
}

}  // namespace

TEST_CASE("every instruction set gives the same sums to the bit") {
  const auto doubles = testing::normal_samples(64 * kScanBlock, 11, 0.3);
  const std::vector<float> floats(doubles.begin(), doubles.end());
  const ScanParameters parameters{0.1, 1.0 / 0.9, 0.5};
  const Scan plain = portable_scan();
  REQUIRE(!available_scans().empty());
  for (const Scan& scan : available_scans()) {
    ScanResult expected;
    ScanResult found;
    for (std::size_t i = 0; i < doubles.size(); i += kScanBlock) {
      plain.floats(&floats[i], parameters, expected);
      scan.floats(&floats[i], parameters, found);
      CHECK(found.is_finite);
      CHECK(same(found, expected));
      plain.doubles(&doubles[i], parameters, expected);
      scan.doubles(&doubles[i], parameters, found);
      CHECK(found.is_finite);
      CHECK(same(found, expected));
    }
    for (const std::size_t used : {std::size_t{1}, std::size_t{5}, kSideLanes}) {
      SideLanes a = lanes(used);
      SideLanes b = lanes(used);
      plain.float_rows(floats.data(), kSideLanes, kSideRows, used, a);
      scan.float_rows(floats.data(), kSideLanes, kSideRows, used, b);
      for (std::size_t i = 0; i < used; ++i) {
        CHECK(same(a.upper[i], b.upper[i]));
        CHECK(same(a.lower[i], b.lower[i]));
        CHECK(same(a.upper_top[i], b.upper_top[i]));
        CHECK(same(a.lower_top[i], b.lower_top[i]));
        for (std::size_t r = 0; r < kSideRows; ++r) CHECK(same(a.z_sums[r][i], b.z_sums[r][i]));
      }
      plain.double_rows(doubles.data(), kSideLanes, 3, used, a);
      scan.double_rows(doubles.data(), kSideLanes, 3, used, b);
      for (std::size_t i = 0; i < used; ++i) CHECK(same(a.upper[i], b.upper[i]));
    }
  }
}

TEST_CASE("every instruction set sees a sample that is not finite, wherever it is") {
  std::vector<double> samples(kScanBlock, 0.0);
  const ScanParameters parameters{0.0, 1.0, 0.5};
  ScanResult result;
  for (const Scan& scan : available_scans()) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
          -std::numeric_limits<double>::infinity()}) {
      for (std::size_t i = 0; i < kScanBlock; ++i) {
        samples[i] = bad;
        scan.doubles(samples.data(), parameters, result);
        CHECK_FALSE(result.is_finite);
        const std::vector<float> floats(samples.begin(), samples.end());
        scan.floats(floats.data(), parameters, result);
        CHECK_FALSE(result.is_finite);
        samples[i] = 0.0;
      }
    }
  }
}
