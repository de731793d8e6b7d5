// Observations on the CPU: the pictures of observation.h, a row at a time.
//
// Two things make it fast. Neighbouring rows of a screen are often equal, so that the sum along x is made
// once for a run of equal rows. And where the source and the picture fall into four equal parts along x, as
// 160 and 84 do, the parts are the lanes of one vector: no gather is needed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "observation.h"

#if defined(__SSE4_1__)
#include <smmintrin.h>
#endif

namespace console {

struct AreaTable {
  std::vector<i32> first, count, start;
  std::vector<float> weight;
  AreaAxis axis() const { return {first.data(), count.data(), start.data(), weight.data()}; }
};

// `plain`: all weights are 1.
inline AreaTable area_table(i32 source, i32 size, bool plain) {
  AreaTable table;
  const double scale = double(source) / size;
  for (i32 d = 0; d < size; d++) {
    const double begin = d * scale, end = begin + scale, cell = std::min(scale, source - begin);
    i32 whole_begin = i32(std::ceil(begin)), whole_end = std::min(i32(std::floor(end)), source - 1);
    whole_begin = std::min(whole_begin, whole_end);
    table.start.push_back(i32(table.weight.size()));
    const bool part_before = whole_begin - begin > 1e-3, part_after = end - whole_end > 1e-3;
    table.first.push_back(part_before ? whole_begin - 1 : whole_begin);
    if (part_before) table.weight.push_back(float((whole_begin - begin) / cell));
    for (i32 k = whole_begin; k < whole_end; k++) table.weight.push_back(float(1.0 / cell));
    if (part_after) table.weight.push_back(float(std::min(std::min(end - whole_end, 1.0), cell) / cell));
    table.count.push_back(i32(table.weight.size()) - table.start.back());
  }
  if (plain) std::fill(table.weight.begin(), table.weight.end(), 1.0f);
  return table;
}

constexpr i32 LANES = 4, PART = SCREEN_WIDTH / LANES;

// The sums along x of rows, with a memory of the last one.
class RowSums {
 public:
  explicit RowSums(const AreaTable& x) : size_(i32(x.first.size())) {
    taps_ = *std::max_element(x.count.begin(), x.count.end());
    in_lanes_ = size_ % LANES == 0;
    const i32 part = in_lanes_ ? size_ / LANES : size_;
    for (i32 d = 0; in_lanes_ && d < size_; d++)
      in_lanes_ = x.first[d] == x.first[d % part] + d / part * PART;
    part_ = in_lanes_ ? part : size_;
    first_.resize(part_);
    weights_.assign(size_t(taps_) * size_, 0.0f);
    for (i32 d = 0; d < size_; d++) {
      const i32 k = in_lanes_ ? d % part_ : d, lane = in_lanes_ ? d / part_ : 0;
      if (lane == 0) first_[k] = x.first[d];
      for (i32 t = 0; t < x.count[d]; t++)
        weights_[(size_t(k) * taps_ + t) * (in_lanes_ ? LANES : 1) + lane] = x.weight[x.start[d] + t];
    }
    sums_.resize(size_);
    // The last taps of the last pixel may reach behind the row, with weights of zero.
    spread_.assign(SCREEN_WIDTH + LANES * taps_, 0.0f);
  }

  void forget() { known_ = false; }

  // The sums of a row of 160 bytes; in lanes, pixel d lies at d % part * 4 + d / part.
  const float* of(const u8* row) {
    if (known_ && !std::memcmp(row, row_, SCREEN_WIDTH)) return sums_.data();
    std::memcpy(row_, row, SCREEN_WIDTH);
    known_ = true;
    if (in_lanes_) sum_lanes();
    else sum_plainly();
    return sums_.data();
  }
  bool in_lanes() const { return in_lanes_; }
  i32 place_of(i32 d) const { return in_lanes_ ? d % part_ * LANES + d / part_ : d; }

