// The 6507 processor, undocumented opcodes included.
//
// Facts (the chip's data sheet and the published descriptions of its undocumented opcodes; the exact
// behaviour from playing every game and random programs beside ALE):
// - All cycles of an instruction count before its reads and writes. There are no dummy accesses; a
//   read-modify-write writes once. Crossing a page costs a cycle on reads, and two on a branch that is taken.
// - Reads of the video chip leave the bits 0-5 of the last byte on the bus: the operand, the high byte of
//   an address or a pointer. Pulls first read the byte at the stack pointer, then increment it.
// - The stack reaches the video chip when its pointer is below 0x80.
// - Decimal mode: ADC adds the digits as they are and carries above 99; N and Z come from the result.
// - B is always pushed as 1. JMP ($xxFF) takes its high byte from $xx00; pointers in the zero page do not
//   wrap.
#pragma once
#include "opcodes.h"
#include "registers.h"

namespace console {

constexpr i32 MAX_INSTRUCTIONS = 25000;  // of one call of a frame

struct Processor {
  u16 pc;
  u16 nz;                // zero flag: the low byte is 0; negative flag: bit 7 or 15
  u8 a, x, y, sp;
  u8 carry, overflow, decimal, interrupt;
};

struct Machine {
  Processor cpu;
  Frame frame;
  Ports ports;
  Video video;
  Cartridge cartridge;
  u8 ram[RAM_SIZE];
};

// A program that runs outside the cartridge: in RAM, or on what the chips put on the bus.
CONSOLE_NOINLINE CONSOLE_FN u8 fetch_outside(Machine& m, const Board& board, const Canvas& canvas, u32 address,
                                             i32 cycle) {
  if ((address & 0x280) == 0x80) return m.ram[address & 0x7F];
  m.frame.cycle = cycle;
  return address & 0x80 ? read_riot(m.ports, address, cycle)
                        : read_register(m.video, m.frame, m.ports, board, canvas, address, 0);
}

// The processor at work: its registers in local variables, beside all that it reaches.
template <bool PLAIN>
struct Core {
  Machine& m;
  const Board& board;
  const Canvas& canvas;
  const u8* rom;
  PlainRange plain;
  u32 rom_mask;
  i32 cycle, left;
  u32 pc, nz, carry, overflow, decimal, interrupt;
  u8 a, x, y, sp;

  CONSOLE_INLINE Core(Machine& machine, const Board& b, const Canvas& c)
      : m(machine), board(b), canvas(c), rom(b.rom), plain(plain_range(b.cartridge)), rom_mask(b.rom_size - 1),
        cycle(machine.frame.cycle), left(MAX_INSTRUCTIONS), pc(machine.cpu.pc), nz(machine.cpu.nz),
        carry(machine.cpu.carry), overflow(machine.cpu.overflow), decimal(machine.cpu.decimal),
        interrupt(machine.cpu.interrupt), a(machine.cpu.a), x(machine.cpu.x), y(machine.cpu.y),
        sp(machine.cpu.sp) {}
  CONSOLE_INLINE void put_back() {
    m.frame.cycle = cycle;
    m.cpu = {u16(pc), u16(nz), a, x, y, sp, u8(carry), u8(overflow), u8(decimal), u8(interrupt)};
  }

