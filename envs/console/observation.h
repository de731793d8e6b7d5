// From screens to what an agent sees: the maximum of two frames, its palette, and cv2's INTER_AREA.
//
// Facts (OpenCV's behaviour, checked to the last bit against ALE's observations): output pixel d of n source
// pixels covers [d s, d s + s) with s = n / size. A source pixel's weight is its overlap divided by
// min(s, n - d s), computed in double and rounded to float; an overlap of 0.001 or less at an edge is
// dropped. Sums are of floats without fused multiply-add, first along x, then along y, and are rounded half
// to even. Where both axes have a whole s, pixels are summed as they are, and the sum is multiplied by the
// float next to 1 / s^2 (of both axes).
#pragma once
#include "environment.h"

namespace console {

constexpr i32 MAX_CHANNELS = 3;

// One axis of the resizing: output d is made of count[d] source pixels from first[d] on, with weights from
// weight[start[d]] on.
struct AreaAxis {
  const i32* first;
  const i32* count;
  const i32* start;
  const float* weight;
};

// How screens become an observation's picture.
struct View {
  i32 channels;          // 1, or 3 for RGB
  i32 rows, columns;     // of the picture
  float scale;           // of the sums that make a pixel; 0: the picture is the whole screen
  AreaAxis x, y;
  const u8* palette[MAX_CHANNELS];  // what a screen's byte is in each channel; null: itself
};

CONSOLE_INLINE u8 channel_of(const View& view, i32 channel, u8 byte) {
  return view.palette[channel] ? view.palette[channel][byte] : byte;
}

// A pixel of the full-sized picture. `newest`, `before`: bytes of the two screens; `kept`: the channel's
// value in the last picture.
CONSOLE_INLINE u8 pooled_pixel(const View& view, i32 channel, Picture picture, u8 newest, u8 before, u8 kept) {
  if (picture == NEWEST_FRAME) return channel_of(view, channel, newest);
  const u8 earlier = channel_of(view, channel, before);
  const u8 other = picture == LAST_TWO_FRAMES ? channel_of(view, channel, newest) : kept;
  return earlier > other ? earlier : other;
}

CONSOLE_INLINE u8 rounded(float value) {
  // To even at halves, as the sums of 8-bit pixels with weights of sum 1 never leave 0 to 255.
  const float shifted = value + 8388608.0f;
  return u8(i32(shifted - 8388608.0f));
}

// One pixel of the resized picture, for a device on which each thread makes one.
CONSOLE_FN u8 area_pixel(const View& view, const u8* full, i32 channel, i32 row, i32 column) {
  const i32 top = view.y.first[row], left = view.x.first[column];
  const float* wy = view.y.weight + view.y.start[row];
  const float* wx = view.x.weight + view.x.start[column];
  float sum = 0.0f;
  for (i32 y = 0; y < view.y.count[row]; y++) {
    const u8* line = full + ((top + y) * SCREEN_WIDTH + left) * view.channels + channel;
    float along = 0.0f;
    for (i32 x = 0; x < view.x.count[column]; x++) along += line[x * view.channels] * wx[x];
    sum += along * wy[y];
  }
  return rounded(sum * view.scale);
}

}  // namespace console
