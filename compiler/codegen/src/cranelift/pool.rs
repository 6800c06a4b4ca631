//! Vector constants on aarch64, where a constant of four equal lanes takes up to three instructions.
//!
//! Four different constants share a register, which is one load from memory. A use of one of them copies its lane,
//! which a sum needs anyway since multiply-adds overwrite it, and which is free in a by-element multiplication.
//! Innermost loops keep their constants if there are registers for them, otherwise the shared ones.

use std::collections::HashMap;

use cranelift_codegen::ir::{ConstantData, InstBuilder, Type, Value, types};
use mcc_targets::Arch;

use super::{Translator, vector_type};
use crate::parts::part_count;
use mcc_kernel::kir::{Carried, Inst, Kernel, Stmt, Ty, Val};

/// The most registers for a loop's carried values and constants: the others are for its computations.
const HELD_REGISTERS: usize = 18;

/// Lanes of a shared register.
const LANES: usize = 4;

/// The shared registers of a kernel's constants.
#[derive(Default)]
pub(super) struct Pool {
    /// For the bits of a lane: the shared register, and the lane.
    places: HashMap<u32, (usize, u8)>,
    /// Lanes of each shared register.
    shared: Vec<[u32; LANES]>,
    /// The shared registers that the current basic block has loaded.
    pub(super) open: HashMap<usize, Value>,
}

/// Constants materialized before a loop: single ones, and shared registers.
pub(super) type Held = (HashMap<(u64, Type), Value>, HashMap<usize, Value>);

impl Pool {
    /// The constants of 32-bit lanes that take more than one instruction, if there are several.
    pub(super) fn of(kernel: &Kernel, arch: Arch) -> Pool {
        let mut pool = Pool::default();
        if arch != Arch::Aarch64 {
            return pool;
        }
        let mut lanes: Vec<u32> = kernel.insts.iter().filter_map(|(inst, ty)| lane_of(inst, *ty)).collect();
        let mut seen = std::collections::HashSet::new();
        lanes.retain(|&bits| !is_immediate(bits) && seen.insert(bits));
        if lanes.len() < 2 {
            return pool;
        }
        for (group, chunk) in lanes.chunks(LANES).enumerate() {
            // A register with equal lanes would not be a load.
            let mut all = [chunk[0], !chunk[0], 0, 1];
            all[..chunk.len()].copy_from_slice(chunk);
            pool.shared.push(all);
            pool.places.extend(chunk.iter().enumerate().map(|(lane, &bits)| (bits, (group, lane as u8))));
        }
        pool
    }

    /// Forgets a basic block's registers: others cannot use them.
    pub(super) fn leave_block(&mut self) {
        self.open.clear();
    }
}

/// The bits of a constant's lane, if it is a vector of 32-bit lanes.
fn lane_of(inst: &Inst, ty: Ty) -> Option<u32> {
    match *inst {
        _ if ty.lanes == 1 || ty.elem.is_mask() || ty.elem.bytes() != 4 => None,
        Inst::Int(c) if ty.elem.is_float() => Some((c as f32).to_bits()),
        Inst::Int(c) => Some(c as u32),
        Inst::Float(bits) => Some((f64::from_bits(bits) as f32).to_bits()),
        _ => None,
    }
}

/// Whether one instruction can make the lanes: a single byte that is not zero (or not all ones), or a short float.
fn is_immediate(bits: u32) -> bool {
    let one_byte = |v: u32| (0..4).any(|byte| v & !(0xff << (8 * byte)) == 0);
    let short_float = bits & 0x7_ffff == 0 && matches!(bits >> 25 & 0x3f, 0x20 | 0x1f);
    one_byte(bits) || one_byte(!bits) || short_float
}

impl Translator<'_> {
    /// A constant in a shared register: a copy of its lane.
    pub(super) fn pooled(&mut self, bits: u32, ty: Ty) -> Option<Value> {
        if ty.lanes == 1 || ty.elem.bytes() != 4 {
            return None;
        }
        let &(group, lane) = self.pool.places.get(&bits)?;
        let register = self.shared_register(group);
        let register = self.cast_bits(register, vector_type(ty.elem));
        Some(self.shuffle_registers(register, register, &[lane], ty.elem))
    }

    fn shared_register(&mut self, group: usize) -> Value {
        if let Some(&v) = self.pool.open.get(&group) {
            return v;
        }
        let bytes: Vec<u8> = self.pool.shared[group].iter().flat_map(|lane| lane.to_le_bytes()).collect();
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
        let v = self.b.ins().vconst(types::F32X4, handle);
        self.pool.open.insert(group, v);
        v
    }

    /// The constants of an innermost loop, materialized before it if its other values leave enough registers.
    pub(super) fn held_constants(&mut self, carried: &[Carried], body: &[Stmt]) -> Held {
        if self.x86 || body.iter().any(|s| !s.blocks().is_empty()) {
            return Held::default();
        }
        let mut used: Vec<Val> = body
            .iter()
            .flat_map(|s| match s {
                Stmt::Let(v) => self.kernel.insts[v.0 as usize].0.operands(),
                _ => s.operands(),
            })
            .filter(|&v| {
                let (inst, ty) = &self.kernel.insts[v.0 as usize];
                matches!(inst, Inst::Int(_) | Inst::Float(_)) && (ty.lanes > 1 || ty.elem.is_float())
            })
            .collect();
        used.sort_unstable();
        used.dedup();
        let state: usize = carried.iter().map(|c| part_count(self.ty(c.inner))).sum();
        if state + used.len() <= HELD_REGISTERS {
            return (used.iter().map(|&v| self.made(v)).collect(), HashMap::new());
        }
        let lanes = used.iter().filter_map(|&v| {
            let (inst, ty) = &self.kernel.insts[v.0 as usize];
            self.pool.places.get(&lane_of(inst, *ty)?).map(|place| place.0)
        });
        let mut groups: Vec<usize> = lanes.collect();
        groups.sort_unstable();
        groups.dedup();
        if state + groups.len() > HELD_REGISTERS {
            return Held::default();
        }
        (HashMap::new(), groups.into_iter().map(|group| (group, self.shared_register(group))).collect())
    }

    /// A constant's register, with the key for lookups.
    fn made(&mut self, v: Val) -> ((u64, Type), Value) {
        let (inst, ty) = &self.kernel.insts[v.0 as usize];
        let (bits, ty) = match *inst {
            Inst::Int(c) if ty.elem.is_float() => ((c as f64).to_bits(), *ty),
            Inst::Int(c) => (c as u64, *ty),
            Inst::Float(bits) => (bits, *ty),
            _ => (0, *ty),
        };
        ((bits, super::part_type(ty)), self.parts(v)[0])
    }
}