  CONSOLE_INLINE u8 read_chip(u32 address, u8 bus) {
    m.frame.cycle = cycle;
    return address & 0x80 ? read_riot(m.ports, address, cycle)
                          : read_register(m.video, m.frame, m.ports, board, canvas, address, bus);
  }
  CONSOLE_INLINE u8 read(u32 address, u8 bus) {
    if (address & 0x1000) return read_code(address);
    if ((address & 0x280) == 0x80) return m.ram[address & 0x7F];
    return read_chip(address, bus);
  }
  CONSOLE_INLINE u8 read_zero_page(u32 address, u8 bus) {
    if (address & 0x80) return m.ram[address & 0x7F];
    m.frame.cycle = cycle;
    return read_register(m.video, m.frame, m.ports, board, canvas, address, bus);
  }
  // A byte of the cartridge.
  CONSOLE_INLINE u8 read_code(u32 address) {
    if (PLAIN) return rom[address & rom_mask];
    const u32 offset = address & 0xFFF;
    if (offset - plain.first < plain.span) return rom[m.cartridge.window[offset >> 10] + (offset & 0x3FF)];
    return read_cartridge(m.cartridge, board, address, cycle);
  }
  // A byte of the program, which may lie anywhere.
  CONSOLE_INLINE u8 fetch(u32 address) {
    if (address & 0x1000) return read_code(address);
    return fetch_outside(m, board, canvas, address, cycle);
  }
  CONSOLE_INLINE u8 next() {
    const u8 byte = fetch(pc);
    pc = (pc + 1) & 0xFFFF;
    return byte;
  }

  // `waits`: a write to WSYNC halts the processor.
  CONSOLE_INLINE void write_video(u32 address, u8 value, bool waits) {
    m.frame.cycle = cycle;
    if ((address & 63) == WSYNC) {
      if (!waits) return;
      wait_for_line(m.video, m.frame, board);
      cycle = m.frame.cycle;
      return;
    }
    write_register(m.video, m.frame, m.ports, board, canvas, address, value);
  }
  CONSOLE_INLINE void write_zero_page(u32 address, u8 value, bool waits = true) {
    if (address & 0x80) m.ram[address & 0x7F] = value;
    else write_video(address, value, waits);
  }
  CONSOLE_INLINE void write(u32 address, u8 value) {
    if (address & 0x1000) { if (!PLAIN) write_cartridge(m.cartridge, board, address, value); }
    else if ((address & 0x280) == 0x80) m.ram[address & 0x7F] = value;
    else if (address & 0x80) write_riot(m.ports, address, value, cycle);
    else write_video(address, value, true);
  }

  CONSOLE_INLINE void push(u8 value, bool waits = true) { write_zero_page(sp--, value, waits); }
  CONSOLE_INLINE u8 pull(u8& bus) { return bus = read_zero_page(++sp, bus); }
  CONSOLE_INLINE void peek(u8& bus, u8 opcode) { bus = read_zero_page(sp, opcode); }

  CONSOLE_INLINE void set_nz(u8 value) { nz = value; }
  CONSOLE_INLINE bool zero() const { return !(nz & 0xFF); }
  CONSOLE_INLINE bool negative() const { return nz & 0x8080; }
  CONSOLE_INLINE u8 status() const {
    return u8((negative() ? 0x80 : 0) | (overflow ? 0x40 : 0) | 0x30 | (decimal ? 8 : 0) | (interrupt ? 4 : 0) |
              (zero() ? 2 : 0) | (carry ? 1 : 0));
  }
  CONSOLE_INLINE void set_status(u8 byte) {
    nz = u32(byte & 0x80) << 8 | (byte & 2 ? 0 : 1);
    overflow = byte & 0x40;
    decimal = byte & 8;
    interrupt = byte & 4;
    carry = byte & 1;
  }
  CONSOLE_INLINE void compare(u8 reg, u8 value) { set_nz(u8(reg - value)); carry = reg >= value; }

