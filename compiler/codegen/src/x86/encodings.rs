//! Selects the encoding of an instruction: the first one of its mnemonic, by family, that accepts its operands.

use std::collections::HashMap;
use std::sync::LazyLock;

use iced_x86::{
    Code as Opcode, DecoderOptions, EncodingKind, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind as Kind,
    OpKind, Register,
};

use super::machine::{Inst, Op, View};
use mcc_ir::{Error, Result};

/// An operand with its register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Register(Register, View),
    Memory(MemoryOperand, Option<View>),
    Immediate(i64),
}

impl Place {
    /// An operand that has no register yet.
    fn any(op: &Op, memory_view: Option<View>) -> Place {
        match *op {
            Op::Def(_, view) | Op::Use(_, view) | Op::Mod(_, _, view) => Place::Register(Register::None, view),
            Op::Mem(_) => Place::Memory(MemoryOperand::with_base(Register::RSP), memory_view),
            Op::Imm(c) => Place::Immediate(c),
        }
    }
}

/// The number of a vector register; 0 for others.
pub(super) fn vector_number(r: Register) -> usize {
    let first = match r as u32 {
        n if (Register::XMM0 as u32..=Register::XMM31 as u32).contains(&n) => Register::XMM0,
        n if (Register::YMM0 as u32..=Register::YMM31 as u32).contains(&n) => Register::YMM0,
        n if (Register::ZMM0 as u32..=Register::ZMM31 as u32).contains(&n) => Register::ZMM0,
        _ => r,
    };
    r as usize - first as usize
}

pub(super) type Known = HashMap<(Mnemonic, u8), Vec<(Opcode, Vec<Kind>)>>;

/// Every encoding of 64-bit mode, by mnemonic and family.
pub(super) static OPCODES: LazyLock<Known> = LazyLock::new(|| {
    let mut known = Known::new();
    for opcode in Opcode::values() {
        let info = opcode.op_code();
        // Xeon Phi has separate encodings for some mnemonics.
        if info.is_instruction() && info.mode64() && info.decoder_option() != DecoderOptions::KNC {
            let kinds = info.op_kinds().to_vec();
            known.entry((opcode.mnemonic(), info.encoding() as u8)).or_default().push((opcode, kinds));
        }
    }
    known
});

/// The first encoding of a mnemonic in a family that accepts operands of these views.
fn encoding(mnemonic: Mnemonic, family: EncodingKind, places: &[Place]) -> Option<&'static (Opcode, Vec<Kind>)> {
    let known = OPCODES.get(&(mnemonic, family as u8)).map_or(&[][..], Vec::as_slice);
    known.iter().find(|(_, kinds)| {
        kinds.len() == places.len() && kinds.iter().zip(places).all(|(&kind, place)| fits(kind, place))
    })
}

/// Whether a vector instruction has no encoding with 32 registers, so that it must use the first sixteen.
pub(super) fn only_low(inst: &Inst) -> bool {
    let places: Vec<Place> = inst.ops.iter().map(|op| Place::any(op, inst.memory_view)).collect();
    let vectors = places.iter().any(|p| matches!(p, Place::Register(_, View::X | View::Y)));
    // A register zeroed by itself is encoded as one of two instructions.
    let zero = inst.mnemonic == Mnemonic::Vpxor && places.len() == 1;
    vectors && !zero && encoding(inst.mnemonic, EncodingKind::EVEX, &places).is_none()
}

