//! Convolution of any layout, rank, group and type, one element at a time: for cases that the packed kernels do not
//! support, such as weights whose extents are known at run time only.

use crate::kernels::gemm::multiply_add;
use crate::kernels::support::emit::Emit;
use crate::kernels::support::request::KernelRequest;
use crate::kir::{Bin, Builder, Cmp, Ty, Val};
use crate::numbers;
use mcc_ir::{ConvSpec, Dim, Error, Layout, Result};

/// [`Op::Conv`](mcc_ir::Op::Conv): `(x, w: [out, in/group, k...], [bias: [out]])`.
pub(crate) fn conv(request: &KernelRequest<'_>, e: &Emit<'_>, k: &mut Builder, spec: &ConvSpec) -> Result<()> {
    let (x, w) = (&request.operands[0], &request.operands[1]);
    let axes = spec.strides.len();
    if x.rank() != axes + 2 || w.rank() != axes + 2 {
        return Err(Error::internal(format!("conv of {x} and {w}")));
    }
    let channels_axis = if spec.layout == Layout::ChannelsLast { axes + 1 } else { 1 };
    let mut steps = vec![Dim::ONE; x.rank()];
    for axis in (0..x.rank() - 1).rev() {
        steps[axis] = &steps[axis + 1] * &x.shape[axis + 1];
    }
    DirectLoops { request, e, spec, steps, channels_axis }.outputs(k, &mut Vec::new());
    Ok(())
}

struct DirectLoops<'a, 'b> {
    request: &'a KernelRequest<'a>,
    e: &'b Emit<'b>,
    spec: &'a ConvSpec,
    /// Elements between neighbours along each axis of `x`.
    steps: Vec<Dim>,
    channels_axis: usize,
}

impl DirectLoops<'_, '_> {
    fn outputs(&self, k: &mut Builder, at: &mut Vec<Val>) {
        let shape = &self.request.results[0].shape;
        if at.len() == shape.len() {
            return self.element(k, at);
        }
        let (zero, end) = (k.int(0), k.dim(&shape[at.len()]));
        k.parallel(zero, end, 1, |k, i| {
            at.push(i);
            self.outputs(k, at);
            at.pop();
        });
    }

    fn element(&self, k: &mut Builder, at: &[Val]) {
        let (x, w, y) = (&self.request.operands[0], &self.request.operands[1], &self.request.results[0]);
        let out = at[self.channels_axis];
        let per_group = k.dim(&w.shape[0].floor_div(&Dim::from(self.spec.group)));
        let group = k.bin(Bin::Div, out, per_group);
        let (zero, channels) = (k.int(0), k.dim(&w.shape[1]));
        let ty = Ty::new(numbers::compute_elem(x.dtype), 1);
        let start = match self.request.operands.len() {
            3 => self.e.load(k, 2, out, 1),
            _ => k.zero(ty),
        };
        let first_w = k.mul(out, channels);
        let first_x = k.mul(group, channels);
        let sum = k.fold_loop(zero, channels, 1, &[start], |k, c, sum| {
            let (channel, row) = (k.add(first_x, c), k.add(first_w, c));
            let step = k.dim(&self.steps[self.channels_axis]);
            let channel = k.mul(channel, step);
            let batch = k.dim(&self.steps[0]);
            let batch = k.mul(at[0], batch);
            let base = k.add(channel, batch);
            vec![self.taps(k, at, 0, base, row, sum[0])]
        });
        let mut row = zero;
        for (axis, &i) in at[..at.len() - 1].iter().enumerate() {
            let extent = k.dim(&y.shape[axis]);
            row = k.mul(row, extent);
            row = k.add(row, i);
        }
        self.e.store(k, row, at[at.len() - 1], sum[0]);
    }

    /// Kernel axes from `axis` on; `x` and `w` are partial flat indices.
    fn taps(&self, k: &mut Builder, at: &[Val], axis: usize, x: Val, w: Val, sum: Val) -> Val {
        let spec = self.spec;
        if axis == spec.strides.len() {
            let (x, w) = (self.e.load(k, 0, x, 1), self.e.load(k, 1, w, 1));
            return multiply_add(k, w, x, sum);
        }
        let spatial = if spec.layout == Layout::ChannelsLast { 1 } else { 2 } + axis;
        let kernel = &self.request.operands[1].shape[axis + 2];
        let extent = k.dim(&self.request.operands[0].shape[spatial]);
        let origin = k.mul_int(at[spatial], spec.strides[axis]);
        let origin = k.add_int(origin, -spec.pads[axis].0);
        let (zero, end) = (k.int(0), k.dim(kernel));
        let results = k.fold_loop(zero, end, 1, &[sum], |k, i, sum| {
            let offset = k.mul_int(i, spec.dilations[axis]);
            let position = k.add(origin, offset);
            let inside = k.cmp(Cmp::ULt, position, extent);
            let sum = sum[0];
            k.choose(
                inside,
                |k| {
                    let step = k.dim(&self.steps[spatial]);
                    let along = k.mul(position, step);
                    let end = k.dim(kernel);
                    let row = k.mul(w, end);
                    let at_tap = (k.add(x, along), k.add(row, i));
                    vec![self.taps(k, at, axis + 1, at_tap.0, at_tap.1, sum)]
                },
                |_| vec![sum],
            )
        });
        results[0]
    }
}
