//! Operations that move elements: reshapes, slices, concatenations, paddings, indices.

use super::Maker;
use mcc_ir::{BinaryOp, CumulativeKind, DType, Dim, Op, PadMode, Range, ReduceKind, ScatterReduction, Tensor, Value};

impl Maker {
    pub fn moved(&mut self, x: Value) -> Option<Value> {
        let shape = self.shape(x);
        let rank = shape.len();
        if rank == 0 {
            return None;
        }
        let axis = self.random.below(rank);
        match self.random.below(9) {
            0 | 1 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    perm.swap(i, self.random.below(i + 1));
                }
                self.add(Op::Transpose { perm }, &[x])
            }
            2 if rank >= 2 => {
                // Joins two neighbouring axes.
                let at = self.random.below(rank - 1);
                let mut to = shape.clone();
                let joined = &to[at] * &to[at + 1];
                to.splice(at..at + 2, [joined]);
                self.add(Op::Reshape { shape: to }, &[x])
            }
            3 if rank <= 4 => {
                // Splits an axis, or adds one.
                let mut to = shape.clone();
                let by = shape[axis].as_const().and_then(|d| [2, 3, 4, 8].into_iter().find(|f| d > 0 && d % f == 0));
                let by = by.unwrap_or(1);
                let rest = shape[axis].exact_div(&Dim::from(by))?;
                let parts = if self.random.chance(50) { [Dim::from(by), rest] } else { [rest, Dim::from(by)] };
                to.splice(axis..=axis, parts);
                self.add(Op::Reshape { shape: to }, &[x])
            }
            4 | 5 => self.slice(x),
            6 => self.padded(x),
            7 => {
                let mut to = shape.clone();
                let one = self.random.chance(70) || rank > 4;
                if one {
                    let ones: Vec<usize> = (0..rank).filter(|&a| shape[a].is(1)).collect();
                    let &at = ones.first()?;
                    to[at] = Dim::from(self.random.within(2, 4));
                } else {
                    to.insert(0, Dim::from(self.random.within(1, 3)));
                }
                self.add(Op::Broadcast { shape: to }, &[x])
            }
            _ => {
                // Shuffles channels of groups.
                let (&first, channels) = (&rank, shape.get(1)?.as_const()?);
                let groups = [2, 3, 4].into_iter().find(|g| channels > *g && channels % g == 0)?;
                let mut split = shape.clone();
                split.splice(1..2, [Dim::from(groups), Dim::from(channels / groups)]);
                let y = self.add(Op::Reshape { shape: split }, &[x])?;
                let mut perm: Vec<usize> = (0..=first).collect();
                perm.swap(1, 2);
                let y = self.add(Op::Transpose { perm }, &[y])?;
                self.add(Op::Reshape { shape }, &[y])
            }
        }
    }

    fn slice(&mut self, x: Value) -> Option<Value> {
        let shape = self.shape(x);
        let ranges = shape.iter().map(|d| match d.as_const() {
            Some(d) if d > 0 && self.random.chance(60) => {
                let step = self.random.pick(&[1, 1, 1, 2, 3, -1, -2]);
                let start = self.random.within(0, d - 1);
                let most = if step > 0 { (d - start + step - 1) / step } else { start / -step + 1 };
                Range { start: Dim::from(start), step, len: Dim::from(self.random.within(1, most)) }
            }
            None if self.random.chance(40) => match self.random.below(3) {
                // Every other element, all in reverse, the first half.
                0 => Range { start: Dim::ZERO, step: 2, len: (d + &Dim::ONE).floor_div(&Dim::from(2i64)) },
                1 => Range { start: d - &Dim::ONE, step: -1, len: d.clone() },
                _ => Range { start: Dim::ZERO, step: 1, len: (d + &Dim::ONE).floor_div(&Dim::from(2i64)) },
            },
            _ => Range::full(d),
        });
        let ranges = ranges.collect();
        self.add(Op::Slice { ranges }, &[x])
    }

    fn padded(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let mode =
            self.random.pick(&[PadMode::Constant, PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap]);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for d in &ty.shape {
            let most = match (mode, d.as_const()) {
                (PadMode::Constant, _) => 2,
                (_, Some(d)) if d > 2 => 2,
                _ => 0,
            };
            let most = if self.random.chance(50) { most } else { 0 };
            before.push(Dim::from(self.random.within(0, most)));
            after.push(Dim::from(self.random.within(0, most)));
        }
        let value = if self.random.chance(70) { 0.0 } else { 1.0 };
        let value = self.number_like(x, value);
        self.add(Op::Pad { before, after, mode }, &[x, value])
    }

    pub fn joined(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        if ty.rank() == 0 {
            return None;
        }
        let axis = if ty.rank() > 1 && self.random.chance(60) { 1 } else { self.random.below(ty.rank()) };
        let fits = |maker: &Maker, y: Value| {
            let other = maker.ty(y);
            let same = |a: usize| a == axis || other.shape[a] == ty.shape[a];
            other.dtype == ty.dtype && other.rank() == ty.rank() && (0..ty.rank()).all(same)
        };
        let mut parts: Vec<Value> = self.pool.iter().copied().filter(|&y| fits(self, y)).collect();
        parts.reverse();
        parts.truncate(self.random.pick(&[2, 2, 3]));
        if self.random.chance(20) || parts.len() < 2 {
            // Concatenates another value.
            let y = self.element_wise(x).filter(|&y| fits(self, y))?;
            parts.push(y);
        }
        if self.random.chance(15) {
            let shape = ty.shape.iter().map(Dim::as_const).collect::<Option<Vec<_>>>();
            if let Some(shape) = shape {
                let shape: Vec<usize> = shape.into_iter().map(|d| d as usize).collect();
                let constant = self.noise(ty.dtype, shape, 1.0);
                parts.push(self.graph.constant(constant));
            }
        }
        self.add(Op::Concat { axis }, &parts)
    }

    pub fn reduced(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let rank = ty.rank();
        if rank == 0 || ty.dtype == DType::Bool {
            return None;
        }
        let axis = self.random.below(rank);
        // Means and maxima of no elements are undefined.
        let filled = |d: &Dim| d.as_const().is_some_and(|d| d > 0);
        match self.random.below(10) {
            0..=3 => {
                let axes: Vec<usize> = (0..rank).filter(|_| self.random.chance(40)).collect();
                let all_filled = axes.iter().all(|&a| filled(&ty.shape[a]));
                let float = ty.dtype.is_float();
                let kind = match self.random.below(4) {
                    0 => ReduceKind::Sum,
                    1 if all_filled && float => ReduceKind::Mean,
                    2 if all_filled => ReduceKind::Max,
                    3 if all_filled => ReduceKind::Min,
                    _ => ReduceKind::Sum,
                };
                let keep = self.random.chance(60);
                self.add(Op::Reduce { kind, axes, keep }, &[x])
            }
            4 if ty.dtype.is_float() => {
                let log = self.random.chance(25);
                self.add(Op::Softmax { axis, log }, &[x])
            }
            5 | 6 if ty.dtype.is_float() && filled(&ty.shape[rank - 1]) => {
                let op = Op::Normalize { axis: rank - 1, epsilon: 1e-3.into(), center: self.random.chance(70) };
                let y = self.add(op, &[x])?;
                let scale = self.per_channel(y, rank - 1, 1.0)?;
                self.binary(BinaryOp::Mul, y, scale)
            }
            7 => {
                let kind = CumulativeKind::Sum;
                let (exclusive, reverse) = (self.random.chance(40), self.random.chance(40));
                self.add(Op::Cumulative { kind, axis, exclusive, reverse }, &[x])
            }
            8 if filled(&ty.shape[axis]) => {
                let (largest, keep, last) = (self.random.chance(50), self.random.chance(50), self.random.chance(30));
                self.add(Op::ArgReduce { largest, axis, keep, last }, &[x])
            }
            _ if filled(&ty.shape[axis]) => {
                let k = Dim::from(self.random.within(1, ty.shape[axis].as_const()?));
                let largest = self.random.chance(60);
                self.add(Op::TopK { k, axis, largest }, &[x])
            }
            _ => None,
        }
    }

    pub fn indexed(&mut self, x: Value) -> Option<Value> {
        let ty = self.ty(x);
        let rank = ty.rank();
        if rank == 0 {
            return None;
        }
        let axis = self.random.below(rank);
        let extent = ty.shape[axis].as_const().filter(|&d| d > 0)?;
        let dtype = self.random.pick(&[DType::I64, DType::I32]);
        let indices = |maker: &mut Maker, shape: Vec<usize>| {
            let count = shape.iter().product();
            let values: Vec<i64> = (0..count).map(|_| maker.random.within(-extent, extent - 1)).collect();
            Tensor::from_i64s(dtype, shape, &values).ok().map(|t| maker.graph.constant(t))
        };
        match self.random.below(4) {
            0 => {
                let count = self.random.within(1, 5) as usize;
                let shape = self.random.pick(&[vec![count], vec![2, count], vec![]]);
                let of = indices(self, shape)?;
                self.add(Op::Gather { axis }, &[x, of])
            }
            1 => {
                let shape = Maker::constant_dims(&ty.shape)?;
                let of = indices(self, shape)?;
                self.add(Op::GatherElements { axis }, &[x, of])
            }
            2 => {
                // Distinct indices, so that their order does not matter.
                let mut shape = Maker::constant_dims(&ty.shape)?;
                shape[axis] = 1;
                let of = indices(self, shape.clone())?;
                let updates = self.noise(ty.dtype, shape, 1.0);
                let updates = self.graph.constant(updates);
                let reduction = if ty.dtype == DType::Bool {
                    ScatterReduction::None
                } else {
                    self.random.pick(&[ScatterReduction::None, ScatterReduction::Add, ScatterReduction::Max])
                };
                self.add(Op::ScatterElements { axis, reduction }, &[x, of, updates])
            }
            _ => {
                // Computed indices: the position of the largest element, looked up in a table.
                if ty.dtype == DType::Bool {
                    return None;
                }
                let of = self.add(Op::ArgReduce { largest: true, axis, keep: false, last: false }, &[x])?;
                let table = self.noise(self.float, vec![extent as usize, 6], 1.0);
                let table = self.graph.constant(table);
                self.add(Op::Gather { axis: 0 }, &[table, of])
            }
        }
    }
}
