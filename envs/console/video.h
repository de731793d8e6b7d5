// The beam: it makes the picture and the collisions up to a moment, when somebody asks.
//
// Facts (checked by playing every game and random programs beside ALE):
// - A line has 228 colour clocks, 68 of them blank before the 160 pixels. Picture and collisions exist
//   only in the lines that the screen shows, and no collision while VBLANK blanks; the 8 pixels that an
//   HMOVE blanks do collide.
// - The picture is made when the chip is accessed: after the last access of a frame nothing is drawn, and
//   what the beam does not reach keeps the picture of two frames ago.
// - Normal order, lowest first: background, ball, playfield, player and missile 1, player and missile 0;
//   with CTRLPF bit 2 the players lie below ball and playfield. With bit 1 ("score") the playfield takes
//   the players' colours, left and right, and player 1 goes behind the left half; with both bits the score
//   colours hold only while the playfield is the only object.
// - At the end of a displayed line, but not of the last one: suppressed first copies come back, the latch
//   of the playfield's reflection is set, the star effect steps.
// - The HMOVE blank lasts until a displayed line was drawn across its 8th pixel.
#pragma once
#include "objects.h"
#include "pixels.h"

namespace console {

constexpr i32 BLANK_CLOCKS = 68;

// Where pictures go: null pointers where nobody looks.
struct Canvas {
  u8* screen;            // height x 160 bytes: shades of the colours
  u8* objects;           // the same: bit k is set where Object k is and can be seen
};

CONSOLE_INLINE u32 segment_of(i32 word, i32 from, i32 to) {
  u32 bits = ~0u;
  if (from > 32 * word) bits <<= from - 32 * word;
  if (to < 32 * word + 32) bits &= (1u << (to - 32 * word)) - 1;
  return bits;
}

CONSOLE_FN void collide(Video& v, i32 from, i32 to) {
  const u32 on = v.enabled;
  u32 found = 0;
  for (i32 w = from >> 5; w < (to + 31) >> 5; w++) {
    const u32 part = segment_of(w, from, to);
    found |= collisions_of(on & 1 ? v.mask[PLAYER0][w] & part : 0, on & 2 ? v.mask[PLAYER1][w] & part : 0,
                           on & 4 ? v.mask[MISSILE0][w] & part : 0, on & 8 ? v.mask[MISSILE1][w] & part : 0,
                           on & 16 ? v.mask[BALL][w] & part : 0, on & 32 ? v.mask[PLAYFIELD][w] & part : 0);
  }
  v.collisions |= found;
}

CONSOLE_FN void draw(const Video& v, u8* row, i32 from, i32 to) {
  const bool blank = v.vblank & 2;
  const u32 on = blank ? 0 : v.enabled;
  const bool priority = v.control & 4;
  const bool score = (v.control & 2) && (!priority || on == 1u << PLAYFIELD);
  for (i32 w = from >> 5; w < (to + 31) >> 5; w++) {
    Pixels pixels(blank ? 0 : v.shade[3]);
    if (on) {
      const u32 ball = on & 16 ? v.mask[BALL][w] : 0, field = on & 32 ? v.mask[PLAYFIELD][w] : 0;
      const u32 first = (on & 1 ? v.mask[PLAYER0][w] : 0) | (on & 4 ? v.mask[MISSILE0][w] : 0);
      u32 second = (on & 2 ? v.mask[PLAYER1][w] : 0) | (on & 8 ? v.mask[MISSILE1][w] : 0);
      const u32 left = w < 2 ? ~0u : w == 2 ? 0xFFFFu : 0;  // the first 80 pixels
      const u32 field_left = field & left, field_right = field & ~left;
      const u8 left_shade = v.shade[score ? 0 : 2], right_shade = v.shade[score ? 1 : 2];
      if (priority) {
        pixels.paint(second, v.shade[1]);
        pixels.paint(first, v.shade[0]);
      }
      pixels.paint(ball, v.shade[2]);
      pixels.paint(field_left, left_shade);
      pixels.paint(field_right, right_shade);
      if (!priority) {
        if (score) second &= ~field_left;
        pixels.paint(second, v.shade[1]);
        pixels.paint(first, v.shade[0]);
      }
    }
    if (w == 0 && v.blank_left) pixels.paint(0xFF, 0);
    pixels.store(row + 32 * w, segment_of(w, from, to));
  }
}

CONSOLE_NOINLINE CONSOLE_FN void draw_objects(const Video& v, u8* row, i32 from, i32 to) {
  const u32 on = v.vblank & 2 ? 0 : v.enabled;
  for (i32 x = from; x < to; x++) {
    u32 here = 0;
    for (u32 k = 0; k < OBJECT_COUNT; k++) here |= ((on >> k & 1) & (v.mask[k][x >> 5] >> (x & 31) & 1)) << k;
    row[x] = x < 8 && v.blank_left ? 0 : u8(here);
  }
}

CONSOLE_INLINE void copy_row(u8* row) {
  const u64* above = reinterpret_cast<const u64*>(row - SCREEN_WIDTH);
  u64* here = reinterpret_cast<u64*>(row);
  for (i32 k = 0; k < SCREEN_WIDTH / 8; k++) here[k] = above[k];
}

CONSOLE_FN void step_star(Video& v) {
  v.star_step = (v.star_step + 1) & 3;
  const u32 left = v.star_step == 0 ? 18 : v.star_step == 1 ? 33 : v.star_step == 2 ? 0 : 17;
  v.position[MISSILE0] -= i32(left);
  if (v.position[MISSILE0] < 0) v.position[MISSILE0] += SCREEN_WIDTH;
  v.star_missile = v.star_step == 1 ? STAR_WIDE : v.star_step == 2 ? STAR_HIDDEN : STAR_NONE;
  v.changed |= 1 << MISSILE0;
}

CONSOLE_INLINE void end_line(Video& v) {
  if (v.suppressed[0]) { v.suppressed[0] = 0; v.changed |= 1 << PLAYER0; }
  if (v.suppressed[1]) { v.suppressed[1] = 0; v.changed |= 1 << PLAYER1; }
  if (v.reflected != (v.control & 1)) { v.reflected = v.control & 1; v.changed |= 1 << PLAYFIELD; }
  if (v.star) step_star(v);
}

// Whether some collision between objects that can be seen is not yet noted.
CONSOLE_INLINE bool may_collide(const Video& v) {
  return !(v.vblank & 2) && (v.enabled & (v.enabled - 1)) && (PAIRS.of[v.enabled] & ~v.collisions);
}

// The pixels from `left` to `right` of the line of the beam.
CONSOLE_INLINE void make_piece(Video& v, const Board& board, const Canvas& canvas, i32 left, i32 right) {
  if (v.changed) notice_changes(v);
  const bool pair = may_collide(v);
  if ((pair || canvas.screen) && (v.stale & v.enabled)) build_masks(v);
  if (pair) collide(v, left, right);
  const i32 row = v.line_start / LINE_CLOCKS - v.row0_line;
  if (canvas.screen && row < board.height) {
    draw(v, canvas.screen + row * SCREEN_WIDTH, left, right);
    if (canvas.objects) draw_objects(v, canvas.objects + row * SCREEN_WIDTH, left, right);
  }
  if (left < 8 && right >= 8) v.blank_left = 0;
}

// Goes on with the picture to a clock that lies behind what is drawn, and in the lines of the screen.
CONSOLE_NOINLINE CONSOLE_FN void advance(Video& v, const Board& board, const Canvas& canvas, i32 clock) {
  i32 from = v.drawn - v.line_start;
  if (from >= LINE_CLOCKS) { v.line_start += LINE_CLOCKS; from = 0; end_line(v); }
  v.drawn = clock;
  for (;;) {
    const i32 to = clock - v.line_start < LINE_CLOCKS ? clock - v.line_start : LINE_CLOCKS;
    const bool whole = from == 0 && !v.blank_left;
    const i32 left = from > BLANK_CLOCKS ? from - BLANK_CLOCKS : 0;
    if (to > BLANK_CLOCKS) make_piece(v, board, canvas, left, to - BLANK_CLOCKS);
    // The end of the line itself belongs to the next call: an access there comes before it.
    if (clock - v.line_start <= LINE_CLOCKS) return;
    v.line_start += LINE_CLOCKS;
    from = 0;
    end_line(v);
    // Whole lines on which nothing changes look and collide like the one before.
    while (whole && !v.star && !v.changed && clock - v.line_start >= LINE_CLOCKS) {
      const i32 row = v.line_start / LINE_CLOCKS - v.row0_line;
      if (canvas.screen && row < board.height) {
        copy_row(canvas.screen + row * SCREEN_WIDTH);
        if (canvas.objects) copy_row(canvas.objects + row * SCREEN_WIDTH);
      }
      if (clock - v.line_start == LINE_CLOCKS) return;
      v.line_start += LINE_CLOCKS;
    }
  }
}

// Makes picture and collisions up to a clock of this frame.
CONSOLE_INLINE void catch_up(Video& v, const Board& board, const Canvas& canvas, i32 clock) {
  if (clock > board.end_clock) clock = board.end_clock;
  if (clock <= v.drawn || clock < board.first_clock) return;
  if (clock - v.line_start <= BLANK_CLOCKS) v.drawn = clock;  // no pixel yet
  else advance(v, board, canvas, clock);
}

}  // namespace console
