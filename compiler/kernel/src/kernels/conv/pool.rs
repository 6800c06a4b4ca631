//! Pooling. Channels-last data is processed in vectors of channels; each window is clipped to the data first.

use mcc_targets::schedule::loops::{MAX_UNROLLED_POOL, POOL_VECTORS};

use crate::kernels::reduce::run::{arithmetic, as_mask, combine, lowest};
use crate::kernels::support::emit::Emit;
use crate::kernels::support::loops::{cover, dot, flat, parallel_coordinates, product, round_down, spot};
use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use crate::{numbers, scalar};
use mcc_ir::Result;
use mcc_ir::{BinaryOp, DType, Dim, Layout, PoolKind, PoolSpec, UnaryOp};

/// Bytes of vectors whose masks are registers.
const WIDEST: u32 = 64;

/// ONNX MaxPool, AveragePool, LpPool.
pub fn pool(e: &Emit<'_>, k: &mut Builder, spec: &PoolSpec) -> Result<()> {
    match spec.layout {
        Layout::ChannelsLast => channels_last(e, k, spec),
        Layout::ChannelsFirst => channels_first(e, k, spec),
    }
    Ok(())
}

fn channels_last(e: &Emit<'_>, k: &mut Builder, spec: &PoolSpec) {
    let (x, out) = (e.shape(0), e.out_shape());
    let Some((channels, positions)) = out.split_last() else { return };
    let data = &x[1..x.len() - 1];
    let (zero, extent) = (k.int(0), k.dim(channels));
    let bytes = bytes_of(e, k, spec, channels);
    let (lanes, strides) = (bytes.map_or(e.lanes(e.dtype(0)), |b| b.lanes), e.strides(0));
    parallel_coordinates(k, positions, |k, coords| {
        let row = flat(k, positions, coords);
        let window = Window::new(k, spec, data, &out[1..], &coords[1..]);
        let some = |k: &mut Builder, c: Val, vectors: u32, lanes: u32| {
            let at = |k: &mut Builder, inside: &[Val], channel: Val| {
                let position: Vec<Val> = std::iter::once(coords[0]).chain(inside.iter().copied()).collect();
                let start = dot(k, &strides, &position);
                k.add(start, channel)
            };
            let begin = |k: &mut Builder| match bytes {
                Some(bytes) if lanes > 1 => k.int_of(bytes.least, Ty::new(Elem::I8, lanes)),
                _ => start(e, k, spec.kind, lanes),
            };
            let init: Vec<Val> = (0..vectors).map(|_| begin(k)).collect();
            let accs = window.fold_at(k, &init, |k, inside, accs| {
                let mut next = Vec::new();
                let first = at(k, inside, c);
                for (n, &acc) in accs.iter().enumerate() {
                    let index = k.add_int(first, n as i64 * i64::from(lanes));
                    next.push(match bytes {
                        Some(bytes) if lanes > 1 => {
                            let from = k.at_index(e.operand(0), index, 1);
                            let v = k.load(Ty::new(Elem::I8, lanes), from);
                            k.bin(bytes.larger, acc, v)
                        }
                        _ => {
                            let v = e.load(k, 0, index, lanes);
                            step(e, k, spec.kind, acc, v)
                        }
                    });
                }
                next
            });
            for (n, acc) in accs.into_iter().enumerate() {
                let v = finish(e, k, spec.kind, &window, acc);
                let col = k.add_int(c, n as i64 * i64::from(lanes));
                e.store(k, row, col, v);
            }
        };
        let blocks = round_down(k, extent, POOL_VECTORS * lanes);
        if bytes.is_some() && e.request.config.target.vector_bytes < WIDEST {
            // Without mask registers, partial vectors of bytes are slower than overlapping ones.
            return cover(k, extent, lanes, |k, c, lanes| some(k, c, 1, lanes));
        }
        k.for_each(zero, blocks, i64::from(POOL_VECTORS * lanes), |k, c| some(k, c, POOL_VECTORS, lanes));
        crate::kernels::support::loops::columns(k, blocks, extent, lanes, |k, c, lanes| some(k, c, 1, lanes));
    });
}

/// How to pool vectors of bytes without widening.
#[derive(Clone, Copy)]
struct Bytes {
    lanes: u32,
    larger: Bin,
    least: i64,
}

/// The maximum of bytes needs no wider registers, if it is stored unchanged.
fn bytes_of(e: &Emit<'_>, k: &Builder, spec: &PoolSpec, channels: &Dim) -> Option<Bytes> {
    let (larger, least) = match e.dtype(0) {
        DType::U8 => (Bin::UMax, 0),
        DType::I8 => (Bin::Max, -128),
        _ => return None,
    };
    let widest = e.request.config.target.vector_bytes;
    let lanes = match channels.as_const().and_then(|c| u32::try_from(c).ok()) {
        Some(few) if few < widest && k.has_masks() && widest == WIDEST => few.next_power_of_two(),
        Some(few) if few < widest => 1 << few.ilog2(),
        _ => widest,
    };
    let plain = e.epilogue.expr.nodes.is_empty() && spec.kind == PoolKind::Max;
    (plain && lanes >= 16).then_some(Bytes { lanes, larger, least })
}

