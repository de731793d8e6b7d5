// The six objects of the video chip (TIA) as sets of pixels of one line.
//
// Facts (Stella Programmer's Guide; the exact numbers from playing every game and random programs beside
// ALE):
// - Two players of 8 pixels, two missiles and a ball of 1, 2, 4 or 8 pixels, and a playfield of 20 bits,
//   4 pixels each, whose second half repeats or mirrors the first.
// - NUSIZ says how many copies a player and its missile have and how wide the player's pixels are; players
//   of double and quadruple width are drawn one pixel to the right. Everything wraps around at 160.
// - VDEL chooses between the graphics register and a delayed one, which a write to the other player's
//   register fills.
// - A RESP that does not hit the start of a copy suppresses the first copy until the end of the displayed
//   line. ("Star effect": missile 0 changes its width and place on each line, see registers.h.)
#pragma once
#include "cartridge.h"

namespace console {

enum Object : u32 { PLAYER0, PLAYER1, MISSILE0, MISSILE1, BALL, PLAYFIELD, OBJECT_COUNT };
constexpr u32 LINE_WORDS = 5;            // 160 bits

enum StarMissile : u8 { STAR_NONE, STAR_WIDE, STAR_HIDDEN };

struct Video {
  // the beam, in colour clocks since the frame began
  i32 drawn;             // the picture is made up to here
  i32 line_start;        // first clock of the line in which `drawn` lies
  i32 seen;              // last access: the picture will be made up to here when the frame ends
  i32 row0_line;         // scanline shown in row 0
  i32 vsync_finish;      // clock from which on clearing VSYNC ends the frame
  i32 hmove_clock;       // clock of the last HMOVE
  i32 position[5];       // of players, missiles and ball, 0 to 159
  u32 playfield;         // 20 bits in the order of the screen, leftmost first
  u32 collisions;        // pair k of register r at bits 2r and 2r+1
  u32 mask[OBJECT_COUNT][LINE_WORDS];
  u8 enabled;            // objects that can be seen, one bit each
  u8 changed;            // objects whose visibility has to be found anew
  u8 stale;              // objects whose mask has to be built anew when they are seen
  u8 vblank, control, reflected, blank_left;
  u8 copies[2];          // NUSIZ
  u8 colour[4];          // players 0 and 1, playfield and ball, background
  u8 shade[4];           // what they are drawn as
  u8 mirrored[2], graphics[2], delayed_graphics[2], vertical_delay[3];
  u8 missile_on[2], missile_locked[2], ball_on, delayed_ball_on;
  u8 motion[5];
  u8 suppressed[2];      // the first copy is not drawn
  u8 star, star_step, star_missile;
  u8 sound[6];           // AUDC0 AUDC1 AUDF0 AUDF1 AUDV0 AUDV1
};

// Copies of an object by NUSIZ & 7, one bit each, 16 pixels apart.
CONSOLE_INLINE u32 copies_of(u32 nusiz) { return u32(0x0115011107050301ull >> (nusiz & 7) * 8) & 255; }

// Sets the 64 pixels of a pattern, of which bit 0 is at x.
CONSOLE_INLINE void place(u32* mask, u64 pattern, i32 x) {
  if (x >= SCREEN_WIDTH) x -= SCREEN_WIDTH;
  const u32 word = u32(x) >> 5, shift = x & 31;
  const u64 low = pattern << shift;
  const u32 high = u32(pattern >> 32 >> (32 - shift));
  const u32 second = word == 4 ? 0 : word + 1, third = second == 4 ? 0 : second + 1;
  mask[word] |= u32(low);
  mask[second] |= u32(low >> 32);
  mask[third] |= high;
}
// The same with all copies.
CONSOLE_INLINE void place_copies(u32* mask, u32 pattern, i32 x, u32 copies) {
  // One multiplication sets the copies at 0, 16 and 32.
  const u64 near = u64(copies & 1) | u64(copies >> 1 & 1) << 16 | u64(copies >> 2 & 1) << 32;
  place(mask, pattern * near, x);
  if (copies & 16) place(mask, pattern, x + 64);
}
CONSOLE_INLINE void clear(u32* mask) { for (u32 w = 0; w < LINE_WORDS; w++) mask[w] = 0; }

CONSOLE_INLINE u32 reversed8(u32 b) {
  b = (b & 0xF0) >> 4 | (b & 0x0F) << 4;
  b = (b & 0xCC) >> 2 | (b & 0x33) << 2;
  return (b & 0xAA) >> 1 | (b & 0x55) << 1;
}
CONSOLE_INLINE u32 reversed20(u32 p) {
  p = (p & 0xAAAAA) >> 1 | (p & 0x55555) << 1;
  p = (p & 0xCCCCC) >> 2 | (p & 0x33333) << 2;
  return (p >> 16 & 15) | (p >> 8 & 0xF0) | (p & 0xF00) | (p & 0xF0) << 8 | (p & 15) << 16;
}
// Each of 8 bits, four times.
CONSOLE_INLINE u32 quadrupled(u32 b) {
  b = (b | b << 12) & 0x000F000F;
  b = (b | b << 6) & 0x03030303;
  b = (b | b << 3) & 0x11111111;
  return b * 15u;
}
CONSOLE_INLINE u32 doubled(u32 b) {
  b = (b | b << 4) & 0x0F0F;
  b = (b | b << 2) & 0x3333;
  b = (b | b << 1) & 0x5555;
  return b * 3u;
}

CONSOLE_INLINE u32 player_graphics(const Video& v, u32 k) {
  return v.vertical_delay[k] ? v.delayed_graphics[k] : v.graphics[k];
}

CONSOLE_FN void build_player(Video& v, u32 k) {
  u32* mask = v.mask[PLAYER0 + k];
  clear(mask);
  u32 pattern = player_graphics(v, k);
  if (!v.mirrored[k]) pattern = reversed8(pattern);  // bit 0 is the leftmost pixel
  const u32 size = v.copies[k] & 7;
  i32 x = v.position[PLAYER0 + k];
  if (size == 5) { pattern = doubled(pattern); x++; }
  else if (size == 7) { pattern = quadrupled(pattern); x++; }
  u32 copies = copies_of(size);
  if (v.suppressed[k]) copies &= ~1u;
  place_copies(mask, pattern, x, copies);
}

CONSOLE_FN void build_missile(Video& v, u32 k) {
  u32* mask = v.mask[MISSILE0 + k];
  clear(mask);
  u32 width = v.copies[k] >> 4 & 3;
  if (k == 0 && v.star_missile == STAR_HIDDEN) return;
  if (k == 0 && v.star_missile == STAR_WIDE) width |= 1;
  const u32 pattern = (1u << (1u << width)) - 1;
  place_copies(mask, pattern, v.position[MISSILE0 + k], copies_of(v.copies[k]));
}

CONSOLE_FN void build_ball(Video& v) {
  clear(v.mask[BALL]);
  place(v.mask[BALL], (1u << (1u << (v.control >> 4 & 3))) - 1, v.position[BALL]);
}

CONSOLE_FN void build_playfield(Video& v) {
  const u32 left = v.playfield, right = v.reflected ? reversed20(left) : left;
  u32* mask = v.mask[PLAYFIELD];
  mask[0] = quadrupled(left & 255);
  mask[1] = quadrupled(left >> 8 & 255);
  mask[2] = quadrupled((left >> 16 & 15) | (right & 15) << 4);
  mask[3] = quadrupled(right >> 4 & 255);
  mask[4] = quadrupled(right >> 12 & 255);
}

// Finds which of the changed objects can be seen at all; their masks are built when somebody asks.
CONSOLE_INLINE void notice_changes(Video& v) {
  const u32 changed = v.changed;
  u32 on = v.enabled & ~changed;
  if (changed & 3) {
    if ((changed & 1) && player_graphics(v, 0)) on |= 1;
    if ((changed & 2) && player_graphics(v, 1)) on |= 2;
  }
  if (changed & 28) {
    if ((changed & 4) && v.missile_on[0] && !v.missile_locked[0]) on |= 4;
    if ((changed & 8) && v.missile_on[1] && !v.missile_locked[1]) on |= 8;
    if ((changed & 16) && (v.vertical_delay[2] ? v.delayed_ball_on : v.ball_on)) on |= 16;
  }
  if ((changed & 32) && v.playfield) on |= 32;
  v.enabled = u8(on);
  v.stale = u8(v.stale | changed);
  v.changed = 0;
}

CONSOLE_INLINE void build_masks(Video& v) {
  const u32 need = v.stale & v.enabled;
  v.stale = u8(v.stale & ~need);
  if (need & 1) build_player(v, 0);
  if (need & 2) build_player(v, 1);
  if (need & 4) build_missile(v, 0);
  if (need & 8) build_missile(v, 1);
  if (need & 16) build_ball(v);
  if (need & 32) build_playfield(v);
}

// Collision register r holds its two pairs at bits 2r (read as bit 6) and 2r + 1 (bit 7): CXM0P: M0-P0,
// M0-P1; CXM1P: M1-P1, M1-P0; CXP0FB: P0-ball, P0-playfield; CXP1FB; CXM0FB; CXM1FB; CXBLPF: -, ball-
// playfield; CXPPMM: M0-M1, P0-P1.
constexpr u32 collisions_of(u32 p0, u32 p1, u32 m0, u32 m1, u32 ball, u32 field) {
  u32 c = 0;
  if (p0) {
    c |= (m0 & p0 ? 0x1 : 0) | (m1 & p0 ? 0x8 : 0) | (p0 & ball ? 0x10 : 0) | (p0 & field ? 0x20 : 0) |
         (p0 & p1 ? 0x8000 : 0);
  }
  if (p1) c |= (m0 & p1 ? 0x2 : 0) | (m1 & p1 ? 0x4 : 0) | (p1 & ball ? 0x40 : 0) | (p1 & field ? 0x80 : 0);
  if (m0) c |= (m0 & ball ? 0x100 : 0) | (m0 & field ? 0x200 : 0) | (m0 & m1 ? 0x4000 : 0);
  if (m1) c |= (m1 & ball ? 0x400 : 0) | (m1 & field ? 0x800 : 0);
  if (ball & field) c |= 0x2000;
  return c;
}

// The collisions that each set of objects can have.
struct PairTable { u16 of[1 << OBJECT_COUNT]; };
constexpr PairTable make_pair_table() {
  PairTable table{};
  for (u32 on = 0; on < 1u << OBJECT_COUNT; on++)
    table.of[on] = u16(collisions_of(on & 1, on >> 1 & 1, on >> 2 & 1, on >> 3 & 1, on >> 4 & 1, on >> 5 & 1));
  return table;
}
CONSOLE_CONSTANT PairTable PAIRS = make_pair_table();

}  // namespace console