/// Whether an encoding accepts an operand.
fn fits(kind: Kind, place: &Place) -> bool {
    use Kind::*;
    match *place {
        Place::Register(_, View::B) => matches!(kind, r8_or_mem | r8_reg | r8_opcode),
        Place::Register(_, View::W) => matches!(kind, r16_or_mem | r16_reg | r16_rm | r16_opcode),
        Place::Register(_, View::D) => matches!(kind, r32_or_mem | r32_reg | r32_rm | r32_vvvv | r32_opcode),
        Place::Register(_, View::Q) => matches!(kind, r64_or_mem | r64_reg | r64_rm | r64_vvvv | r64_opcode),
        Place::Register(_, View::X) => matches!(kind, xmm_or_mem | xmm_reg | xmm_rm | xmm_vvvv | xmm_is4),
        Place::Register(_, View::Y) => matches!(kind, ymm_or_mem | ymm_reg | ymm_rm | ymm_vvvv | ymm_is4),
        Place::Register(_, View::Z) => matches!(kind, zmm_or_mem | zmm_reg | zmm_rm | zmm_vvvv),
        Place::Register(_, View::K) => matches!(kind, k_or_mem | k_reg | k_rm | k_vvvv),
        Place::Memory(_, Some(view)) => kind != mem && fits(kind, &Place::Register(Register::None, view)),
        Place::Memory(_, Option::None) => matches!(
            kind,
            mem | r8_or_mem | r16_or_mem | r32_or_mem | r64_or_mem | xmm_or_mem | ymm_or_mem | zmm_or_mem | k_or_mem
        ),
        Place::Immediate(c) => match kind {
            imm8 => (-128..256).contains(&c),
            imm8sex16 | imm8sex32 | imm8sex64 => i8::try_from(c).is_ok(),
            imm16 => (-(1 << 15)..1 << 16).contains(&c),
            imm32 => (-(1 << 31)..1 << 32).contains(&c),
            imm32sex64 => i32::try_from(c).is_ok(),
            imm64 => true,
            _ => false,
        },
    }
}

fn build(opcode: Opcode, kinds: &[Kind], places: &[Place]) -> Instruction {
    let mut made = Instruction::default();
    made.set_code(opcode);
    for (i, (&kind, place)) in kinds.iter().zip(places).enumerate() {
        let n = i as u32;
        match *place {
            Place::Register(r, _) => {
                made.set_op_kind(n, OpKind::Register);
                made.set_op_register(n, r);
            }
            Place::Memory(m, _) => {
                made.set_op_kind(n, OpKind::Memory);
                made.set_memory_base(m.base);
                made.set_memory_index(m.index);
                made.set_memory_index_scale(m.scale);
                made.set_memory_displ_size(if m.base == Register::RIP { 8 } else { displacement_size(m) });
                made.set_memory_displacement64(m.displacement as u64);
            }
            Place::Immediate(c) => {
                made.set_op_kind(
                    n,
                    match kind {
                        Kind::imm8sex16 => OpKind::Immediate8to16,
                        Kind::imm8sex32 => OpKind::Immediate8to32,
                        Kind::imm8sex64 => OpKind::Immediate8to64,
                        Kind::imm16 => OpKind::Immediate16,
                        Kind::imm32 => OpKind::Immediate32,
                        Kind::imm32sex64 => OpKind::Immediate32to64,
                        Kind::imm64 => OpKind::Immediate64,
                        _ => OpKind::Immediate8,
                    },
                );
                match kind {
                    Kind::imm64 => made.set_immediate64(c as u64),
                    Kind::imm32 | Kind::imm32sex64 => made.set_immediate32(c as u32),
                    Kind::imm16 => made.set_immediate16(c as u16),
                    _ => made.set_immediate8(c as u8),
                }
            }
        }
    }
    made
}

/// 1 lets the encoder choose the shortest displacement.
fn displacement_size(m: MemoryOperand) -> u32 {
    u32::from(m.displacement != 0)
}

/// The instruction with the first encoding of its mnemonic that accepts the operands: the shortest family first.
pub(super) fn choose(inst: &Inst, places: &[Place], mask: Register, avx512: bool) -> Result<Instruction> {
    let high = |p: &Place| matches!(p, Place::Register(r, v) if *v >= View::Z || vector_number(*r) > 15);
    let zmm = places.iter().any(|p| high(p) && !matches!(p, Place::Register(_, View::K)));
    let needs_evex = zmm || inst.evex || inst.broadcast;
    let families: &[EncodingKind] =
        if needs_evex { &[EncodingKind::EVEX] } else { &[EncodingKind::VEX, EncodingKind::Legacy, EncodingKind::EVEX] };
    for &family in families {
        if family == EncodingKind::EVEX && !avx512 {
            continue;
        }
        if let Some((opcode, kinds)) = encoding(inst.mnemonic, family, places) {
            let mut made = build(*opcode, kinds, places);
            if mask != Register::None {
                made.set_op_mask(mask);
                made.set_zeroing_masking(inst.zeroing);
            }
            made.set_is_broadcast(inst.broadcast);
            return Ok(made);
        }
    }
    Err(Error::internal(format!("x86 encoder: no encoding of {inst:?} with {places:?}")))
}
