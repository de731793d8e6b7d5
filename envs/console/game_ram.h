// What the rules of the games read and keep: the numbers in the console's RAM, and what is known of a game.
//
// Most games keep their score as BCD, two digits a byte. Digits above 9 are taken as they come: 0xAA is 110.
// Addresses are offsets into the 128 bytes of RAM: 0x00 is the processor's 0x80.
#pragma once
#include "platform.h"

namespace console {

// What is known of a game after a frame.
struct Rules {
  i32 score;             // points from which the next reward is reckoned; 0 where a game needs none
  i32 reward;            // of the frame
  i32 lives;             // as ALE counts them, which in some games means spare lives
  i32 over;              // 1: the game is over
  i32 memory[6];         // an odd game's own (odd_games.h)
};

CONSOLE_FN i32 signed_byte(i32 value) { return i8(u8(value)); }

struct Ram {
  const u8* bytes;       // 128 bytes

  CONSOLE_FN i32 operator[](i32 at) const { return bytes[at]; }
  CONSOLE_FN i32 low(i32 at) const { return bytes[at] & 15; }
  CONSOLE_FN i32 high(i32 at) const { return bytes[at] >> 4; }
  CONSOLE_FN i32 low3(i32 at) const { return bytes[at] & 7; }
  CONSOLE_FN i32 bit(i32 at, i32 number) const { return bytes[at] >> number & 1; }
  CONSOLE_FN i32 signed_at(i32 at) const { return signed_byte(bytes[at]); }

  // Numbers in BCD, highest byte first.
  CONSOLE_FN i32 bcd(i32 at) const { return 10 * high(at) + low(at); }
  CONSOLE_FN i32 bcd(i32 hundreds, i32 ones) const { return 100 * bcd(hundreds) + bcd(ones); }
  CONSOLE_FN i32 bcd(i32 myriads, i32 hundreds, i32 ones) const {
    return 100 * bcd(myriads, hundreds) + bcd(ones);
  }

  // Low halves of `count` bytes from the ones on, where a 10 is drawn as a blank and counts as 0.
  CONSOLE_FN i32 digits(i32 ones, i32 count) const {
    i32 value = 0;
    for (i32 k = count - 1; k >= 0; k--) value = 10 * value + blank_is_zero(low(ones + k));
    return value;
  }
  CONSOLE_FN static i32 blank_is_zero(i32 digit) { return digit == 10 ? 0 : digit; }
};

}  // namespace console