fn channels_first(e: &Emit<'_>, k: &mut Builder, spec: &PoolSpec) {
    let (x, out) = (e.shape(0), e.out_shape());
    parallel_coordinates(k, out, |k, coords| {
        let (row, col) = spot(k, out, coords);
        let window = Window::new(k, spec, &x[2..], &out[2..], &coords[2..]);
        let plane = flat(k, &x[..2], &coords[..2]);
        let size = k.dim(&product(&x[2..]));
        let plane_start = k.mul(plane, size);
        let init = start(e, k, spec.kind, 1);
        let acc = window.fold(k, &[init], |k, inside, accs| {
            let index = k.add(plane_start, inside);
            let v = e.load(k, 0, index, 1);
            vec![step(e, k, spec.kind, accs[0], v)]
        });
        let v = finish(e, k, spec.kind, &window, acc[0]);
        e.store(k, row, col, v);
    });
}

/// ONNX MaxPool with its second result.
pub fn max_pool_with_indices(e: &Emit<'_>, k: &mut Builder, spec: &PoolSpec, column_major: bool) -> Result<()> {
    let (x, out) = (e.shape(0), e.out_shape());
    let dtype = e.dtype(0);
    parallel_coordinates(k, out, |k, coords| {
        let (row, col) = spot(k, out, coords);
        let window = Window::new(k, spec, &x[2..], &out[2..], &coords[2..]);
        let plane = flat(k, &x[..2], &coords[..2]);
        let size = k.dim(&product(&x[2..]));
        let plane_start = k.mul(plane, size);
        let (first, none) = (lowest(k, dtype, 1), k.int(-1));
        let best = window.fold_at(k, &[first, none], |k, at, accs| {
            let inside = flat(k, &x[2..], at);
            let index = k.add(plane_start, inside);
            let v = e.load(k, 0, index, 1);
            let told = if column_major {
                let axes: Vec<Dim> = x[2..].iter().rev().cloned().collect();
                let turned: Vec<Val> = at.iter().rev().copied().collect();
                let inside = flat(k, &axes, &turned);
                k.add(plane_start, inside)
            } else {
                index
            };
            let greater = scalar::binary(k, BinaryOp::Greater, arithmetic(dtype), v, accs[0]);
            let zero = k.int(0);
            let unset = k.cmp(Cmp::Lt, accs[1], zero);
            let unset = k.mask_to_int(unset);
            let unset = k.convert(unset, Elem::I32);
            let better = k.bin(Bin::Or, greater, unset);
            let better = as_mask(k, better);
            vec![k.select(better, v, accs[0]), k.select(better, told, accs[1])]
        });
        e.store(k, row, col, best[0]);
        let index = flat(k, out, coords);
        e.store_result(k, 1, index, best[1]);
    });
    Ok(())
}

/// One window of the data: per axis the first element, and the range of kernel elements inside the data.
struct Window<'a> {
    spec: &'a PoolSpec,
    data: &'a [Dim],
    first: Vec<Val>,
    low: Vec<Val>,
    high: Vec<Val>,
    /// Kernel elements before the end of the trailing padding.
    padded: Vec<Val>,
}

