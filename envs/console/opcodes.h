// What the 256 opcodes of the 6507 mean: operation, addressing mode, access and cycles.
//
// Facts (the published tables of the NMOS 6502, undocumented opcodes included; checked against ALE for all
// opcodes): an opcode is aaabbbcc. cc = 1 are the eight accumulator operations and cc = 3 the same joined
// with the shifts of cc = 2, each with the eight modes of bbb; cc = 0 and 2 have tables of their own. ALE
// counts 4 cycles for LAX zp (A7), where the chip takes 3.
#pragma once
#include "platform.h"

namespace console {

enum Operation : u8 {
  ORA, AND, EOR, ADC, STA, LDA, CMP, SBC, SLO, RLA, SRE, RRA, SAX, LAX, DCP, ISB, ANC, ASR, ARR, ANE, LXA, SBX,
  SHA, SHS, LAS, ASL, ROL, LSR, ROR, STX, LDX, DEC, INC, SHX, SHY, TXA, TAX, DEX, NOP, TXS, TSX, JAM, BRK, JSR,
  RTI, RTS, LDY, CPY, CPX, BIT, STY, PHP, PLP, PHA, PLA, DEY, TAY, INY, INX, JMP, BRANCH, CLC, SEC, CLI, SEI,
  TYA, CLV, CLD, SED
};
enum Mode : u8 {
  IMPLIED, IMMEDIATE, ZERO_PAGE, ZERO_PAGE_X, ZERO_PAGE_Y, ABSOLUTE, ABSOLUTE_X, ABSOLUTE_Y, INDEXED_INDIRECT,
  INDIRECT_INDEXED, INDIRECT, ACCUMULATOR
};
enum Access : u8 { NO_ACCESS = 0, READ = 1, WRITE = 2, READ_WRITE = 3 };

constexpr Operation operation_of(u32 opcode) {
  const u32 a = opcode >> 5, b = opcode >> 2 & 7, c = opcode & 3;
  if (c == 1) return opcode == 0x89 ? NOP : Operation(ORA + a);
  if (c == 3) {
    constexpr Operation immediate[8] = {ANC, ANC, ASR, ARR, ANE, LXA, SBX, SBC};
    if (b == 2) return immediate[a];
    if (a == 4) return b == 4 || b == 7 ? SHA : b == 6 ? SHS : SAX;
    if (a == 5 && b == 6) return LAS;
    return Operation(SLO + a);
  }
  if (c == 2) {
    constexpr Operation shift[8] = {ASL, ROL, LSR, ROR, STX, LDX, DEC, INC};
    constexpr Operation transfer[4] = {TXA, TAX, DEX, NOP};
    if (b == 0) return a < 4 ? JAM : a == 5 ? LDX : NOP;
    if (b == 4) return JAM;
    if (b == 6) return a == 4 ? TXS : a == 5 ? TSX : NOP;
    if (b == 2 && a >= 4) return transfer[a - 4];
    if (opcode == 0x9E) return SHX;
    return shift[a];
  }
  constexpr Operation column0[8] = {BRK, JSR, RTI, RTS, NOP, LDY, CPY, CPX};
  constexpr Operation column1[8] = {NOP, BIT, NOP, NOP, STY, LDY, CPY, CPX};
  constexpr Operation column2[8] = {PHP, PLP, PHA, PLA, DEY, TAY, INY, INX};
  constexpr Operation column6[8] = {CLC, SEC, CLI, SEI, TYA, CLV, CLD, SED};
  switch (b) {
    case 0: return column0[a];
    case 1: return column1[a];
    case 2: return column2[a];
    case 3: return a == 2 || a == 3 ? JMP : column1[a];
    case 4: return BRANCH;
    case 5: return a == 4 ? STY : a == 5 ? LDY : NOP;
    case 6: return column6[a];
    default: return a == 4 ? SHY : a == 5 ? LDY : NOP;
  }
}

constexpr Mode mode_of(u32 opcode) {
  const u32 a = opcode >> 5, b = opcode >> 2 & 7, c = opcode & 3;
  const bool by_y = (c & 2) && (a == 4 || a == 5);  // X and the registers joined with it are indexed by Y
  const Operation op = operation_of(opcode);
  if (c & 1) {
    constexpr Mode modes[8] = {INDEXED_INDIRECT, ZERO_PAGE, IMMEDIATE, ABSOLUTE,
                               INDIRECT_INDEXED, ZERO_PAGE_X, ABSOLUTE_Y, ABSOLUTE_X};
    const Mode mode = modes[b];
    return by_y && mode == ZERO_PAGE_X ? ZERO_PAGE_Y : by_y && mode == ABSOLUTE_X ? ABSOLUTE_Y : mode;
  }
  if (opcode == 0x6C) return INDIRECT;
  if (op == BRANCH) return IMMEDIATE;
  switch (b) {
    case 0: return (c == 0 && a < 4) || op == JAM ? IMPLIED : IMMEDIATE;
    case 1: return ZERO_PAGE;
    case 2: return c == 2 && a < 4 ? ACCUMULATOR : IMPLIED;
    case 3: return ABSOLUTE;
    case 5: return by_y ? ZERO_PAGE_Y : ZERO_PAGE_X;
    case 7: return by_y ? ABSOLUTE_Y : ABSOLUTE_X;
    default: return IMPLIED;
  }
}

constexpr Access access_of(u32 opcode) {
  const Operation op = operation_of(opcode);
  const Mode mode = mode_of(opcode);
  if (mode == IMPLIED || mode == ACCUMULATOR || op == JMP || op == JSR) return NO_ACCESS;
  switch (op) {
    case STA: case STX: case STY: case SAX: case SHA: case SHX: case SHY: case SHS: return WRITE;
    case ASL: case ROL: case LSR: case ROR: case DEC: case INC: case SLO: case RLA: case SRE: case RRA:
    case DCP: case ISB: return READ_WRITE;
    default: return READ;
  }
}

// Bytes that are fetched before anything else happens. JSR fetches its third byte after its pushes.
constexpr u8 length_of(u32 opcode) {
  const Operation op = operation_of(opcode);
  const Mode mode = mode_of(opcode);
  if (op == JSR || op == BRK) return 2;
  if (mode == IMPLIED || mode == ACCUMULATOR) return 1;
  return mode == ABSOLUTE || mode == ABSOLUTE_X || mode == ABSOLUTE_Y || mode == INDIRECT ? 3 : 2;
}

constexpr u8 cycles_of(u32 opcode) {
  const Operation op = operation_of(opcode);
  const Mode mode = mode_of(opcode);
  const Access access = access_of(opcode);
  switch (op) {
    case BRK: return 7;
    case JSR: case RTS: case RTI: return 6;
    case PHA: case PHP: return 3;
    case PLA: case PLP: return 4;
    case JMP: return mode == INDIRECT ? 5 : 3;
    default: break;
  }
  if (opcode == 0xA7) return 4;
  constexpr u8 reading[12] = {2, 2, 3, 4, 4, 4, 4, 4, 6, 5, 5, 2};
  const bool indexed = mode == ABSOLUTE_X || mode == ABSOLUTE_Y || mode == INDIRECT_INDEXED;
  const u8 more = access == WRITE ? indexed : access == READ_WRITE ? 2 + indexed : 0;
  return u8(reading[mode] + more);
}

// An opcode that the compiler knows: one body of code for each.
template <u32 OPCODE>
struct FixedOpcode {
  static constexpr u32 opcode = OPCODE;
  static constexpr Operation operation = operation_of(OPCODE);
  static constexpr Mode mode = mode_of(OPCODE);
  static constexpr Access access = access_of(OPCODE);
  static constexpr u8 length = length_of(OPCODE);
  static constexpr u8 cycles = cycles_of(OPCODE);
};

// An opcode looked up in a table: one body for all, for the GPU, whose lanes then share what is alike. It is
// one word, as the lanes of a GPU load different ones at a time.
struct TableOpcode {
  u32 operation : 8, mode : 8, cycles : 8, access : 4, length : 4;
};
struct OpcodeTable { TableOpcode row[256]; };
constexpr OpcodeTable make_opcode_table() {
  OpcodeTable table{};
  for (u32 k = 0; k < 256; k++) {
    TableOpcode& row = table.row[k];
    row.operation = operation_of(k);
    row.mode = mode_of(k);
    row.cycles = cycles_of(k);
    row.access = access_of(k);
    row.length = length_of(k);
  }
  return table;
}

CONSOLE_CONSTANT OpcodeTable OPCODES = make_opcode_table();

}  // namespace console
