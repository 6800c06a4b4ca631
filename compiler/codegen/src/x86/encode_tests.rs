//! Every vector instruction with a legacy encoding, in functions with more values than it can name registers for.

use iced_x86::{EncodingKind, OpCodeOperandKind as Kind};
use regalloc2::VReg;

use super::*;
use crate::x86::encodings::OPCODES;

/// The operands of an encoding, with registers from `next`; `None` if instruction selection cannot express them.
fn operands(kinds: &[Kind], mut next: impl FnMut(RegClass) -> VReg) -> Option<Vec<Op>> {
    use Kind::*;
    let mut made = Vec::new();
    for (n, &kind) in kinds.iter().enumerate() {
        let (class, view) = match kind {
            xmm_or_mem | xmm_reg | xmm_rm | xmm_vvvv | xmm_is4 => (RegClass::Float, View::X),
            ymm_or_mem | ymm_reg | ymm_rm | ymm_vvvv | ymm_is4 => (RegClass::Float, View::Y),
            r32_or_mem | r32_reg | r32_rm | r32_vvvv => (RegClass::Int, View::D),
            r64_or_mem | r64_reg | r64_rm | r64_vvvv => (RegClass::Int, View::Q),
            mem => {
                made.push(Op::Mem(Mem { base: Base::Frame, index: Option::None, disp: 0 }));
                continue;
            }
            imm8 => {
                made.push(Op::Imm(1));
                continue;
            }
            _ => return Option::None,
        };
        let v = next(class);
        made.push(if n == 0 { Op::Def(v, view) } else { Op::Use(v, view) });
    }
    Some(made)
}

/// A function that loads more vectors than legacy encodings can name, applies the instruction to the last, and stores
/// all.
fn among_many(mnemonic: Mnemonic, kinds: &[Kind]) -> Option<VirtualCode> {
    const LIVE: usize = 28;
    let mut code = VirtualCode::default();
    code.block();
    let room = code.room(64 * LIVE as i32);
    let at = |n: usize| Op::Mem(Mem { disp: room.disp + 64 * n as i32, ..room });
    let mut vectors: Vec<VReg> = (0..LIVE).map(|_| code.vreg(RegClass::Float)).collect();
    let mut insts: Vec<Inst> =
        vectors.iter().enumerate().map(|(n, &v)| Inst::new(Mnemonic::Vmovups, [Op::Def(v, View::Y), at(n)])).collect();
    let (mut used, mut general) = (0, Vec::new());
    let ops = operands(kinds, |class| {
        if class == RegClass::Float {
            used += 1;
            vectors[LIVE - used]
        } else {
            general.push(code.vreg(RegClass::Int));
            general[general.len() - 1]
        }
    })?;
    if used == 0 {
        return None;
    }
    // A written register is a separate value.
    let mut ops = ops;
    let mut wrote = None;
    if let Some(Op::Def(v, _)) = ops.first_mut() {
        if v.class() == RegClass::Float {
            *v = code.vreg(RegClass::Float);
            vectors.push(*v);
        }
        wrote = Some(*v);
    }
    for &v in general.iter().filter(|v| Some(**v) != wrote) {
        insts.push(Inst::new(Mnemonic::Mov, [Op::Def(v, View::Q), Op::Imm(1)]));
    }
    insts.push(Inst::new(mnemonic, ops));
    insts.extend(vectors.iter().enumerate().map(|(n, &v)| {
        let to = Op::Mem(Mem { disp: room.disp + 64 * (n % LIVE) as i32, ..room });
        Inst::new(Mnemonic::Vmovups, [to, Op::Use(v, View::Y)])
    }));
    code.blocks[0].insts = insts;
    Some(code)
}

#[test]
fn older_encodings_get_registers_that_they_can_name() {
    let level = Level { avx512: true, widest: View::Z, checked: true };
    let (mut low, mut all) = (Vec::new(), 0);
    for ((mnemonic, family), known) in OPCODES.iter() {
        if *family != EncodingKind::VEX as u8 {
            continue;
        }
        for (opcode, kinds) in known {
            let Some(code) = among_many(*mnemonic, kinds) else { continue };
            assemble(&code, level).unwrap_or_else(|e| panic!("{opcode:?}: {e}"));
            all += 1;
            if code.blocks[0].insts.iter().any(only_low) {
                low.push(*mnemonic);
            }
        }
    }
    assert!(all > 500, "{all} encodings");
    for without in [Mnemonic::Vperm2f128, Mnemonic::Vblendps, Mnemonic::Vpmovmskb, Mnemonic::Vpsignb] {
        assert!(low.contains(&without), "{without:?} has no other encoding");
    }
    for with in [Mnemonic::Vaddps, Mnemonic::Vpshufb, Mnemonic::Vmovups] {
        assert!(!low.contains(&with), "{with:?} has one");
    }
}