impl<'a> Window<'a> {
    fn new(k: &mut Builder, spec: &'a PoolSpec, data: &'a [Dim], out: &[Dim], coords: &[Val]) -> Window<'a> {
        let mut window =
            Window { spec, data, first: Vec::new(), low: Vec::new(), high: Vec::new(), padded: Vec::new() };
        let zero = k.int(0);
        for axis in 0..data.len() {
            let (kernel, stride, dilation) = (spec.kernel[axis], spec.strides[axis], spec.dilations[axis]);
            let (before, after) = spec.pads[axis];
            let begin = k.mul_int(coords[axis], stride);
            let begin = k.add_int(begin, -before);
            window.first.push(begin);
            // Windows that never leave the data have constant bounds.
            let reach = (kernel - 1) * dilation + 1;
            let end = (&out[axis] - &Dim::ONE).as_const().map(|last| last * stride + reach);
            let fits = data[axis].as_const().zip(end).is_some_and(|(extent, end)| end <= extent + before);
            let fits = before == 0 && (fits || after == 0 && !spec.ceil);
            let kernel = k.int(kernel);
            if fits {
                window.low.push(zero);
                window.high.push(kernel);
                window.padded.push(kernel);
                continue;
            }
            let below = k.sub(zero, begin);
            let below = k.bin(Bin::Max, below, zero);
            let low = ceil_div(k, below, dilation);
            window.low.push(low);
            let extent = k.dim(&data[axis]);
            let room = k.sub(extent, begin);
            let high = ceil_div(k, room, dilation);
            let high = k.bin(Bin::Min, high, kernel);
            window.high.push(high);
            let room = k.add_int(room, after);
            let padded = ceil_div(k, room, dilation);
            let padded = k.bin(Bin::Min, padded, kernel);
            window.padded.push(padded);
        }
        window
    }

    /// Visits the elements inside; the body gets each element's flat index in the data.
    fn fold(
        &self,
        k: &mut Builder,
        init: &[Val],
        mut body: impl FnMut(&mut Builder, Val, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        self.fold_at(k, init, |k, at, accs| {
            let inside = flat(k, self.data, at);
            body(k, inside, accs)
        })
    }

    /// Visits the elements inside; the body gets each element's coordinates.
    fn fold_at(
        &self,
        k: &mut Builder,
        init: &[Val],
        mut body: impl FnMut(&mut Builder, &[Val], &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let mut at = Vec::new();
        let unroll = self.spec.kernel.iter().product::<i64>() <= MAX_UNROLLED_POOL;
        self.level(k, &mut at, init, unroll, &mut body)
    }

    fn level(
        &self,
        k: &mut Builder,
        at: &mut Vec<Val>,
        accs: &[Val],
        unroll: bool,
        body: &mut impl FnMut(&mut Builder, &[Val], &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let axis = at.len();
        if axis == self.data.len() {
            return body(k, at, accs);
        }
        let (first, dilation) = (self.first[axis], self.spec.dilations[axis]);
        let (low, high) = (self.low[axis], self.high[axis]);
        let mut one = |k: &mut Builder, j: Val, accs: &[Val]| {
            let skip = k.mul_int(j, dilation);
            at.push(k.add(first, skip));
            let next = self.level(k, at, accs, unroll, body);
            at.pop();
            next
        };
        match (k.as_int(low), k.as_int(high)) {
            (Some(low), Some(high)) if unroll => (low..high).fold(accs.to_vec(), |accs, j| {
                let j = k.int(j);
                one(k, j, &accs)
            }),
            _ => k.fold_loop(low, high, 1, accs, |k, j, accs| one(k, j, accs)),
        }
    }

    /// The number of elements that an average counts.
    fn count(&self, k: &mut Builder, include_pad: bool) -> Val {
        let mut count = k.int(1);
        for axis in 0..self.data.len() {
            let extent = if include_pad { self.padded[axis] } else { k.sub(self.high[axis], self.low[axis]) };
            count = k.mul(count, extent);
        }
        count
    }
}

/// Division of a non-negative number by a positive constant, rounded up; negative dividends yield at most 0.
fn ceil_div(k: &mut Builder, v: Val, by: i64) -> Val {
    if by == 1 {
        return v;
    }
    let lifted = k.add_int(v, by - 1);
    let by = k.int(by);
    k.bin(Bin::Div, lifted, by)
}

fn start(e: &Emit<'_>, k: &mut Builder, kind: PoolKind, lanes: u32) -> Val {
    match kind {
        PoolKind::Max => lowest(k, e.dtype(0), lanes),
        PoolKind::Average { .. } | PoolKind::Lp { .. } => k.zero(Ty::new(numbers::compute_elem(e.dtype(0)), lanes)),
    }
}

fn step(e: &Emit<'_>, k: &mut Builder, kind: PoolKind, acc: Val, v: Val) -> Val {
    let dtype = arithmetic(e.dtype(0));
    match kind {
        PoolKind::Max => combine(k, BinaryOp::Max, dtype, acc, v),
        PoolKind::Average { .. } => combine(k, BinaryOp::Add, dtype, acc, v),
        PoolKind::Lp { p } => {
            let size = scalar::unary(k, UnaryOp::Abs, dtype, v);
            // A product of squares, one per bit of the exponent; a power function would be far slower.
            let (mut power, mut square, mut left) = (None, size, p);
            while left > 1 {
                if left & 1 == 1 {
                    power = Some(power.map_or(square, |power| k.mul(power, square)));
                }
                square = k.mul(square, square);
                left >>= 1;
            }
            let power = power.map_or(square, |power| k.mul(power, square));
            k.add(acc, power)
        }
    }
}

fn finish(e: &Emit<'_>, k: &mut Builder, kind: PoolKind, window: &Window<'_>, acc: Val) -> Val {
    let ty = k.ty(acc);
    let dtype = arithmetic(e.dtype(0));
    match kind {
        PoolKind::Max | PoolKind::Lp { p: 1 } => acc,
        PoolKind::Average { include_pad } => {
            let count = window.count(k, include_pad);
            let count = k.convert(count, ty.elem);
            let count = k.splat(count, ty.lanes);
            scalar::binary(k, BinaryOp::Div, dtype, acc, count)
        }
        PoolKind::Lp { p: 2 } => scalar::unary(k, UnaryOp::Sqrt, dtype, acc),
        PoolKind::Lp { p } => {
            let exponent = k.float(1.0 / f64::from(p), ty);
            scalar::binary(k, BinaryOp::Pow, dtype, acc, exponent)
        }
    }
}
