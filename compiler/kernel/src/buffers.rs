//! Buffers of a graph being lowered: the buffer of each value, and its lifetime.

use super::arena::Lifetime;
use super::plan::Placement;
use super::program::{self, Constant};
use super::view::View;
use super::{Arg, Buffer, Lowering};
use mcc_ir::{Dim, Error, Op, Result, TensorType, Value, bounds};

impl Lowering<'_> {
    /// The buffer that holds a value.
    pub(super) fn buffer(&mut self, value: Value) -> Result<Buffer> {
        let value = self.placements.get(&value).map_or(value, |placement| placement.root);
        if let Some(&b) = self.buffers.get(&value) {
            return Ok(b);
        }
        let Op::Constant(tensor) = self.graph.op(value.node) else {
            return Err(Error::internal(format!("'{}' is read before it is computed", self.graph.label(value.node))));
        };
        let constants = &mut self.made.constants;
        let id = *self.constant_of.entry(value).or_insert_with(|| {
            let label = self.graph.label(value.node).to_string();
            constants.push(Constant { label, data: tensor.data().clone() });
            constants.len() - 1
        });
        Ok(Buffer::Constant(id))
    }

    /// The destination of the next step's result 0, and its view unless it is contiguous.
    pub(super) fn result(&mut self, value: Value, over: Option<usize>) -> Result<(Arg, Option<View>)> {
        let graph = self.graph;
        let Some(Placement { root, view, .. }) = self.placements.get(&value).cloned() else {
            return Ok((self.new_result(value, graph.ty(value), over)?.into(), None));
        };
        let ty = graph.ty(value);
        let buffer = self.new_result(root, graph.ty(root), None)?;
        let (arg, view) = self.arg(buffer, view, ty.dtype.size());
        let place = (!view.is_contiguous(&ty.shape)).then_some(view);
        Ok((arg, place))
    }

    /// A pointer to the first element of a value in its buffer, and the rest of its view.
    pub(super) fn arg_of(&mut self, value: Value, view: View, size: usize) -> Result<(Arg, View)> {
        let buffer = self.buffer(value)?;
        Ok(self.arg(buffer, view, size))
    }

    /// A pointer to a view's first element (of `size` bytes), as far as it is known, and the rest of the view. Pointers
    /// only use symbols known before any step; kernels add the offsets that depend on symbols bound by steps.
    fn arg(&self, buffer: Buffer, mut view: View, size: usize) -> (Arg, View) {
        let mut arg = Arg::from(buffer);
        let late = view.offset.symbols().iter().any(|s| program::binds_late(s, &self.made.symbols));
        if !late && let Buffer::Arena(_) = buffer {
            arg.offset = &std::mem::replace(&mut view.offset, Dim::ZERO) * &Dim::from(size);
        }
        (arg, view)
    }

    /// A buffer for a value that the next step computes.
    pub(super) fn new_result(&mut self, value: Value, ty: &TensorType, over: Option<usize>) -> Result<Buffer> {
        if let Some(&b) = self.buffers.get(&value) {
            return Ok(b);
        }
        let bytes = self.bound(&ty.bytes());
        if bytes.as_const().is_some_and(|b| b > isize::MAX as i64 / 4) {
            return Err(Error::unsupported(format!("a tensor of type {ty} does not fit in memory")));
        }
        let id = self.new_lifetime(bytes);
        if let Some(over) = over {
            self.made.shared.insert(id, over);
        }
        self.buffers.insert(value, Buffer::Arena(id));
        Ok(Buffer::Arena(id))
    }

    /// Scratch memory of the next step, one buffer per thread that may share it.
    pub(super) fn add_scratch(&mut self, args: &mut Vec<Arg>, sizes: &[Dim], threads: u32) {
        let unit = Dim::from(program::ALIGN);
        for bytes in sizes {
            let bytes = self.bound(bytes);
            if threads == 1 {
                let id = self.new_lifetime(bytes);
                args.push(Buffer::Arena(id).into());
                continue;
            }
            let slot = &bytes.ceil_div(&unit) * &unit;
            let id = self.new_lifetime(&slot * &Dim::from(i64::from(threads)));
            self.made.slots.insert(id, slot);
            args.push(Buffer::Arena(id).into());
        }
    }

    /// Extends a buffer's lifetime to the next step.
    pub(super) fn touch(&mut self, buffer: Buffer) {
        if let Buffer::Arena(n) = buffer {
            self.made.lifetimes[n].last = self.made.now;
        }
    }

    pub(super) fn new_lifetime(&mut self, bytes: Dim) -> usize {
        let now = self.made.now;
        self.made.lifetimes.push(Lifetime { bytes, first: now, last: now });
        self.made.lifetimes.len() - 1
    }

    /// A size with data-dependent symbols at their upper bounds. A region's requirements need not hold when it does not
    /// run.
    pub(super) fn bound(&self, d: &Dim) -> Dim {
        let most = program::upper_bound(d, &self.made.symbols);
        if self.graph.is_region() { bounds::max(&most, &Dim::ZERO) } else { most }
    }
}