  static CONSOLE_INLINE i32 decimal_value(u32 byte) { return i32((byte >> 4) * 10 + (byte & 15)); }
  static CONSOLE_INLINE u8 decimal_byte(i32 value) { return u8((value / 10 % 10) << 4 | value % 10); }
  CONSOLE_INLINE void add(u8 value) {
    const u8 before = a;
    if (!decimal) {
      const u32 sum = a + value + carry;
      carry = sum >> 8;
      a = u8(sum);
      overflow = ~(before ^ value) & (before ^ a) & 0x80;
    } else {
      const i32 sum = decimal_value(a) + decimal_value(value) + i32(carry);
      carry = sum > 99;
      a = decimal_byte((sum & 255) % 100);
      overflow = (before ^ a) & (a ^ value) & 0x80;
    }
    set_nz(a);
  }
  CONSOLE_INLINE void subtract(u8 value) {
    if (!decimal) { add(u8(~value)); return; }
    const u8 before = a;
    i32 difference = decimal_value(a) - decimal_value(value) - !carry;
    if (difference < 0) difference += 100;
    // Digits above 9 can still leave a negative number; it is read as a byte of two digits.
    a = difference < 0 ? u8(decimal_value(u32(256 + difference))) : decimal_byte(difference % 100);
    carry = before >= value + !carry;
    overflow = (before ^ a) & (a ^ value) & 0x80;
    set_nz(a);
  }
  CONSOLE_INLINE void rotate_and(u8 value) {  // ARR
    const u8 both = a & value;
    a = u8(both >> 1 | carry << 7);
    if (!decimal) {
      set_nz(a);
      overflow = (a ^ a << 1) & 0x40;
      carry = a >> 6 & 1;
      return;
    }
    nz = (carry ? 0x8000 : 0) | a;
    overflow = (both ^ a) & 0x40;
    if ((both & 15) + (both & 1) > 5) a = u8((a & 0xF0) | ((a + 6) & 15));
    carry = (both & 0xF0) + (both & 0x10) > 0x50;
    if (carry) a = u8(a + 0x60);
  }

  CONSOLE_INLINE bool condition(u32 which) const {
    switch (which) {
      case 0: return !negative();
      case 1: return negative();
      case 2: return !overflow;
      case 3: return overflow;
      case 4: return !carry;
      case 5: return carry;
      case 6: return !zero();
      default: return zero();
    }
  }

  CONSOLE_INLINE void branch(u8 offset, bool taken, bool may_wait) {
    if (!taken) return;
    const u32 target = (pc + i8(offset)) & 0xFFFF;
    const i32 cost = (target ^ pc) & 0xFF00 ? 2 : 1;
    cycle += cost;
    pc = target;
    if (may_wait && offset == 0xFB) skip_waiting(4 + 2 + cost);
  }

  // Loops of "LDA timer, BNE back" (LDX, LDY too) do nothing but wait: they are counted, not run.
  CONSOLE_INLINE void skip_waiting(i32 loop_cycles) {
    if (!(pc & 0x1000)) return;
    if (!PLAIN && ((pc & 0xFFF) - plain.first) + 5 > plain.span) return;  // no access may have an effect
    const u8 load = read_code(pc);
    if (load != 0xAD && load != 0xAE && load != 0xAC) return;
    const u8 low = read_code(pc + 1), high = read_code(pc + 2);
    if ((low & 0x85) != 0x84 || (high & 0x12) != 0x02) return;
    const TimerWait wait = timer_wait(m.ports, cycle + 4, loop_cycles, left / 2);
    if (!wait.turns) return;
    cycle += wait.turns * loop_cycles;
    left -= 2 * wait.turns;
    (load == 0xAD ? a : load == 0xAE ? x : y) = wait.value;
    set_nz(wait.value);
  }