 private:
  void sum_plainly() {
    for (i32 k = 0; k < size_; k++) {
      float sum = 0.0f;
      for (i32 t = 0; t < taps_ && first_[k] + t < SCREEN_WIDTH; t++)
        sum += row_[first_[k] + t] * weights_[k * taps_ + t];
      sums_[k] = sum;
    }
  }
#if defined(__SSE4_1__)
  void spread() {
    for (i32 j = 0; j < PART; j += 8) {
      const auto load = [&](i32 lane) { return _mm_loadl_epi64((const __m128i*)(row_ + lane * PART + j)); };
      const __m128i low = _mm_unpacklo_epi8(load(0), load(1)), high = _mm_unpacklo_epi8(load(2), load(3));
      const __m128i four[2] = {_mm_unpacklo_epi16(low, high), _mm_unpackhi_epi16(low, high)};
      for (i32 h = 0; h < 2; h++) {
        const __m128i bytes = four[h];
        float* to = spread_.data() + (j + 4 * h) * LANES;
        _mm_storeu_ps(to, _mm_cvtepi32_ps(_mm_cvtepu8_epi32(bytes)));
        _mm_storeu_ps(to + 4, _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_srli_si128(bytes, 4))));
        _mm_storeu_ps(to + 8, _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_srli_si128(bytes, 8))));
        _mm_storeu_ps(to + 12, _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_srli_si128(bytes, 12))));
      }
    }
  }
  void sum_lanes() {
    spread();
    const float* weight = weights_.data();
    for (i32 k = 0; k < part_; k++) {
      __m128 sum = _mm_setzero_ps();
      const float* source = spread_.data() + first_[k] * LANES;
      for (i32 t = 0; t < taps_; t++, weight += LANES, source += LANES)
        sum = _mm_add_ps(sum, _mm_mul_ps(_mm_loadu_ps(source), _mm_loadu_ps(weight)));
      _mm_storeu_ps(sums_.data() + k * LANES, sum);
    }
  }
#else
  void sum_lanes() {
    for (i32 j = 0; j < PART; j++)
      for (i32 lane = 0; lane < LANES; lane++) spread_[j * LANES + lane] = row_[lane * PART + j];
    for (i32 k = 0; k < part_; k++)
      for (i32 lane = 0; lane < LANES; lane++) {
        float sum = 0.0f;
        for (i32 t = 0; t < taps_; t++)
          sum += spread_[(first_[k] + t) * LANES + lane] * weights_[(k * taps_ + t) * LANES + lane];
        sums_[k * LANES + lane] = sum;
      }
  }
#endif

  i32 size_, part_, taps_;
  bool in_lanes_, known_ = false;
  u8 row_[SCREEN_WIDTH];
  std::vector<i32> first_;
  std::vector<float> weights_, spread_, sums_;
};

// Makes the pictures of one environment after another; one for each thread.
class Observer {
 public:
  Observer(const AreaTable& x, const AreaTable& y, i32 size)
      : sums_(x), y_(y), size_(size), total_(size), place_(size) {
    for (i32 d = 0; d < size; d++) place_[d] = sums_.place_of(d);
  }

  // Pools the screens into `full` (channel after channel a screen) and writes the picture, channels last.
  // `out` holds the picture that was made of `full` before, unless `anew`: rows that stay are left there.
  void observe(const View& view, Picture picture, const u8* newest, const u8* before, i32 height, u8* full,
               u8* out, bool anew) {
    if (picture == KEEP_PICTURE) return;
    const i32 pixels = height * SCREEN_WIDTH;
    for (i32 c = 0; c < view.channels; c++) {
      u8* plane = full + c * pixels;
      for (i32 row = 0; row < height; row++) {
        const i32 at = row * SCREEN_WIDTH;
        const bool changes = pool_row(view, c, picture, newest + at, before + at, plane + at);
        changed_[row] = changes || anew;
      }
      if (view.scale) resize(plane, view.scale, view.channels, out + c);
      else for (i32 k = 0; k < pixels; k++) out[k * view.channels + c] = plane[k];
    }
  }

