// Timer, ports and controllers: the 6532 RIOT, and the video chip's input pins.
//
// Facts (from the chip's data sheet, and checked by playing every game beside ALE):
// - Reads happen at the end of an instruction. With D = cycle - 1 - cycle of the write, the timer shows
//   T - 1 - (D >> shift) while that is not negative. Then it falls by one a cycle; the first read after it
//   ran out (by at least one cycle) puts it back to the slow rate, and from then on the flag reads 0.
// - The switches: bit 0 RESET, bit 1 SELECT (0 = pressed), bit 3 colour, bits 6 and 7 difficulty A.
// - Joysticks pull the pins of SWCHA low, bits 4-7 for the left one: up, down, left, right; its button is
//   INPT4. The port's direction register does not matter to reads.
// - A paddle is a resistor that charges a capacitor: INPTx turns 1 when more than trunc(0.01904 R) cycles
//   passed since VBLANK's bit 7 let go of it. ALE compares unsigned numbers, and the moment is moved back
//   with each frame: a charge that ended before the frame began reads as 0 again.
#pragma once
#include "platform.h"

namespace console {

constexpr i32 PADDLE_STEP = 23000;       // change of the resistance in a frame
constexpr i32 PADDLE_MIN = 27450;        // ALE's smallest resistance
constexpr i32 ALWAYS_CHARGED = -1, NEVER_CHARGED = -2;

enum Controller : u8 { JOYSTICK, SWAPPED_JOYSTICK, PADDLES, SWAPPED_PADDLES };

struct Ports {
  u32 timer, timer_shift;
  i32 timer_set;         // cycle of the write
  i32 timer_late;        // 1 + cycles that the first read came too late; 0 = not read since it ran out
  i32 dump_end;          // cycle at which the paddles' capacitors began to charge
  i32 charge[4];         // cycles that each paddle needs, or one of the two constants
  u8 joysticks, switches, direction, button[2];
  u8 dumping;            // the capacitors are held empty
};

CONSOLE_FN u8 read_riot(Ports& ports, u32 address, i32 cycle) {
  switch (address & 7) {
    case 0: return ports.joysticks;
    case 1: return ports.direction;
    case 2: return ports.switches;
    case 3: return 0;
    default: break;
  }
  const u32 passed = u32(cycle) - 1u - u32(ports.timer_set);
  const i32 value = i32(ports.timer) - i32(passed >> ports.timer_shift) - 1;
  if (address & 1) return value >= 0 || ports.timer_late ? 0 : 0x80;
  if (value >= 0) return u8(value);
  const i32 over = i32(passed - (ports.timer << ports.timer_shift));
  if (over >= 1 && !ports.timer_late) ports.timer_late = over + 1;
  return u8(ports.timer_late ? value + 1 - ports.timer_late : -1 - over);
}

// Reads of the timer, one in each turn of a loop, that show something else than 0.
struct TimerWait { i32 turns; u8 value; };
CONSOLE_NOINLINE CONSOLE_FN TimerWait timer_wait(const Ports& ports, i32 first_read, i32 loop_cycles,
                                                 i32 most_turns) {
  const i64 first = i64(first_read) - 1 - ports.timer_set;
  const i64 room = (i64(ports.timer) - 1) * (i64(1) << ports.timer_shift) - first;
  if (first < 0 || room <= 0) return {0, 0};
  i64 turns = (room + loop_cycles - 1) / loop_cycles;
  if (turns > most_turns) turns = most_turns;
  if (turns <= 0) return {0, 0};
  const i64 last = (first + (turns - 1) * loop_cycles) >> ports.timer_shift;
  return {i32(turns), u8(i64(ports.timer) - 1 - last)};
}

CONSOLE_FN void write_riot(Ports& ports, u32 address, u8 value, i32 cycle) {
  if ((address & 7) == 1) { ports.direction = value; return; }
  if ((address & 0x14) != 0x14) return;
  ports.timer = value;
  ports.timer_shift = 0xA630 >> (address & 3) * 4 & 15;  // 1, 8, 64 or 1024 cycles a step
  ports.timer_set = cycle;
  ports.timer_late = 0;
}

// Bit 7 of INPT0 to INPT5.
CONSOLE_FN u8 read_input(const Ports& ports, u32 pin, i32 cycle) {
  if (pin >= 4) return pin < 6 && !ports.button[pin - 4] ? 0x80 : 0;
  const i32 charge = ports.charge[pin];
  if (charge == ALWAYS_CHARGED) return 0x80;
  if (charge == NEVER_CHARGED || ports.dumping) return 0;
  return u32(cycle) > u32(ports.dump_end) + u32(charge) ? 0x80 : 0;
}

// What a player and the console's switches do in a frame.
struct Input {
  i32 action;            // Action of the player
  i32 paddle;            // resistance of the player's paddle, and of the second one
  i32 second_paddle;
  u8 reset, select;      // switches held down
  u8 difficulty;         // bit 0: left switch at A, bit 1: right switch at A
};

CONSOLE_FN i32 charge_of(i32 resistance) {
  return resistance ? i32(1.6 * resistance * 0.01e-6 * 1.19e6) : ALWAYS_CHARGED;
}

CONSOLE_INLINE bool has_up(i32 a) { return 0xC4C4 >> a & 1; }     // UP UPRIGHT UPLEFT UPFIRE, both with FIRE
CONSOLE_INLINE bool has_right(i32 a) { return 0x14948 >> a & 1; }
CONSOLE_INLINE bool has_left(i32 a) { return 0x29290 >> a & 1; }
CONSOLE_INLINE bool has_down(i32 a) { return 0x32320 >> a & 1; }
CONSOLE_INLINE bool has_fire(i32 a) { return a == FIRE || a >= UPFIRE; }

// Puts an input on the pins. `paddles_right`: the right port has paddles too, which nobody moves.
CONSOLE_FN void set_input(Ports& ports, const Input& in, u8 controller, bool paddles_right) {
  ports.switches = u8((0x3F ^ (in.reset ? 1 : 0) ^ (in.select ? 2 : 0)) | in.difficulty << 6);
  ports.joysticks = 0xFF;
  ports.button[0] = ports.button[1] = 0;
  for (i32 k = 0; k < 4; k++) ports.charge[k] = NEVER_CHARGED;
  const bool fire = has_fire(in.action);
  if (controller == PADDLES || controller == SWAPPED_PADDLES) {
    const bool swapped = controller == SWAPPED_PADDLES;
    ports.charge[swapped] = charge_of(in.paddle);
    ports.charge[!swapped] = charge_of(in.second_paddle);
    if (paddles_right) ports.charge[2] = ports.charge[3] = ALWAYS_CHARGED;
    if (fire) ports.joysticks = swapped ? 0xBF : 0x7F;
    return;
  }
  const u32 pins = has_up(in.action) << 4 | has_down(in.action) << 5 | has_left(in.action) << 6 |
                   has_right(in.action) << 7;
  const bool swapped = controller == SWAPPED_JOYSTICK;
  ports.joysticks = u8(0xFF & ~(swapped ? pins >> 4 : pins));
  ports.button[swapped] = fire;
}

}  // namespace console