  // Finds what an instruction works on. The cycles of crossed pages are added.
  template <class Op>
  CONSOLE_INLINE u32 effective_address(Op op, u8& bus) {
    u32 address = 0, indexed = 0;
    switch (op.mode) {
      case ZERO_PAGE: return bus = next();
      case ZERO_PAGE_X: bus = next(); return (bus + x) & 255;
      case ZERO_PAGE_Y: bus = next(); return (bus + y) & 255;
      case ABSOLUTE: case ABSOLUTE_X: case ABSOLUTE_Y: case INDIRECT: {
        if (op.operation == JSR) return 0;
        const u32 low = next();
        bus = next();
        address = low | u32(bus) << 8;
        if (op.mode == ABSOLUTE) return address;
        if (op.mode == INDIRECT) {
          const u8 target = bus = read(address, bus);
          return target | u32(read((address & 0xFF00) | ((address + 1) & 255), bus)) << 8;
        }
        indexed = address + (op.mode == ABSOLUTE_X ? x : y);
        break;
      }
      case INDEXED_INDIRECT: case INDIRECT_INDEXED: {
        bus = next();
        const u32 pointer = op.mode == INDEXED_INDIRECT ? (bus + x) & 255 : bus;
        const u8 low = read(pointer, bus);
        bus = low;
        bus = read(pointer + 1, bus);
        address = low | u32(bus) << 8;
        if (op.mode == INDEXED_INDIRECT) return address;
        indexed = address + y;
        break;
      }
      default: return 0;
    }
    if (op.access == READ && ((indexed ^ address) & 0xFF00)) cycle++;
    return indexed & 0xFFFF;
  }

  template <class Op>
  CONSOLE_INLINE bool in_zero_page(Op op) const {
    return op.mode == ZERO_PAGE || op.mode == ZERO_PAGE_X || op.mode == ZERO_PAGE_Y;
  }

