// Random ROMs for the console: noise, and programs that make frames and do much to the chips in between.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <vector>

#include "environment.h"

namespace console {

struct Dice {
  CounterRandom random;
  u32 below(u32 bound) { return next_random(random) % bound; }
  i32 between(i32 low, i32 high) { return low + i32(below(u32(high - low + 1))); }
  bool one_in(u32 times) { return below(times) == 0; }
  u8 byte() { return u8(next_random(random)); }
  u8 one_of(std::initializer_list<u8> values) { return values.begin()[below(u32(values.size()))]; }
  void fill(u8* bytes, size_t count) {
    for (size_t k = 0; k < count; k++) bytes[k] = byte();
  }
};

// Writes a program that makes frames and does much to the chips in between.
class Assembler {
 public:
  Assembler(Dice& dice, u32 origin) : dice_(dice), origin_(origin) {}

  // `size`: bytes after which the last phrase begins; at most 40 come on top.
  const std::vector<u8>& write(size_t size) {
    put(0x78, 0xD8, 0xA2, 0xFF, 0x9A);                          // the stack at the end of RAM
    put(0xA9, 0x00, 0xA2, 0x80, 0x95, 0x00, 0xE8, 0xD0, 0xFB);  // RAM of zeros
    const u32 top = here();
    put(0xA9, 2, 0x85, 0, 0x85, 2, 0x85, 2, 0x85, 2, 0xA9, 0, 0x85, 0, 0x85, 1);  // VSYNC
    put(0xA9, dice_.between(1, 6), 0x85, 0xF0);                 // turns of the loop
    const u32 loop = here();
    while (bytes_.size() < size) write_phrase();
    put(0xA2, 0xFF, 0x9A, 0xC6, 0xF0, 0xF0, 3);
    put(0x4C, loop, loop >> 8, 0x4C, top, top >> 8);
    return bytes_;
  }

 private:
  template <class... Bytes>
  void put(Bytes... bytes) {
    (bytes_.push_back(u8(bytes)), ...);
  }
  void wait(u32 cycles) { bytes_.insert(bytes_.end(), cycles / 2, 0xEA); }
  u32 here() const { return origin_ + u32(bytes_.size()); }
  u8 ram() { return u8(dice_.between(0xC0, 0xEE)); }

  void write_phrase() {
    const u32 kind = dice_.below(100);
    if (kind < 55) touch_video();
    else if (kind < 70) touch_ports();
    else if (kind < 76) touch_cartridge();
    else compute();
  }

  void touch_video() {
    const u32 kind = dice_.below(20);
    if (kind < 15) {
      const u8 value = dice_.one_in(2)
                           ? dice_.byte()
                           : dice_.one_of({0x00, 0x02, 0xFF, 0x70, 0x60, 0x80, 0x05, 0x07, 0x35});
      const u8 reg = dice_.one_in(3) ? dice_.one_of({0x04, 0x05, 0x10, 0x11, 0x2A, 0x1B, 0x1C, 0x0A})
                                     : u8(dice_.between(0x04, 0x2D));
      put(0xA9, value, 0x85, reg);
    } else if (kind < 16) {  // the star effect, or nearly
      put(0xA9, dice_.one_of({0x70, 0x60}), 0x85, 0x22, 0x85, 0x02, 0x85, 0x2A);
      wait(u32(dice_.between(16, 21)));
      put(0xA9, 0x60, 0x85, 0x22);
    } else if (kind < 18) {  // an object placed somewhere in the line
      put(0x85, 0x02);
      wait(dice_.below(60));
      if (dice_.one_in(2)) put(0x85, dice_.one_of({0x2A, 0x2A, 0x10, 0x11, 0x12, 0x13, 0x14}));
    } else if (kind < 19) {
      put(0xA9, dice_.one_of({0, 0, 0, 2, 0x80}), 0x85, 0x01);
    } else {  // shifted in place
      put(0x46, dice_.one_of({0x10, 0x12, 0x2A, 0x0D, 0x1B}));
    }
  }

