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

// The first three bytes of a ROM's place, and a fourth that does not matter.
CONSOLE_INLINE u32 three_bytes(const u8* place) {
#if CONSOLE_GPU
  return place[0] | u32(place[1]) << 8 | u32(place[2]) << 16;
#else
  u32 word;
  std::memcpy(&word, place, 4);
  return word;
#endif
}

// A byte of a program wherever it lies: in the cartridge, in RAM, or what the chips put on the bus.
CONSOLE_NOINLINE CONSOLE_FN u8 fetch_anywhere(Machine& m, const Board& board, const Canvas& canvas, u32 address,
                                              i32 cycle) {
  address &= 0xFFFF;
  if (address & 0x1000) return read_cartridge(m.cartridge, board, address, cycle);
  if ((address & 0x280) == 0x80) return m.ram[address & 0x7F];
  m.frame.cycle = cycle;
  return address & 0x80 ? read_riot(m.ports, address, cycle)
                        : read_register(m.video, m.frame, m.ports, board, canvas, address, 0);
}

// An instruction of which each byte is fetched by itself, its operand at the cycle at which it ends.
CONSOLE_NOINLINE CONSOLE_FN u32 scattered_bytes(Machine& m, const Board& board, const Canvas& canvas, u32 pc,
                                                i32 cycle) {
  const u32 opcode = fetch_anywhere(m, board, canvas, pc, cycle);
  u32 bytes = opcode;
  cycle += OPCODES.row[opcode].cycles;
  for (u32 k = 1; k < OPCODES.row[opcode].length; k++)
    bytes |= u32(fetch_anywhere(m, board, canvas, pc + k, cycle)) << 8 * k;
  return bytes;
}

// The processor at work: its registers in local variables, beside all that it reaches. PLAIN: the cartridge
// is 4K of ROM (2K of it are there twice), and `bank`, `sliced` and `plain` are not looked at.
template <bool PLAIN>
struct Core {
  Machine& m;
  const Board& board;
  const Canvas& canvas;
  const u8* rom;
  PlainRange plain;
  bool sliced;
  u32 bank;              // place in the ROM of the 4K that are there, unless sliced
  i32 cycle;
  i32 left;              // instructions that this call may still run; 0 once the frame has ended
  u32 pc, nz, carry, overflow, decimal, interrupt;
  u8 a, x, y, sp;

