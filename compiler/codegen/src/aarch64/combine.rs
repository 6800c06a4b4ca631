//! Combines memory accesses of a block before registers are allocated:
//!
//! - Two loads, or stores, of neighbouring places become one of a pair.
//! - An access whose base is then advanced by a constant advances it itself, and the accesses after it reach back.

use std::collections::HashMap;

use regalloc2::VReg;

use super::encoding::encode;
use super::inst::{Code, End, Inst, Reg, VirtualCode};
use super::memory::{Mem, accessed};
use super::operand::Size;
use super::table::Row;

/// The most instructions between two accesses of a pair: further ones would keep registers occupied.
const NEAR: usize = 8;

/// Combines the accesses of all blocks.
pub fn combine(code: &mut VirtualCode) {
    code.blocks.iter_mut().for_each(|block| pair(&mut block.insts));
    let uses = count_uses(code);
    for block in &mut code.blocks {
        join_sums(&mut block.insts, &uses);
        advance(&mut block.insts, &uses);
    }
}

/// Number of uses of each register, by instructions and as values that jumps pass.
fn count_uses(code: &VirtualCode) -> HashMap<VReg, u32> {
    let mut uses = HashMap::new();
    for block in &code.blocks {
        let read = block.insts.iter().flat_map(|code| match code {
            Code::Inst(inst) => inst.reads().collect::<Vec<_>>(),
            Code::Arguments(_) => Vec::new(),
        });
        let passed: &[VReg] = match &block.end {
            End::Jump(_, values) => values,
            End::Branch(..) | End::Return => &[],
        };
        read.chain(passed.iter().copied()).for_each(|v| *uses.entry(v).or_default() += 1);
    }
    uses
}

/// A load or store of a whole vector register at a constant offset.
fn single(code: &Code) -> Option<(Row, Inst, Mem)> {
    let Code::Inst(inst) = code else { return None };
    let row = match inst.row {
        Row::LdrV | Row::LdurV => Row::LdpV,
        Row::StrV | Row::SturV => Row::StpV,
        _ => return None,
    };
    let whole = inst.size >= Size::S;
    whole.then(|| accessed(inst)).flatten().map(|m| (row, inst.clone(), m))
}

fn pair(insts: &mut Vec<Code>) {
    let mut n = 0;
    while n < insts.len() {
        let Some((row, first, m)) = single(&insts[n]) else {
            n += 1;
            continue;
        };
        if let Some((partner, joined)) = partner(insts, n, row, &first, m) {
            // A load moves up to the first one, a store down to the second.
            let (kept, dropped) = if row == Row::LdpV { (n, partner) } else { (partner, n) };
            insts[kept] = Code::Inst(joined);
            insts.remove(dropped);
            if row == Row::StpV {
                continue;
            }
        }
        n += 1;
    }
}

/// The instruction to join with instruction `n`, and both as one.
fn partner(insts: &[Code], n: usize, row: Row, first: &Inst, m: Mem) -> Option<(usize, Inst)> {
    let loads = row == Row::LdpV;
    for (at, code) in insts.iter().enumerate().skip(n + 1).take(NEAR) {
        let Code::Inst(inst) = code else { return None };
        if let Some((other_row, other, place)) = single(code)
            && other_row == row
            && other.size == first.size
            && place.base == m.base
            && (place.offset - m.offset).abs() == first.size.bytes()
        {
            let (low, high) = if m.offset < place.offset { (first, &other) } else { (&other, first) };
            let joined = Inst::new(row, first.size, [low.regs[0], high.regs[0], first.regs[1]], [low.imms[0], 0]);
            let fits = encode(row, first.size, &[0, 1, 2], joined.imms).is_ok();
            // A store's register must exist where the pair is: it does, since the pair is at the second.
            return fits.then_some((at, joined));
        }
        // Loads must not pass stores, and stores neither loads nor stores.
        if inst.writes_memory() || !loads && inst.reads_memory() {
            return None;
        }
    }
    None
}

/// Replaces a sum of a sum and a constant by a sum of the first operand, where nothing else uses the inner sum.
fn join_sums(insts: &mut Vec<Code>, uses: &HashMap<VReg, u32>) {
    let mut n = 0;
    while n < insts.len() {
        let outer = advance_at(insts, n);
        let inner = outer.and_then(|outer| {
            let inner = (0..n).rev().filter_map(|m| advance_at(insts, m)).find(|inner| inner.to == outer.from)?;
            let by = inner.by + outer.by;
            let single = uses.get(&inner.to) == Some(&1) && (0..4096).contains(&by);
            single.then(|| (inner.at, sum(outer.to, inner.from, by)))
        });
        match inner {
            Some((at, joined)) => {
                insts[n] = Code::Inst(joined);
                insts.remove(at);
            }
            None => n += 1,
        }
    }
}