  void touch_ports() {
    const u32 kind = dice_.below(5);
    if (kind == 0) put(0xA9, dice_.byte(), 0x8D, 0x94 + dice_.below(4), 0x02);          // timer
    else if (kind == 1) put(0xAD, 0x80 + dice_.below(8), 0x02, 0x85, ram());
    else if (kind == 2) put(0xAD, 0x84, 0x02, 0xD0, 0xFB);                              // wait
    else if (kind == 3) put(0xA5, dice_.below(16), 0x85, ram());                        // collisions
    else put(0xA2, dice_.one_of({0x00, 0x03, 0x06, 0x1E}), 0x9A, 0x68, 0x08, 0xA2, 0xFF, 0x9A);
  }

  // Hot spots, and the first bytes, where RAM or a chip may lie.
  void touch_cartridge() {
    const u32 offset = dice_.one_in(2) ? dice_.below(dice_.one_in(2) ? 0x80 : 0x100) : 0xFE0 + dice_.below(0x20);
    put(dice_.one_of({0xAD, 0x8D, 0xCD, 0xEE, 0xBD, 0x9D}), offset, 0xF0 | offset >> 8);
  }

  void compute() {
    const u32 kind = dice_.below(8);
    if (kind == 0) {
      put(dice_.one_of({0x07, 0x27, 0x47, 0x67, 0xC7, 0xE7, 0x06, 0x26, 0x46, 0x66, 0xC6, 0xE6}), ram());
    } else if (kind == 1) {
      put(dice_.one_of({0x09, 0x29, 0x49, 0x69, 0xE9, 0xC9, 0xE0, 0xC0, 0x0B, 0x4B, 0x6B, 0xCB, 0x8B, 0xAB}),
          dice_.byte());
    } else if (kind == 2) {
      put(dice_.one_of({0x05, 0x25, 0x45, 0x65, 0xE5, 0xC5, 0xE4, 0x24, 0xA7, 0xB7, 0x04, 0x55, 0xF5}), ram());
    } else if (kind == 3) {
      put(dice_.one_of({0xB1, 0xB3, 0xA1, 0xA3, 0x71, 0xF1, 0x91, 0x93, 0x81}), ram());
    } else if (kind == 4) {
      put(dice_.one_of({0xBD, 0xB9, 0xBF, 0xBB, 0x1C, 0x7D}), dice_.byte(), dice_.byte());
    } else if (kind == 5) {
      put(0xA2, dice_.below(8), dice_.one_of({0x9C, 0x9D, 0x9E, 0x9F}), ram(), 0x00);
    } else if (kind == 6) {
      put(dice_.one_of({0x87, 0x84, 0x86, 0x85}), ram());
    } else {
      put(dice_.one_of({0xE8, 0xC8, 0xCA, 0x88, 0xAA, 0xA8, 0x8A, 0x98, 0x18, 0x38, 0xB8, 0x0A, 0x2A, 0x4A,
                        0x6A, 0xBA, 0x1A, 0xF8, 0xD8}));
    }
  }

  Dice& dice_;
  const u32 origin_;
  std::vector<u8> bytes_;
};

inline void write_programs(Dice& dice, u8 kind, std::vector<u8>& rom) {
  const u32 style = dice.below(4), bank = std::min(u32(rom.size()), u32(4096));
  if (style == 0) return;  // noise, which soon stops the processor
  if (style == 1) {        // noise that does not
    for (u8& byte : rom) if ((byte & 0x1F) == 0x12 || (byte & 0x9F) == 0x02) byte = dice.byte();
    return;
  }
  const u32 first = kind == CART_F8SC || kind == CART_F6SC ? 0x100 : kind == CART_DPC ? 0x80 : 0;
  for (u32 at = 0; at + bank <= rom.size(); at += bank) {
    const u32 origin = (kind == CART_FE && at ? 0xD000 : 0xF000) + first;
    const std::vector<u8> code = Assembler(dice, origin).write(dice.between(0x100, i32(bank) - 0x180));
    std::copy(code.begin(), code.end(), rom.begin() + at + first);
    u8* const vectors = rom.data() + at + bank - 4;
    vectors[0] = vectors[2] = u8(origin);
    vectors[1] = vectors[3] = u8(origin >> 8);
  }
}

inline std::vector<u8> random_rom(Dice& dice, u8 kind) {
  static const u32 sizes[9] = {2048, 4096, 8192, 16384, 8192, 16384, 8192, 8192, 10240};
  std::vector<u8> rom(sizes[kind] + (kind == CART_DPC ? dice.below(300) : 0));
  dice.fill(rom.data(), rom.size());
  write_programs(dice, kind, rom);
  return rom;
}

}  // namespace console
