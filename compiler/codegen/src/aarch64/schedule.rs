//! Moves loads of vectors up, away from what waits for them, before registers are allocated.
//!
//! The order of a kernel's instructions is already the one that needs the fewest registers. Cores that issue in order stall
//! on a load right before its use, and wide ones too when their window is full; so a load goes up as far as the latency of
//! [`LATENCY`] needs, if registers are left. Loads keep their order and do not pass stores.

use regalloc2::VReg;

use super::inst::{Code, End, Inst, VirtualCode, is_vector};

/// Instructions between a load and its first use: a Cortex-A55 issues one vector product a cycle and loads 16 bytes in 4
/// or 5 cycles, a Neoverse N1 issues two and loads in 5 or 6.
const LATENCY: usize = 10;

/// The most vector registers that are in use where a load is moved.
const REGISTERS: u32 = 30;

/// A set of virtual registers.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(count: usize) -> Set {
        Set(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, v: VReg) -> bool {
        let (word, bit) = (&mut self.0[v.vreg() / 64], 1 << (v.vreg() % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn remove(&mut self, v: VReg) -> bool {
        let (word, bit) = (&mut self.0[v.vreg() / 64], 1 << (v.vreg() % 64));
        let had = *word & bit != 0;
        *word &= !bit;
        had
    }

    /// Adds another set; whether that changed this one.
    fn add(&mut self, other: &Set) -> bool {
        let mut changed = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            changed |= *more & !*word != 0;
            *word |= more;
        }
        changed
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Moves the loads of all blocks.
pub fn schedule(code: &mut VirtualCode) {
    let ends = live_at_ends(code);
    for (block, live) in code.blocks.iter_mut().zip(ends) {
        let live = with_passed(live, &block.end);
        raise_loads(&mut block.insts, live);
    }
}

/// Vector registers that are in use at the end of each block, without those that it passes to the next one.
fn live_at_ends(code: &VirtualCode) -> Vec<Set> {
    let count = code.blocks.len();
    let mut at_end = vec![Set::new(code.vregs); count];
    let mut at_start = at_end.clone();
    let mut changed = true;
    while changed {
        changed = false;
        for b in (0..count).rev() {
            let block = &code.blocks[b];
            for to in successors(&block.end) {
                let next = at_start[to].clone();
                changed |= at_end[b].add(&next);
            }
            let mut live = with_passed(at_end[b].clone(), &block.end);
            block.insts.iter().rev().for_each(|code| step_back(code, &mut live));
            block.params.iter().for_each(|&v| {
                live.remove(v);
            });
            changed |= at_start[b].add(&live);
        }
    }
    at_end
}

fn successors(end: &End) -> Vec<usize> {
    match end {
        End::Jump(to, _) => vec![to.index()],
        End::Branch(_, yes, no) => vec![yes.index(), no.index()],
        End::Return => Vec::new(),
    }
}

fn with_passed(mut live: Set, end: &End) -> Set {
    if let End::Jump(_, values) = end {
        values.iter().filter(|v| is_vector(**v)).for_each(|&v| {
            live.insert(v);
        });
    }
    live
}

/// What is in use before an instruction, from what is after it.
fn step_back(code: &Code, live: &mut Set) {
    let Code::Inst(inst) = code else { return };
    inst.writes().filter(|&v| is_vector(v)).for_each(|v| {
        live.remove(v);
    });
    inst.reads().filter(|&v| is_vector(v)).for_each(|v| {
        live.insert(v);
    });
}

/// `live` is what is in use after the instructions.
fn raise_loads(insts: &mut [Code], mut live: Set) {
    // Number of registers in use before each instruction.
    let mut used = vec![0; insts.len()];
    for (n, code) in insts.iter().enumerate().rev() {
        step_back(code, &mut live);
        used[n] = live.len();
    }
    for n in 0..insts.len() {
        let Code::Inst(load) = &insts[n] else { continue };
        let results = load.writes().filter(|&v| is_vector(v)).count() as u32;
        if results == 0 || !load.reads_memory() {
            continue;
        }
        let to = highest(insts, &used, n, load, results);
        insts[to..=n].rotate_right(1);
        used[to..=n].rotate_right(1);
        used[to] = if to < n { used[to + 1] } else { used[to] };
        used[(to + 1).min(n + 1)..=n].iter_mut().for_each(|count| *count += results);
    }
}

/// Where the load at `n` may go.
fn highest(insts: &[Code], used: &[u32], n: usize, load: &Inst, results: u32) -> usize {
    let reads = |code: &Code, v: VReg| matches!(code, Code::Inst(inst) if inst.reads().any(|r| r == v));
    let waits = |code: &&Code| load.writes().any(|v| is_vector(v) && reads(code, v));
    let until_use = insts[n + 1..].iter().take(LATENCY).take_while(|code| !waits(code)).count();
    let mut to = n;
    for _ in until_use..LATENCY {
        let Some(above) = to.checked_sub(1) else { break };
        let Code::Inst(inst) = &insts[above] else { break };
        let depends =
            inst.writes().any(|v| load.reads().any(|r| r == v)) || load.writes().any(|v| inst.reads().any(|r| r == v));
        if depends
            || inst.reads_memory()
            || inst.writes_memory()
            || used[above].max(used[above + 1]) + results > REGISTERS
        {
            break;
        }
        to = above;
    }
    to
}