fn sum(to: VReg, from: VReg, by: i64) -> Inst {
    Inst::new(Row::AddImm, Size::D, [Reg::Def(to), Reg::Use(from)], [by, 0])
}

/// The advanced form of an access, and the offset at which it must be.
fn advancing(row: Row) -> Option<Row> {
    Some(match row {
        Row::LdrV | Row::LdurV => Row::LdrVPost,
        Row::StrV | Row::SturV => Row::StrVPost,
        Row::LdrG | Row::LdurG => Row::LdrGPost,
        Row::StrG | Row::SturG => Row::StrGPost,
        Row::LdpV => Row::LdpVPost,
        Row::StpV => Row::StpVPost,
        _ => return None,
    })
}

/// A base that a block advances.
struct Advance {
    /// The instruction that does.
    at: usize,
    from: VReg,
    to: VReg,
    by: i64,
}

fn advance(insts: &mut Vec<Code>, uses: &HashMap<VReg, u32>) {
    let mut n = 0;
    while n < insts.len() {
        if let Some(advance) = advance_at(insts, n)
            && advance_in_access(insts, &advance, uses)
        {
            insts.remove(n);
            continue;
        }
        n += 1;
    }
}

fn advance_at(insts: &[Code], at: usize) -> Option<Advance> {
    let Code::Inst(inst) = &insts[at] else { return None };
    let sign = match inst.row {
        Row::AddImm => 1,
        Row::SubImm => -1,
        _ => return None,
    };
    match inst.regs[..] {
        [Reg::Def(to), Reg::Use(from)] if inst.size == Size::D => {
            Some(Advance { at, from, to, by: sign * inst.imms[0] })
        }
        _ => None,
    }
}

/// Lets the first access at the base advance it, if all others can follow. Only if nothing else uses the base.
fn advance_in_access(insts: &mut [Code], advance: &Advance, uses: &HashMap<VReg, u32>) -> bool {
    let mut changed: Vec<(usize, Inst)> = Vec::new();
    let mut found = 1;
    for (at, code) in insts.iter().enumerate() {
        let Code::Inst(inst) = code else { continue };
        let reads = inst.reads().filter(|&v| v == advance.from).count() as u32;
        if reads == 0 || at == advance.at {
            continue;
        }
        found += reads;
        let Some(m) = accessed(inst).filter(|m| m.base == advance.from && reads == 1 && at < advance.at) else {
            return false;
        };
        let Some(next) = (match changed.is_empty() {
            true => post(inst, m, advance),
            false => moved(inst, m, advance),
        }) else {
            return false;
        };
        changed.push((at, next));
    }
    if changed.is_empty() || uses.get(&advance.from) != Some(&found) {
        return false;
    }
    for (at, inst) in changed {
        insts[at] = Code::Inst(inst);
    }
    true
}

fn post(inst: &Inst, m: Mem, advance: &Advance) -> Option<Inst> {
    let row = advancing(inst.row).filter(|_| m.offset == 0)?;
    let mut regs = inst.regs.clone();
    *regs.last_mut()? = Reg::Mod(advance.to, advance.from);
    let made = Inst::new(row, inst.size, regs, [advance.by, 0]);
    encode(row, inst.size, &[0, 1, 2][..made.regs.len()], made.imms).ok().map(|_| made)
}

/// An access at the advanced base.
fn moved(inst: &Inst, m: Mem, advance: &Advance) -> Option<Inst> {
    let offset = m.offset - advance.by;
    let rows = match inst.row {
        Row::LdrV | Row::LdurV => [Row::LdrV, Row::LdurV],
        Row::StrV | Row::SturV => [Row::StrV, Row::SturV],
        Row::LdrG | Row::LdurG => [Row::LdrG, Row::LdurG],
        Row::StrG | Row::SturG => [Row::StrG, Row::SturG],
        Row::Prfm | Row::Prfum => [Row::Prfm, Row::Prfum],
        other => [other, other],
    };
    let mut regs = inst.regs.clone();
    *regs.last_mut()? = Reg::Use(advance.to);
    let numbers = [0, 1, 2];
    let fits = |row: &Row| encode(*row, inst.size, &numbers[..regs.len()], [offset, 0]).is_ok();
    if inst.row == Row::Ld1r {
        return None;
    }
    let row = rows.into_iter().find(fits)?;
    Some(Inst::new(row, inst.size, regs, [offset, 0]))
}
