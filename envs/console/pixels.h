// 32 pixels of a row at a time, painted through bit masks: bit k of a word is pixel k.
//
// The masks of the objects are words already, so that painting is a masked move where the processor has
// one (AVX-512), a comparison and a blend where it has 256-bit registers (AVX2), and eight pixels in a
// 64-bit word elsewhere, on the GPU too.
#pragma once
#include "platform.h"

#if !CONSOLE_GPU && (defined(__AVX2__) || (defined(__AVX512BW__) && defined(__AVX512VL__)))
#include <immintrin.h>
#endif

namespace console {

#if !CONSOLE_GPU && defined(__AVX512BW__) && defined(__AVX512VL__)

struct Pixels {
  __m256i bytes;
  CONSOLE_INLINE explicit Pixels(u8 colour) : bytes(_mm256_set1_epi8(char(colour))) {}
  CONSOLE_INLINE void paint(u32 mask, u8 colour) {
    bytes = _mm256_mask_mov_epi8(bytes, mask, _mm256_set1_epi8(char(colour)));
  }
  CONSOLE_INLINE void store(u8* row, u32 mask) const { _mm256_mask_storeu_epi8(row, mask, bytes); }
};

#elif !CONSOLE_GPU && defined(__AVX2__)

CONSOLE_INLINE __m256i bytes_of(u32 mask) {
  const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x(i64(0x8040201008040201ull));
  const __m256i every = _mm256_shuffle_epi8(_mm256_set1_epi32(i32(mask)), spread);
  return _mm256_cmpeq_epi8(_mm256_and_si256(every, bit), bit);
}
struct Pixels {
  __m256i bytes;
  CONSOLE_INLINE explicit Pixels(u8 colour) : bytes(_mm256_set1_epi8(char(colour))) {}
  CONSOLE_INLINE void paint(u32 mask, u8 colour) {
    if (mask) bytes = _mm256_blendv_epi8(bytes, _mm256_set1_epi8(char(colour)), bytes_of(mask));
  }
  CONSOLE_INLINE void store(u8* row, u32 mask) const {
    __m256i v = bytes;
    if (~mask) v = _mm256_blendv_epi8(_mm256_loadu_si256((const __m256i*)row), v, bytes_of(mask));
    _mm256_storeu_si256((__m256i*)row, v);
  }
};

#else

// A byte of 0xFF for each bit of `mask` (8 bits).
CONSOLE_INLINE u64 bytes_of(u32 mask) {
  const u32 low = (mask & 15) * 0x00204081u & 0x01010101u, high = (mask >> 4 & 15) * 0x00204081u & 0x01010101u;
  return u64(high * 255u) << 32 | low * 255u;
}
struct Pixels {
  u64 bytes[4];
  CONSOLE_INLINE explicit Pixels(u8 colour) {
    for (i32 k = 0; k < 4; k++) bytes[k] = colour * 0x0101010101010101ull;
  }
  CONSOLE_INLINE void paint(u32 mask, u8 colour) {
    if (!mask) return;
    const u64 fill = colour * 0x0101010101010101ull;
    for (i32 k = 0; k < 4; k++) {
      const u64 here = bytes_of(mask >> 8 * k & 255);
      bytes[k] = (bytes[k] & ~here) | (fill & here);
    }
  }
  CONSOLE_INLINE void store(u8* row, u32 mask) const {
    // Rows begin at multiples of 32 bytes.
    u64* words = reinterpret_cast<u64*>(row);
    for (i32 k = 0; k < 4; k++) {
      const u64 here = bytes_of(mask >> 8 * k & 255);
      if (!here) continue;
      words[k] = ~here ? (words[k] & ~here) | (bytes[k] & here) : bytes[k];
    }
  }
};

#endif

}  // namespace console
