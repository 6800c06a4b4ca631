//! How each value of a kernel is used.

use std::collections::HashMap;

use mcc_kernel::kir::{Addr, Bin, Elem, Inst, Kernel, Stmt, Val};

use super::Sum;

/// Numbers of uses; those in a loop count once.
pub struct Uses {
    total: Vec<u32>,
    /// As an operand that may be a lane of a register: of a product, of another such value.
    by_lane: Vec<u32>,
    /// As a condition of a branch or the mask of a selection.
    as_condition: Vec<u32>,
    /// As the source of a splat.
    splat: Vec<u32>,
    /// Memory accesses at each sum of a base and an index.
    sums: HashMap<Sum, u32>,
    dots: bool,
}

impl Uses {
    /// `dots` says whether sums of byte products take lanes.
    pub fn of(kernel: &Kernel, dots: bool) -> Uses {
        let none = vec![0; kernel.insts.len()];
        let mut uses = Uses {
            total: none.clone(),
            by_lane: none.clone(),
            as_condition: none.clone(),
            splat: none,
            sums: HashMap::new(),
            dots,
        };
        let mut order = Vec::new();
        uses.walk(kernel, &kernel.body, &mut order);
        // Users follow what they use.
        for v in order.into_iter().rev() {
            let all = uses.all_by_lane(v);
            match kernel.insts[v.0 as usize].0 {
                Inst::Bitcast(a) if all && kernel.insts[v.0 as usize].1.lanes > 1 => uses.by_lane[a.0 as usize] += 1,
                _ => {}
            }
        }
        uses
    }

    fn walk(&mut self, kernel: &Kernel, body: &[Stmt], order: &mut Vec<Val>) {
        for stmt in body {
            let used = match stmt {
                Stmt::Let(v) => {
                    order.push(*v);
                    self.of_inst(kernel, *v)
                }
                _ => stmt.operands(),
            };
            match stmt {
                Stmt::If { condition, .. } => self.as_condition[condition.0 as usize] += 1,
                Stmt::Store(to, v) => self.access(to, kernel.insts[v.0 as usize].1.bytes().div_ceil(16)),
                Stmt::StorePart(to, ..) | Stmt::Prefetch(to) => self.access(to, 2),
                _ => {}
            }
            used.into_iter().for_each(|v| self.total[v.0 as usize] += 1);
            stmt.blocks().into_iter().for_each(|body| self.walk(kernel, body, order));
        }
    }

    fn of_inst(&mut self, kernel: &Kernel, v: Val) -> Vec<Val> {
        let (inst, ty) = &kernel.insts[v.0 as usize];
        let lane = |uses: &mut Uses, v: Val| uses.by_lane[v.0 as usize] += 1;
        match inst {
            // One of two operands may be a lane.
            Inst::Fma(a, b, c) if ty.lanes > 1 && a != b && a != c && b != c => {
                lane(self, *a);
                lane(self, *b);
            }
            Inst::Bin(Bin::Mul, a, b) if ty.lanes > 1 && ty.elem.is_float() && a != b => {
                lane(self, *a);
                lane(self, *b);
            }
            Inst::Dot(_, a, b, _) if self.dots && ty.lanes > 1 && a != b => {
                lane(self, *a);
                lane(self, *b);
            }
            Inst::Select(mask, ..) if kernel.insts[mask.0 as usize].1.lanes == 1 => {
                self.as_condition[mask.0 as usize] += 1;
            }
            Inst::Splat(a) if ty.lanes > 1 && ty.elem == Elem::F32 => self.splat[a.0 as usize] += 1,
            Inst::Load(from) => self.access(from, ty.bytes().div_ceil(16)),
            Inst::LoadPart(from, _) | Inst::LoadExpanded(from, _) => self.access(from, 2),
            _ => {}
        }
        inst.operands()
    }

    fn access(&mut self, at: &Addr, count: u32) {
        if let Some(index) = at.index {
            *self.sums.entry((at.base, index, at.scale)).or_default() += count;
        }
    }

    pub fn total(&self, v: Val) -> u32 {
        self.total[v.0 as usize]
    }

    /// Whether every use can take a lane of a register instead of the value.
    pub fn all_by_lane(&self, v: Val) -> bool {
        self.total[v.0 as usize] == self.by_lane[v.0 as usize]
    }

    /// Whether every use can take the processor's flags.
    pub fn all_conditions(&self, v: Val) -> bool {
        self.total[v.0 as usize] == self.as_condition[v.0 as usize]
    }

    /// Whether every use spreads the value.
    pub fn all_splats(&self, v: Val) -> bool {
        self.total[v.0 as usize] == self.splat[v.0 as usize]
    }

    /// Number of accesses at a sum.
    pub fn accesses(&self, sum: Sum) -> u32 {
        self.sums.get(&sum).copied().unwrap_or(0)
    }
}
