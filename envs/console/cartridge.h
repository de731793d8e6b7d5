// The cartridge: 2K or 4K of ROM, or more behind bank switching, sometimes with RAM or a chip of its own.
//
// Facts (known from the boards' descriptions, and checked by playing every game beside ALE):
// - The processor has 13 address lines; 0x1000-0x1FFF is the cartridge, whatever the higher bits.
// - F8, F6: two or four banks of 4K; any access to a hot spot (FF8-FF9, FF6-FF9) chooses the bank before
//   the byte is read. After a system reset F8 starts in its last bank, F6 in its first.
// - F8SC, F6SC add 128 bytes of RAM: written at 000-07F, read at 080-0FF. Reading the write port gives ROM
//   and spoils nothing; writing the read port does nothing. A system reset fills the RAM at random.
// - E0: four windows of 1K; hot spots FE0-FF7 choose one of eight slices for the first three.
// - FE (Robotank): no hot spots; bit 13 of the address tells the bank, as JSR and RTS carry it.
// - DPC (Pitfall II): eight counters that fetch graphics, a random register, and music made by the last
//   three; its clock runs at 15,750 Hz beside the processor's 1,193,191.67 Hz. Its random register steps on
//   each access to 000-07F or FC0-FFF and on each write anywhere in the cartridge. A system reset leaves
//   the chip as it is, but for the two steps that reading the reset vector causes.
#pragma once
#include "platform.h"