 private:
  // Makes a row of the full picture; returns whether it differs from what was there.
  static bool pool_row(const View& view, i32 c, Picture picture, const u8* newest, const u8* before, u8* row) {
    u8 fresh[SCREEN_WIDTH];
    if (view.palette[c]) {
      for (i32 k = 0; k < SCREEN_WIDTH; k++) fresh[k] = pooled_pixel(view, c, picture, newest[k], before[k], row[k]);
      if (!std::memcmp(row, fresh, SCREEN_WIDTH)) return false;
      std::memcpy(row, fresh, SCREEN_WIDTH);
      return true;
    }
    const u8* one = picture == FRAME_BEFORE_AND_KEPT ? row : newest;
    const u8* other = picture == NEWEST_FRAME ? newest : before;
#if defined(__SSE4_1__)
    __m128i differs = _mm_setzero_si128();
    for (i32 k = 0; k < SCREEN_WIDTH; k += 16) {
      const __m128i both = _mm_max_epu8(_mm_loadu_si128((const __m128i*)(one + k)),
                                        _mm_loadu_si128((const __m128i*)(other + k)));
      differs = _mm_or_si128(differs, _mm_xor_si128(both, _mm_loadu_si128((const __m128i*)(row + k))));
      _mm_storeu_si128((__m128i*)(row + k), both);
    }
    return !_mm_testz_si128(differs, differs);
#else
    for (i32 k = 0; k < SCREEN_WIDTH; k++) fresh[k] = std::max(one[k], other[k]);
    const bool differs = std::memcmp(row, fresh, SCREEN_WIDTH);
    std::memcpy(row, fresh, SCREEN_WIDTH);
    return differs;
#endif
  }

  void resize(const u8* plane, float scale, i32 step, u8* out) {
    sums_.forget();
    for (i32 d = 0; d < size_; d++, out += size_ * step) {
      const i32 top = y_.first[d], count = y_.count[d];
      bool changes = false;
      for (i32 y = 0; y < count; y++) changes |= changed_[top + y] != 0;
      if (!changes) continue;
      const float* weight = y_.weight.data() + y_.start[d];
      for (i32 y = 0; y < count; y++) add_row(sums_.of(plane + (top + y) * SCREEN_WIDTH), weight[y], y == 0);
      if (step == 1 && sums_.in_lanes()) write_lanes(scale, out);
      else for (i32 k = 0; k < size_; k++) out[k * step] = rounded(total_[place_[k]] * scale);
    }
  }

  void add_row(const float* __restrict along, float weight, bool first) {
    float* __restrict total = total_.data();
    i32 k = 0;
#if defined(__SSE4_1__)
    const __m128 w = _mm_set1_ps(weight);
    if (first) for (; k + 4 <= size_; k += 4) _mm_storeu_ps(total + k, _mm_mul_ps(_mm_loadu_ps(along + k), w));
    else for (; k + 4 <= size_; k += 4)
      _mm_storeu_ps(total + k, _mm_add_ps(_mm_loadu_ps(total + k), _mm_mul_ps(_mm_loadu_ps(along + k), w)));
#endif
    for (; k < size_; k++) total[k] = first ? along[k] * weight : total[k] + along[k] * weight;
  }

  // Rounds the sums of a row, and puts its four parts, which are lanes, one behind the other.
  void write_lanes(float scale, u8* out) {
#if defined(__SSE4_1__)
    const i32 part = size_ / LANES;
    if (part >= 4) {
      const __m128i by_lane = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      for (i32 k = 0; k < part; k += 4) {
        const i32 at = std::min(k, part - 4);
        const float* sums = total_.data() + at * LANES;
        const __m128i low = _mm_packus_epi32(whole(sums, scale), whole(sums + 4, scale));
        const __m128i high = _mm_packus_epi32(whole(sums + 8, scale), whole(sums + 12, scale));
        const __m128i lanes = _mm_shuffle_epi8(_mm_packus_epi16(low, high), by_lane);
        _mm_storeu_si32(out + at, lanes);
        _mm_storeu_si32(out + part + at, _mm_srli_si128(lanes, 4));
        _mm_storeu_si32(out + 2 * part + at, _mm_srli_si128(lanes, 8));
        _mm_storeu_si32(out + 3 * part + at, _mm_srli_si128(lanes, 12));
      }
      return;
    }
#endif
    for (i32 k = 0; k < size_; k++) out[k] = rounded(total_[place_[k]] * scale);
  }

#if defined(__SSE4_1__)
  // Four scaled sums, rounded to even: the low byte of 2^23 + v is v.
  static CONSOLE_INLINE __m128i whole(const float* sums, float scale) {
    const __m128 values = _mm_mul_ps(_mm_loadu_ps(sums), _mm_set1_ps(scale));
    const __m128 shifted = _mm_add_ps(values, _mm_set1_ps(8388608.0f));
    return _mm_and_si128(_mm_castps_si128(shifted), _mm_set1_epi32(255));
  }
#endif

  RowSums sums_;
  const AreaTable& y_;
  i32 size_;
  std::vector<float> total_;
  std::vector<i32> place_;
  u8 changed_[MAX_SCREEN_HEIGHT] = {};
};

}  // namespace console