  // Runs one instruction, whose opcode has been fetched.
  template <class Op>
  CONSOLE_INLINE void execute(Op op, u32 opcode) {
    cycle += op.cycles;
    u8 bus = 0, v = 0;
    u32 address = 0;
    if (op.mode == IMMEDIATE) v = next();
    else if (op.mode == ACCUMULATOR) v = a;
    else if (op.mode != IMPLIED) address = effective_address(op, bus);
    if ((op.access & READ) && op.mode != IMMEDIATE)
      v = in_zero_page(op) ? read_zero_page(address, bus) : read(address, bus);
    switch (op.operation) {
      case LDA: set_nz(a = v); break;
      case LDX: set_nz(x = v); break;
      case LDY: set_nz(y = v); break;
      case LAX: set_nz(a = x = v); break;
      case STA: v = a; break;
      case STX: v = x; break;
      case STY: v = y; break;
      case SAX: v = a & x; break;
      case ORA: set_nz(a |= v); break;
      case AND: set_nz(a &= v); break;
      case EOR: set_nz(a ^= v); break;
      case ADC: add(v); break;
      case SBC: subtract(v); break;
      case CMP: compare(a, v); break;
      case CPX: compare(x, v); break;
      case CPY: compare(y, v); break;
      case BIT: nz = (a & v) | u32(v & 0x80) << 8; overflow = v & 0x40; break;
      case INC: set_nz(++v); break;
      case DEC: set_nz(--v); break;
      case INX: set_nz(++x); break;
      case INY: set_nz(++y); break;
      case DEX: set_nz(--x); break;
      case DEY: set_nz(--y); break;
      case TAX: set_nz(x = a); break;
      case TAY: set_nz(y = a); break;
      case TXA: set_nz(a = x); break;
      case TYA: set_nz(a = y); break;
      case TSX: set_nz(x = sp); break;
      case TXS: sp = x; break;
      case CLC: carry = 0; break;
      case SEC: carry = 1; break;
      case CLI: interrupt = 0; break;
      case SEI: interrupt = 1; break;
      case CLV: overflow = 0; break;
      case CLD: decimal = 0; break;
      case SED: decimal = 1; break;
      case ASL: case SLO: carry = v >> 7; v = u8(v << 1); break;
      case LSR: case SRE: carry = v & 1; v >>= 1; break;
      case ROL: case RLA: { const u32 in = carry; carry = v >> 7; v = u8(v << 1 | in); break; }
      case ROR: case RRA: { const u32 in = carry; carry = v & 1; v = u8(v >> 1 | in << 7); break; }
      case DCP: compare(a, --v); break;
      case ISB: v++; break;
      case ANC: set_nz(a &= v); carry = a >> 7; break;
      case ASR: a &= v; carry = a & 1; set_nz(a >>= 1); break;
      case ARR: rotate_and(v); break;
      case ANE: set_nz(a = u8((a | 0xEE) & x & v)); break;
      case LXA: set_nz(a = x = u8((a | 0xEE) & v)); break;
      case SBX: { const u8 both = a & x; carry = both >= v; set_nz(x = u8(both - v)); break; }
      case LAS: set_nz(a = x = sp = sp & v); break;
      case SHA: v = u8(a & x & ((address >> 8) + 1)); break;
      case SHS: sp = a & x; v = u8(sp & ((address >> 8) + 1)); break;
      case SHX: v = u8(x & ((address >> 8) + 1)); break;
      case SHY: v = u8(y & ((address >> 8) + 1)); break;
      case BRANCH: branch(v, condition(opcode >> 5), opcode == 0xD0); break;
      case JMP: pc = address; break;
      case JSR: {
        const u8 low = next();
        push(u8(pc >> 8));
        push(u8(pc), false);
        pc = low | u32(fetch(pc)) << 8;
        break;
      }
      case RTS: {
        peek(bus, u8(opcode));
        const u8 low = pull(bus);
        pc = low | u32(pull(bus)) << 8;
        if (!PLAIN) fetch(pc);  // the read can hit a hot spot
        pc = (pc + 1) & 0xFFFF;
        break;
      }
      case BRK: {
        next();
        push(u8(pc >> 8));
        push(u8(pc), false);
        push(status(), false);
        interrupt = 1;
        const u8 low = fetch(0xFFFE);
        pc = low | u32(fetch(0xFFFF)) << 8;
        break;
      }
      case RTI: {
        peek(bus, u8(opcode));
        set_status(pull(bus));
        const u8 low = pull(bus);
        pc = low | u32(pull(bus)) << 8;
        break;
      }
      case PHA: push(a); break;
      case PHP: push(status()); break;
      case PLA: peek(bus, u8(opcode)); set_nz(a = pull(bus)); break;
      case PLP: peek(bus, u8(opcode)); set_status(pull(bus)); break;
      case JAM: pc = (pc - 1) & 0xFFFF; left = 0; break;  // the processor stops for ever
      case NOP: break;
    }
    switch (op.operation) {
      case ASL: case LSR: case ROL: case ROR: set_nz(v); break;
      case SLO: set_nz(a |= v); break;
      case RLA: set_nz(a &= v); break;
      case SRE: set_nz(a ^= v); break;
      case RRA: add(v); break;
      case ISB: subtract(v); break;
      default: break;
    }
    if (op.mode == ACCUMULATOR) a = v;
    if (op.access & WRITE) {
      if (in_zero_page(op)) write_zero_page(address, v);
      else write(address, v);
    }
  }

  // Runs until the frame ends, or MAX_INSTRUCTIONS.
  CONSOLE_INLINE void run() {
#if CONSOLE_GPU
    while (!m.frame.ended && left-- > 0) {
      const u32 opcode = next();
      execute(OPCODES.row[opcode], opcode);
    }
#else
    while (!m.frame.ended && left-- > 0) {
      const u32 opcode = next();
      switch (opcode) {
#define OPCODE_1(k) case k: execute(FixedOpcode<k>{}, k); break;
#define OPCODE_4(k) OPCODE_1(k) OPCODE_1(k + 1) OPCODE_1(k + 2) OPCODE_1(k + 3)
#define OPCODE_16(k) OPCODE_4(k) OPCODE_4(k + 4) OPCODE_4(k + 8) OPCODE_4(k + 12)
#define OPCODE_64(k) OPCODE_16(k) OPCODE_16(k + 16) OPCODE_16(k + 32) OPCODE_16(k + 48)
        OPCODE_64(0) OPCODE_64(64) OPCODE_64(128) OPCODE_64(192)
#undef OPCODE_64
#undef OPCODE_16
#undef OPCODE_4
#undef OPCODE_1
        default: break;
      }
    }
#endif
  }
};

}  // namespace console
