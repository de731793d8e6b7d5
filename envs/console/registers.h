// The video chip's registers: what a write changes, and when it shows.
//
// Facts (checked by playing every game and random programs beside ALE; numbers in colour clocks):
// - A write shows some clocks after it: PF0-2 after 4, 5, 2 or 3 by the cycle in the line, GRP, REFP and
//   VBLANK after 1, NUSIZ and RESM after 8, RESP after 11 when the new place lies in an old copy.
// - RESP puts a player at 3 in the blank, else 5 right of the beam; missiles and ball at 2, or 4 right.
//   Soon after an HMOVE some of these differ by a few pixels.
// - HMOVE in the cycles 0 to 20 moves by what is left of the motion's extra clocks and blanks 8 pixels; in
//   cycle 75 it moves by 8 more; from cycle 55 on it moves left what still fits.
// - HMM0 changed from 7 to 6 exactly 63 clocks after HMOVE starts the "star effect" (Cosmic Ark).
// - A frame ends with VSYNC cleared at least 228 clocks after it was set, or with any write after line 290
//   (PAL: 342).
// - WSYNC halts the processor until the line ends, unless it is written as the second push of an
//   instruction.
#pragma once
#include "ports.h"
#include "video.h"

namespace console {

enum Register : u32 {
  VSYNC, VBLANK, WSYNC, RSYNC, NUSIZ0, NUSIZ1, COLUP0, COLUP1, COLUPF, COLUBK, CTRLPF, REFP0, REFP1, PF0, PF1,
  PF2, RESP0, RESP1, RESM0, RESM1, RESBL, AUDC0, AUDC1, AUDF0, AUDF1, AUDV0, AUDV1, GRP0, GRP1, ENAM0, ENAM1,
  ENABL, HMP0, HMP1, HMM0, HMM1, HMBL, VDELP0, VDELP1, VDELBL, RESMP0, RESMP1, HMOVE, HMCLR, CXCLR
};

constexpr u64 one(u32 reg) { return u64(1) << reg; }

// Each write to these does something, whatever the value.
constexpr u64 STROBES = one(VSYNC) | one(RSYNC) | one(RESP0) | one(RESP1) | one(RESM0) | one(RESM1) |
                        one(RESBL) | one(HMOVE) | one(HMCLR) | one(CXCLR);
// The picture before these has to be made first. (Colours only while somebody looks.)
constexpr u64 COLOURS = one(COLUP0) | one(COLUP1) | one(COLUPF) | one(COLUBK);
constexpr u64 PICTURE = one(VBLANK) | one(NUSIZ0) | one(NUSIZ1) | one(CTRLPF) | one(REFP0) | one(REFP1) |
                        one(PF0) | one(PF1) | one(PF2) | one(RESM0) | one(RESM1) | one(RESBL) | one(GRP0) |
                        one(GRP1) | one(ENAM0) | one(ENAM1) | one(ENABL) | one(VDELP0) | one(VDELP1) |
                        one(VDELBL) | one(RESMP0) | one(RESMP1) | one(HMOVE) | one(CXCLR);
constexpr u64 DELAY_1 = one(VBLANK) | one(REFP0) | one(REFP1) | one(GRP0) | one(GRP1);
constexpr u64 DELAY_8 = one(NUSIZ0) | one(NUSIZ1) | one(RESM0) | one(RESM1);

// What the processor's frame shares with the video chip.
struct Frame {
  i32 cycle;             // processor cycles; moved back at each frame's start
  i32 origin;            // cycle at which line 0 began
  i32 ended;             // the frame is over
  i32 unfinished;        // it goes on in the next call
  i32 line_count;        // of the last finished frame
  u64 live;              // registers to which even a write of the same value does something
  u8 written[64];        // last value written to each register
};

CONSOLE_INLINE i32 wrapped(i32 position) {
  return position < 0 ? position + SCREEN_WIDTH : position >= SCREEN_WIDTH ? position - SCREEN_WIDTH : position;
}

// Pixels by which HMOVE in a cycle of the line moves an object to the right.
CONSOLE_FN i32 motion_shift(i32 line_cycle, i32 motion) {
  const i32 extra = motion ^ 8;
  if (line_cycle == 75) return 8 - extra;
  if (line_cycle <= 20) {
    const i32 left = (70 - 3 * line_cycle) >> 2;
    return 8 - (extra < left ? extra : left);
  }
  const i32 room = (222 - 3 * line_cycle) >> 2;
  return extra > room ? room - extra : 0;
}

CONSOLE_FN void reset_player(Video& v, Frame& f, const Board& board, const Canvas& canvas, i32 clock, u32 k) {
  const i32 h = clock % LINE_CLOCKS;
  const i32 place = h < BLANK_CLOCKS ? 3 : wrapped(h - BLANK_CLOCKS + 5);
  const i32 distance = wrapped(place - v.position[k]);
  const u32 size = v.copies[k] & 7;
  const i32 width = size == 5 ? 16 : size == 7 ? 32 : 8;
  bool before = false, inside = false;
  i32 d = distance;
  for (u32 copies = copies_of(size); copies; copies >>= 1, d -= 16) {
    if (!(copies & 1) || d < 0 || d >= 4 + width) continue;
    before = d < 4;
    inside = !before;
    break;
  }
  catch_up(v, board, canvas, inside ? clock + 11 : clock);
  v.position[k] = place;
  v.suppressed[k] = !before;
  v.changed |= 1 << k;
  f.live |= one(NUSIZ0 + k);
}

// Places missile 0, missile 1 or the ball.
CONSOLE_FN void reset_small_object(Video& v, i32 clock, u32 k) {
  const i32 h = clock % LINE_CLOCKS, since = clock - v.hmove_clock;
  i32 place = h < BLANK_CLOCKS ? 2 : wrapped(h - BLANK_CLOCKS + 4);
  if (k == MISSILE0 && since == 60 && h == 69) place = 8;
  if (k != MISSILE0 && since == 9 && h == 18) place = 3;
  if (k == BALL) {
    if (since == 54 && (h == 60 || h == 69)) place = 10;
    else if (since == 21 && h == 30) place = 6;
    else if (since == 18 && h == 27) place = 5;
  }
  if (k == MISSILE0) v.star_missile = STAR_NONE;
  v.position[k] = place;
  v.changed |= 1 << k;
}

CONSOLE_FN void move_objects(Video& v, const Board& board, i32 clock) {
  const i32 line_cycle = clock % LINE_CLOCKS / 3;
  if (board.hmove_blanks && (line_cycle <= 20 || line_cycle == 75)) v.blank_left = 1;
  u32 moved = v.suppressed[0] | v.suppressed[1] << 1;
  if (v.star || v.star_missile) moved |= 1 << MISSILE0;
  for (u32 k = 0; k < 5; k++) {
    const i32 shift = motion_shift(line_cycle, v.motion[k]);
    if (!shift) continue;
    v.position[k] = wrapped(v.position[k] + shift);
    moved |= 1u << k;
  }
  v.suppressed[0] = v.suppressed[1] = 0;
  v.star_missile = STAR_NONE;
  v.star = 0;
  v.hmove_clock = clock;
  v.changed |= moved;
}

// Clocks after which a write shows; RESP is looked at by itself.
CONSOLE_INLINE i32 delay_of(const Frame& f, u32 reg) {
  if (reg - PF0 < 3) return 0x3254 >> (u32(f.cycle - f.origin) & 3) * 4 & 15;
  return (DELAY_1 >> reg & 1) | (DELAY_8 >> reg & 1) << 3;
}

// Halts the processor until the line ends; returns at once when the line has just begun.
CONSOLE_INLINE void wait_for_line(Video& v, Frame& f, const Board& board) {
  const i32 cycles = f.cycle - f.origin;
  v.seen = cycles * 3;
  if (cycles * 3 >= board.last_clock) { f.ended = 1; f.unfinished = 0; }
  const u32 position = u32(cycles) % 76;
  if (position) f.cycle += i32(76 - position);
}

CONSOLE_FN void set_vsync(Video& v, Frame& f, i32 clock, u8 value) {
  if (value & 2) v.vsync_finish = clock + LINE_CLOCKS;
  else if (clock >= v.vsync_finish) {
    v.vsync_finish = 0x7FFFFFFF;
    f.ended = 1;
    f.unfinished = 0;
  }
}

CONSOLE_FN void set_colour(Video& v, const Frame& f, const Board& board, u32 k, u8 value) {
  v.colour[k] = u8((value & 0xFE) | (board.colour_loss & f.line_count & 1));
  v.shade[k] = board.shades[v.colour[k]];
}

CONSOLE_FN void lock_missile(Video& v, u32 k, u8 value) {
  if (v.missile_locked[k] && !(value & 2)) {
    const u32 size = v.copies[k] & 7;
    v.position[MISSILE0 + k] = (v.position[k] + (size == 5 ? 8 : size == 7 ? 16 : 4)) % SCREEN_WIDTH;
    if (k == 0) v.star_missile = STAR_NONE;
  }
  v.missile_locked[k] = value & 2;
  v.changed |= 4 << k;
}

// Whether an object that can be seen may have this colour.
CONSOLE_INLINE bool shows_colour(const Video& v, u32 colour) {
  const u32 seen = v.enabled | v.changed, score = v.control & 2 ? 1 << PLAYFIELD : 0;
  switch (colour) {
    case 0: return seen & (1 << PLAYER0 | 1 << MISSILE0 | score);
    case 1: return seen & (1 << PLAYER1 | 1 << MISSILE1 | score);
    case 2: return seen & (1 << BALL | 1 << PLAYFIELD);
    default: return true;
  }
}

// Notes an access to a register; returns whether the write changes anything.
CONSOLE_INLINE bool note_write(Video& v, Frame& f, const Board& board, u32 reg, u8 value) {
  const i32 clock = (f.cycle - f.origin) * 3;
  if (clock >= board.last_clock) { f.ended = 1; f.unfinished = 0; }
  v.seen = clock + delay_of(f, reg);
  return f.written[reg] != value || (f.live >> reg & 1);
}

// Writes a register, where that changes something. WSYNC is the processor's own.
CONSOLE_NOINLINE CONSOLE_FN void write_register(Video& v, Frame& f, Ports& ports, const Board& board,
                                                const Canvas& canvas, u32 reg, u8 value) {
  const i32 clock = (f.cycle - f.origin) * 3, delay = v.seen - clock;
  f.written[reg] = value;
  if ((PICTURE >> reg & 1) || ((COLOURS >> reg & 1) && canvas.screen && shows_colour(v, reg - COLUP0)))
    catch_up(v, board, canvas, clock + delay);
  switch (reg) {
    case VSYNC: set_vsync(v, f, clock, value); break;
    case VBLANK:
      if (value & 0x80) ports.dumping = 1;
      else if (v.vblank & 0x80) { ports.dumping = 0; ports.dump_end = f.cycle; }
      v.vblank = value;
      break;
    case NUSIZ0:
      v.copies[0] = value; v.suppressed[0] = 0; v.star_missile = STAR_NONE;
      v.changed |= 1 << PLAYER0 | 1 << MISSILE0;
      f.live &= ~one(NUSIZ0);
      if (v.star) f.live |= one(NUSIZ0);
      break;
    case NUSIZ1:
      v.copies[1] = value; v.suppressed[1] = 0;
      v.changed |= 1 << PLAYER1 | 1 << MISSILE1;
      f.live &= ~one(NUSIZ1);
      break;
    case COLUP0: case COLUP1: case COLUPF: case COLUBK: set_colour(v, f, board, reg - COLUP0, value); break;
    case CTRLPF:
      v.control = value;
      v.changed |= 1 << BALL;
      f.live &= ~one(CTRLPF);
      if (v.reflected != (value & 1)) {
        if (clock % LINE_CLOCKS < 147) { v.reflected = value & 1; v.changed |= 1 << PLAYFIELD; }
        else f.live |= one(CTRLPF);
      }
      break;
    case REFP0: case REFP1: v.mirrored[reg - REFP0] = value & 8; v.changed |= 1 << (reg - REFP0); break;
    case PF0: v.playfield = (v.playfield & 0xFFFF0) | value >> 4; v.changed |= 1 << PLAYFIELD; break;
    case PF1: v.playfield = (v.playfield & 0xFF00F) | reversed8(value) << 4; v.changed |= 1 << PLAYFIELD; break;
    case PF2: v.playfield = (v.playfield & 0x00FFF) | u32(value) << 12; v.changed |= 1 << PLAYFIELD; break;
    case RESP0: case RESP1: reset_player(v, f, board, canvas, clock, reg - RESP0); break;
    case RESM0: case RESM1: case RESBL: reset_small_object(v, clock, reg - RESP0); break;
    case AUDC0: case AUDC1: case AUDF0: case AUDF1: case AUDV0: case AUDV1: v.sound[reg - AUDC0] = value; break;
    case GRP0:
      v.graphics[0] = value; v.delayed_graphics[1] = v.graphics[1];
      v.changed |= 1 << PLAYER0 | 1 << PLAYER1;
      f.live = (f.live & ~one(GRP0)) | one(GRP1);
      break;
    case GRP1:
      v.graphics[1] = value; v.delayed_graphics[0] = v.graphics[0]; v.delayed_ball_on = v.ball_on;
      v.changed |= 1 << PLAYER0 | 1 << PLAYER1 | 1 << BALL;
      f.live = (f.live & ~one(GRP1)) | one(GRP0);
      break;
    case ENAM0: case ENAM1: v.missile_on[reg - ENAM0] = value & 2; v.changed |= 4 << (reg - ENAM0); break;
    case ENABL: v.ball_on = value & 2; v.changed |= 1 << BALL; f.live |= one(GRP1); break;
    case HMM0:
      if (clock == v.hmove_clock + 63 && v.motion[2] == 7 && value >> 4 == 6) {
        v.star = 1; v.star_step = 0; f.live |= one(NUSIZ0);
      }
      v.motion[2] = value >> 4;
      break;
    case HMP0: case HMP1: case HMM1: case HMBL: v.motion[reg - HMP0] = value >> 4; break;
    case VDELP0: case VDELP1: v.vertical_delay[reg - VDELP0] = value & 1; v.changed |= 1 << (reg - VDELP0); break;
    case VDELBL: v.vertical_delay[2] = value & 1; v.changed |= 1 << BALL; break;
    case RESMP0: case RESMP1: lock_missile(v, reg - RESMP0, value); break;
    case HMOVE: move_objects(v, board, clock); break;
    case HMCLR:
      for (u32 k = 0; k < 5; k++) { v.motion[k] = 0; f.written[HMP0 + k] = 0; }
      break;
    case CXCLR: v.collisions = 0; break;
    default: break;
  }
}

// Reads a register; the undriven bits keep what was last on the data bus.
CONSOLE_NOINLINE CONSOLE_FN u8 read_register(Video& v, const Frame& f, const Ports& ports, const Board& board,
                                             const Canvas& canvas, u32 address, u8 bus) {
  const u32 reg = address & 15;
  const u8 noise = bus & 0x3F;
  const i32 clock = (f.cycle - f.origin) * 3;
  v.seen = clock;
  if (reg >= 8) return u8(read_input(ports, reg - 8, f.cycle) | noise);
  catch_up(v, board, canvas, clock);
  return u8((v.collisions >> 2 * reg & 3) << 6 | noise);
}

}  // namespace console
