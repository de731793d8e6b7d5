// The whole console: a frame, and a system reset.
//
// Facts (checked by playing every game beside ALE):
// - A call of a frame ends with the instruction that ends the frame, or with the 25,000th. Then the frame
//   goes on in the next call. (So many instructions take more lines than any screen has, so that all of
//   the screen was drawn by then.)
// - At a frame's start the cycle counter begins anew; the place in the line is kept, and with it everything
//   that was timed: timer, paddles, VSYNC, HMOVE, the cartridge's music.
// - There are two screens, drawn in turn and never cleared but by a system reset.
// - PAL televisions lose the colour after a frame with an odd number of lines: bit 0 of the colours tells.
// - A system reset clears processor, video and timer, not the RAM; the timer then stands at 25 to 99 by a
//   random draw, 64 cycles a step. An unfinished frame stays unfinished: it goes on from line 0 in row 0.
#pragma once
#include "processor.h"

namespace console {

CONSOLE_FN void start_frame(Machine& m, const Board& board) {
  Frame& f = m.frame;
  Video& v = m.video;
  const i32 passed = f.cycle, old_clock = (f.cycle - f.origin) * 3;
  f.origin = -((f.cycle - f.origin) % 76);
  f.cycle = 0;
  const i32 back = old_clock + f.origin * 3;  // clocks by which this frame's line 0 lies after the last one's
  m.ports.timer_set -= passed;
  m.ports.dump_end = i32(u32(m.ports.dump_end) - u32(passed));
  m.cartridge.dpc.music_cycle -= passed;
  if (v.vsync_finish != 0x7FFFFFFF) v.vsync_finish -= back;
  v.hmove_clock = v.hmove_clock > -(1 << 29) ? v.hmove_clock - back : v.hmove_clock;
  v.seen = 0;
  v.row0_line = board.first_line;
  v.drawn = v.line_start = v.row0_line * LINE_CLOCKS;
  if (!board.colour_loss) return;
  for (u32 k = 0; k < 4; k++) {
    v.colour[k] = u8((v.colour[k] & 0xFE) | (f.line_count & 1));
    v.shade[k] = board.shades[v.colour[k]];
  }
}

// What a call of a frame did.
struct FrameResult {
  bool finished;         // it did not run into the limit of instructions
  bool complete;         // finished, begun in this call, and the beam reached every row
};

// Runs a frame, or goes on with an unfinished one.
CONSOLE_NOINLINE CONSOLE_FN FrameResult run_frame(Machine& m, const Board& board, const Canvas& canvas) {
  Frame& f = m.frame;
  const bool begins = !f.unfinished;
  if (begins) start_frame(m, board);
  f.unfinished = 1;
  f.ended = 0;
  if (board.cartridge <= CART_4K) Core<true>::run(m, board, canvas);
  else Core<false>::run(m, board, canvas);
  catch_up(m.video, board, canvas, m.video.seen);
  const bool finished = !f.unfinished;
  if (finished) f.line_count = (f.cycle - f.origin) / 76;
  return {finished, begins && finished && m.video.drawn >= board.end_clock};
}

CONSOLE_FN void power_on(Machine& m) {
  m = Machine{};
  m.cartridge.dpc.random = 1;
}

// `timer_draw`: a random number, of which the timer's start is made. The caller clears the screens, and
// fills the cartridge's RAM where there is one.
CONSOLE_FN void system_reset(Machine& m, const Board& board, u32 timer_draw) {
  const i32 unfinished = m.frame.unfinished;
  const Ports pins = m.ports;
  m.cpu = Processor{};
  m.frame = Frame{};
  m.ports = Ports{};
  m.video = Video{};
  m.frame.unfinished = unfinished;
  m.frame.live = STROBES;
  for (u32 k = 0; k < 4; k++) m.ports.charge[k] = pins.charge[k];
  for (u32 k = 0; k < 2; k++) m.ports.button[k] = pins.button[k];
  m.ports.joysticks = pins.joysticks;
  m.ports.switches = pins.switches;
  m.ports.timer = 25 + timer_draw % 75;
  m.ports.timer_shift = 6;
  m.video.vsync_finish = 0x7FFFFFFF;
  m.video.changed = (1 << OBJECT_COUNT) - 1;
  for (u32 k = 0; k < 4; k++) m.video.shade[k] = board.shades[0];
  m.cartridge.dpc.music_cycle = 0;
  m.cartridge.dpc.music_clock = 0;
  reset_cartridge(m.cartridge, board);
  m.cpu.sp = 0xFF;
  m.cpu.nz = 1;
  m.cpu.pc = start_address(m.cartridge, board);
}

}  // namespace console