namespace console {

enum CartridgeKind : u8 { CART_2K, CART_4K, CART_F8, CART_F6, CART_F8SC, CART_F6SC, CART_E0, CART_FE, CART_DPC };

// What never changes while a game is played: the game, its ROM, the television's format, what is drawn.
struct Board {
  const u8* rom;         // one byte longer than rom_size; a ROM of 2K is there twice
  const u8* shades;      // 256 bytes: what a colour register's value is drawn as
  u32 rom_size;          // bytes
  i32 game;              // index into the table of rules.h
  i32 first_line;        // scanline that row 0 of the screen shows
  i32 height;            // rows of the screen
  i32 last_line;         // 290 (NTSC) or 342 (PAL): a later write to the video chip ends the frame
  i32 first_clock, end_clock, last_clock;  // the same in colour clocks, see set_lines
  u8 cartridge;          // CartridgeKind
  u8 colour_loss;        // PAL: colours lose their hue after frames of an odd number of lines
  u8 hmove_blanks;       // HMOVE blanks 8 pixels
};

constexpr i32 LINE_CLOCKS = 228;
CONSOLE_FN void set_lines(Board& board, i32 first_line, i32 height, i32 last_line) {
  board.first_line = first_line;
  board.height = height;
  board.last_line = last_line;
  board.first_clock = first_line * LINE_CLOCKS;
  board.end_clock = (first_line + height) * LINE_CLOCKS;
  board.last_clock = (last_line + 1) * LINE_CLOCKS;
}

struct Dpc {
  double music_clock;    // fraction of a tick that the music has still to make up
  i32 music_cycle;       // processor cycle of the last look at the music
  u16 counter[8];
  u8 top[8], bottom[8], flag[8], music[3], random;
};

struct Cartridge {
  u32 window[8];         // offset in the ROM of each 1K window, for addresses without and with bit 13
  u8 ram[128];
  Dpc dpc;
};

// The part of the 4K in which an access does nothing but read ROM: offsets from first to first + span - 1.
struct PlainRange { u32 first, span; };
CONSOLE_INLINE PlainRange plain_range(u8 kind) {
  switch (kind) {
    case CART_F8: return {0, 0xFF8};
    case CART_F6: return {0, 0xFF6};
    case CART_F8SC: return {0x100, 0xEF8};
    case CART_F6SC: return {0x100, 0xEF6};
    case CART_E0: return {0, 0xFE0};
    case CART_DPC: return {0x100, 0xEC0};
    default: return {0, 0x1000};
  }
}
// Whether the windows are switched one by one, or chosen by bit 13 of the address.
CONSOLE_INLINE bool is_sliced(u8 kind) { return kind == CART_E0 || kind == CART_FE; }

CONSOLE_FN void select_bank(Cartridge& cart, u32 bank) {
  for (u32 k = 0; k < 8; k++) cart.window[k] = (bank << 12) | (k & 3) << 10;
}
CONSOLE_INLINE u32 window_of(u32 address) { return (address >> 10 & 3) | (address >> 11 & 4); }

CONSOLE_FN void step_random(Dpc& dpc) {
  const u32 r = dpc.random;
  dpc.random = u8(r << 1 | (~(r >> 7 ^ r >> 5 ^ r >> 4 ^ r >> 3) & 1));
}

CONSOLE_FN void reset_cartridge(Cartridge& cart, const Board& board) {
  const u8 kind = board.cartridge;
  if (kind == CART_F8 || kind == CART_F8SC || kind == CART_DPC) select_bank(cart, 1);
  else select_bank(cart, kind == CART_E0 ? 1 : 0);  // E0: slices 4 to 7
  if (kind == CART_FE) for (u32 k = 0; k < 4; k++) cart.window[k] += 0x1000;
  if (kind == CART_DPC) { step_random(cart.dpc); step_random(cart.dpc); }
}

// Where the processor starts, as it stands in the ROM once the cartridge was reset.
CONSOLE_FN u16 start_address(const Cartridge& cart, const Board& board) {
  const u32 last = cart.window[7] + 0x3FF;  // FFFC and FFFD have bit 13
  return u16(board.rom[last - 3] | board.rom[last - 2] << 8);
}

CONSOLE_FN void touch_hot_spot(Cartridge& cart, u8 kind, u32 offset) {
  switch (kind) {
    case CART_F8: case CART_F8SC: case CART_DPC:
      if ((offset | 1) == 0xFF9) select_bank(cart, offset & 1);
      break;
    case CART_F6: case CART_F6SC:
      if (offset >= 0xFF6 && offset <= 0xFF9) select_bank(cart, offset - 0xFF6);
      break;
    case CART_E0:
      if (offset >= 0xFE0 && offset <= 0xFF7)
        cart.window[offset >> 3 & 3] = cart.window[4 + (offset >> 3 & 3)] = (offset & 7) << 10;
      break;
    default: break;
  }
}

// The music counters go on by the ticks that passed since they were last looked at.
CONSOLE_FN void run_music(Dpc& dpc, i32 cycle) {
  const i32 passed = cycle - dpc.music_cycle;
  dpc.music_cycle = cycle;
  const double ticks = 15750.0 * passed / 1193191.66666667 + dpc.music_clock;
  const i32 whole = i32(ticks);
  dpc.music_clock = ticks - whole;
  if (whole <= 0) return;
  for (i32 f = 5; f < 8; f++) {
    if (!dpc.music[f - 5]) continue;
    i32 low = 0;
    if (dpc.top[f]) {
      low = (dpc.counter[f] & 255) - whole % (dpc.top[f] + 1);
      if (low < 0) low += dpc.top[f] + 1;
    }
    if (low <= dpc.bottom[f]) dpc.flag[f] = 0;
    else if (low <= dpc.top[f]) dpc.flag[f] = 0xFF;
    dpc.counter[f] = u16((dpc.counter[f] & 0x700) | low);
  }
}

CONSOLE_FN u8 read_dpc(Dpc& dpc, const Board& board, u32 offset, i32 cycle) {
  const u32 f = offset & 7;
  const u8 low = u8(dpc.counter[f]);
  if (low == dpc.top[f]) dpc.flag[f] = 0xFF;
  else if (low == dpc.bottom[f]) dpc.flag[f] = 0;
  const u8 graphics = board.rom[8192 + 2047 - (dpc.counter[f] & 0x7FF)];
  u8 value = 0;
  switch (offset >> 3) {
    case 0:
      if (f < 4) { value = dpc.random; break; }
      run_music(dpc, cycle);
      for (i32 k = 0; k < 3; k++) if (dpc.music[k] && dpc.flag[k + 5]) value = u8(value + 4 + k);
      break;
    case 1: value = graphics; break;
    case 2: value = graphics & dpc.flag[f]; break;
    case 7: value = dpc.flag[f]; break;
    default: break;
  }
  if (f < 5 || !dpc.music[f - 5]) dpc.counter[f] = (dpc.counter[f] - 1) & 0x7FF;
  return value;
}

CONSOLE_FN void write_dpc(Dpc& dpc, u32 offset, u8 value) {
  const u32 f = offset & 7;
  switch (offset >> 3 & 7) {
    case 0: dpc.top[f] = value; dpc.flag[f] = 0; break;
    case 1: dpc.bottom[f] = value; break;
    case 2: dpc.counter[f] = u16((dpc.counter[f] & 0x700) | (f >= 5 && dpc.music[f - 5] ? dpc.top[f] : value)); break;
    case 3:
      dpc.counter[f] = u16((value & 7) << 8 | (dpc.counter[f] & 255));
      if (f >= 5) dpc.music[f - 5] = value & 0x10;
      break;
    case 6: dpc.random = 1; break;
    default: break;
  }
}

// Reads the cartridge at a 16-bit address, with all that the access causes. Cold: the processor reads
// plain ROM by itself.
CONSOLE_NOINLINE CONSOLE_FN u8 read_cartridge(Cartridge& cart, const Board& board, u32 address, i32 cycle) {
  const u8 kind = board.cartridge;
  const u32 offset = address & 0xFFF;
  if (offset >= 0xFC0) {
    if (kind == CART_DPC) step_random(cart.dpc);
    touch_hot_spot(cart, kind, offset);
  }
  if ((kind == CART_F8SC || kind == CART_F6SC) && (offset & 0xF80) == 0x80) return cart.ram[offset & 0x7F];
  if (kind == CART_DPC && offset < 0x80) {
    step_random(cart.dpc);
    if (offset < 0x40) return read_dpc(cart.dpc, board, offset, cycle);
  }
  return board.rom[cart.window[window_of(address)] + (offset & 0x3FF)];
}

CONSOLE_NOINLINE CONSOLE_FN void write_cartridge(Cartridge& cart, const Board& board, u32 address, u8 value) {
  const u8 kind = board.cartridge;
  const u32 offset = address & 0xFFF;
  if (kind == CART_DPC) {
    step_random(cart.dpc);
    if (offset >= 0x40 && offset < 0x80) { write_dpc(cart.dpc, offset, value); return; }
  }
  if ((kind == CART_F8SC || kind == CART_F6SC) && offset < 0x80) { cart.ram[offset] = value; return; }
  touch_hot_spot(cart, kind, offset);
}

}  // namespace console