  CONSOLE_INLINE Core(Machine& machine, const Board& b, const Canvas& c)
      : m(machine), board(b), canvas(c), rom(b.rom), plain(plain_range(b.cartridge)),
        sliced(is_sliced(b.cartridge)), bank(machine.cartridge.window[0]), cycle(machine.frame.cycle),
        left(MAX_INSTRUCTIONS), pc(machine.cpu.pc), nz(machine.cpu.nz), carry(machine.cpu.carry),
        overflow(machine.cpu.overflow), decimal(machine.cpu.decimal), interrupt(machine.cpu.interrupt),
        a(machine.cpu.a), x(machine.cpu.x), y(machine.cpu.y), sp(machine.cpu.sp) {}
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
    if (PLAIN) return rom[address & 0xFFF];
    const u32 offset = address & 0xFFF;
    if (offset - plain.first < plain.span) return rom[place_of(address, offset)];
    const u8 byte = read_cartridge(m.cartridge, board, address, cycle);
    bank = m.cartridge.window[0];
    return byte;
  }
  CONSOLE_INLINE u32 place_of(u32 address, u32 offset) const {
    if (sliced) return m.cartridge.window[window_of(address)] + (offset & 0x3FF);
    return bank + offset;
  }
  // A byte of the program, which may lie anywhere.
  CONSOLE_INLINE u8 fetch(u32 address) {
    if (address & 0x1000) return read_code(address);
    const u8 byte = fetch_anywhere(m, board, canvas, address, cycle);
    bank = m.cartridge.window[0];
    return byte;
  }
  // An instruction's bytes, the opcode lowest. In plain ROM they are loaded at once: no access there has
  // an effect. Elsewhere each byte is fetched by itself, at the cycle at which the instruction ends.
  CONSOLE_INLINE u32 instruction() {
    const u32 offset = (pc & 0x1FFF) - 0x1000;
    if (PLAIN) {
      if (offset < 0xFFE) return three_bytes(rom + offset);
    } else if (offset - plain.first < plain.span - 2 && !(sliced && (offset & 0x3FF) >= 0x3FE)) {
      return three_bytes(rom + place_of(pc, offset));
    }
    const u32 bytes = scattered_bytes(m, board, canvas, pc, cycle);
    bank = m.cartridge.window[0];
    return bytes;
  }

  // `waits`: a write to WSYNC halts the processor.
  CONSOLE_INLINE void write_video(u32 address, u8 value, bool waits) {
    m.frame.cycle = cycle;
    const u32 reg = address & 63;
    if (reg == WSYNC) {
      if (!waits) return;
      wait_for_line(m.video, m.frame, board);
      cycle = m.frame.cycle;
      if (m.frame.ended) left = 0;
      return;
    }
    if (note_write(m.video, m.frame, board, reg, value))
      write_register(m.video, m.frame, m.ports, board, canvas, reg, value);
    if (m.frame.ended) left = 0;
  }
  CONSOLE_INLINE void write_zero_page(u32 address, u8 value, bool waits = true) {
    if (address & 0x80) m.ram[address & 0x7F] = value;
    else write_video(address, value, waits);
  }
  CONSOLE_INLINE void write(u32 address, u8 value) {
    if (address & 0x1000) {
      if (PLAIN) return;
      write_cartridge(m.cartridge, board, address, value);
      bank = m.cartridge.window[0];
    }
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
  CONSOLE_INLINE u32 effective_address(Op op, u32 operand, u8& bus) {
    u32 address = operand & 0xFFFF, indexed = 0;
    bus = u8(operand);
    switch (op.mode) {
      case ZERO_PAGE: return bus;
      case ZERO_PAGE_X: return (bus + x) & 255;
      case ZERO_PAGE_Y: return (bus + y) & 255;
      case ABSOLUTE: case ABSOLUTE_X: case ABSOLUTE_Y: case INDIRECT: {
        bus = u8(operand >> 8);
        if (op.mode == ABSOLUTE) return address;
        if (op.mode == INDIRECT) {
          const u8 target = bus = read(address, bus);
          return target | u32(read((address & 0xFF00) | ((address + 1) & 255), bus)) << 8;
        }
        indexed = address + (op.mode == ABSOLUTE_X ? x : y);
        break;
      }
      case INDEXED_INDIRECT: case INDIRECT_INDEXED: {
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

  // Runs one instruction, given its bytes.
  template <class Op>
  CONSOLE_INLINE void execute(Op op, u32 opcode, u32 bytes) {
    const u32 operand = bytes >> 8;
    left--;
    cycle += op.cycles;
    pc = (pc + op.length) & 0xFFFF;
    u8 bus = 0, v = 0;
    u32 address = 0;
    if (op.mode == IMMEDIATE) v = u8(operand);
    else if (op.mode == ACCUMULATOR) v = a;
    else if (op.mode != IMPLIED) address = effective_address(op, operand, bus);
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
        push(u8(pc >> 8));
        push(u8(pc), false);
        pc = (operand & 255) | u32(fetch(pc)) << 8;
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
  static CONSOLE_NOINLINE void run(Machine& m, const Board& board, const Canvas& canvas) {
    Core core(m, board, canvas);
#if CONSOLE_TABLE_DECODE
    while (core.left > 0) {
      const u32 bytes = core.instruction();
      core.execute(OPCODES.row[bytes & 255], bytes & 255, bytes);
    }
#else
    u32 bytes = 0;
#define EACH_16(f, h) f(0x##h##0) f(0x##h##1) f(0x##h##2) f(0x##h##3) f(0x##h##4) f(0x##h##5) f(0x##h##6) f(0x##h##7) \
    f(0x##h##8) f(0x##h##9) f(0x##h##A) f(0x##h##B) f(0x##h##C) f(0x##h##D) f(0x##h##E) f(0x##h##F)
#define EACH_256(f) EACH_16(f, 0) EACH_16(f, 1) EACH_16(f, 2) EACH_16(f, 3) EACH_16(f, 4) EACH_16(f, 5) EACH_16(f, 6) \
    EACH_16(f, 7) EACH_16(f, 8) EACH_16(f, 9) EACH_16(f, A) EACH_16(f, B) EACH_16(f, C) EACH_16(f, D) EACH_16(f, E) \
    EACH_16(f, F)
#if defined(__GNUC__)
    // Each instruction jumps to the next by itself: the branch predictor tells them apart better so.
#define LABEL(k) &&opcode_##k,
#define INSTRUCTION(k) opcode_##k: core.execute(FixedOpcode<k>{}, k, bytes); if (core.left <= 0) goto done; \
    bytes = core.instruction(); goto *labels[bytes & 255];
    static const void* const labels[256] = {EACH_256(LABEL)};
    bytes = core.instruction();
    goto *labels[bytes & 255];
    EACH_256(INSTRUCTION)
  done:
#undef INSTRUCTION
#undef LABEL
#else
#define INSTRUCTION(k) case k: core.execute(FixedOpcode<k>{}, k, bytes); break;
    while (core.left > 0) {
      bytes = core.instruction();
      switch (bytes & 255) { EACH_256(INSTRUCTION) default: break; }
    }
#undef INSTRUCTION
#endif
#undef EACH_256
#undef EACH_16
#endif
    core.put_back();
  }
};

}  // namespace console
