//! Loop nests and runs of elements, shared by all kernels that move or visit elements.

use mcc_targets::schedule::{loops::MAX_INLINE_COPY_BYTES, threads::MIN_SHARED_ROUNDS};

use crate::kir::{Bin, Builder, Cmp, Elem, Ty, Val};
use mcc_ir::{DType, Dim};

/// Indices from `first` (inclusive) to `end` (exclusive).
#[derive(Clone, Copy)]
pub struct IndexRange {
    /// The first one.
    pub first: Val,
    /// One past the last.
    pub end: Val,
}

/// The body at each coordinate.
type NestBody<'a> = Box<dyn FnOnce(&mut Builder, &[Val]) + 'a>;
/// The body at an index, for a number of lanes.
type ColumnsBody<'a> = &'a mut dyn FnMut(&mut Builder, Val, u32);

/// Visits every coordinate of `shape`, the last axis fastest.
pub fn each_coordinate(k: &mut Builder, shape: &[Dim], body: impl FnOnce(&mut Builder, &[Val])) {
    let mut coords = Vec::with_capacity(shape.len());
    level(k, shape, None, &mut coords, Box::new(body));
}

/// The same, where threads may share the visits; a visit must not read what others write.
pub fn parallel_coordinates(k: &mut Builder, shape: &[Dim], body: impl FnOnce(&mut Builder, &[Val])) {
    let mut coords = Vec::with_capacity(shape.len());
    match shared_axis(shape) {
        Some(axis) => level(k, shape, Some(axis), &mut coords, Box::new(body)),
        None => {
            let (zero, one) = (k.int(0), k.int(1));
            k.parallel(zero, one, 1, |k, _| level(k, shape, None, &mut coords, Box::new(body)));
        }
    }
}

/// The best axis for threads to share: the first one known to have enough rounds, else the first one of unknown extent,
/// else the longest.
pub fn shared_axis(shape: &[Dim]) -> Option<usize> {
    let enough = shape.iter().position(|d| d.as_const().is_some_and(|c| c >= MIN_SHARED_ROUNDS));
    let unknown = || shape.iter().position(|d| d.as_const().is_none());
    let longest = || (0..shape.len()).rev().max_by_key(|&a| shape[a].as_const()).filter(|&a| !shape[a].is(1));
    enough.or_else(unknown).or_else(longest)
}

/// An outer loop: shared if it is known to have enough rounds; otherwise inner loops may be.
pub fn around(k: &mut Builder, extent: &Dim, body: impl FnOnce(&mut Builder, Val)) {
    let (zero, end) = (k.int(0), k.dim(extent));
    k.parallel_if(extent.as_const().is_some_and(|c| c >= MIN_SHARED_ROUNDS), zero, end, 1, body);
}

fn level(k: &mut Builder, shape: &[Dim], shared: Option<usize>, coords: &mut Vec<Val>, body: NestBody<'_>) {
    let axis = coords.len();
    let Some(extent) = shape.get(coords.len()) else {
        body(k, coords);
        return;
    };
    let (start, end) = (k.int(0), k.dim(&visited(extent, &shape[axis + 1..])));
    let round = |k: &mut Builder, i: Val| {
        coords.push(i);
        level(k, shape, shared, coords, body);
        coords.pop();
    };
    k.parallel_if(shared == Some(axis), start, end, 1, round);
}

/// The number of rounds of a loop around those over `inner`: zero if one of these has no rounds.
pub fn visited(extent: &Dim, inner: &[Dim]) -> Dim {
    let inner = product(inner);
    match (extent.as_const(), inner.as_const()) {
        (None, None) => extent * &inner.lesser(&Dim::ONE),
        _ => extent.clone(),
    }
}

/// The flat row-major index of coordinates.
pub fn flat(k: &mut Builder, shape: &[Dim], coords: &[Val]) -> Val {
    assert_eq!(shape.len(), coords.len());
    let mut index = k.int(0);
    for (extent, &c) in shape.iter().zip(coords) {
        let extent = k.dim(extent);
        index = k.mul(index, extent);
        index = k.add(index, c);
    }
    index
}

/// The index of coordinates in memory with the given strides.
pub fn dot(k: &mut Builder, strides: &[Dim], coords: &[Val]) -> Val {
    let mut index = k.int(0);
    for (stride, &c) in strides.iter().zip(coords) {
        let stride = k.dim(stride);
        let skip = k.mul(c, stride);
        index = k.add(index, skip);
    }
    index
}

/// The row and column of coordinates in result 0, as [`Emit::store`](super::emit::Emit::store) takes them.
pub fn spot(k: &mut Builder, shape: &[Dim], coords: &[Val]) -> (Val, Val) {
    match (shape.split_last(), coords.split_last()) {
        (Some((_, rows)), Some((&col, outer))) => (flat(k, rows, outer), col),
        _ => (k.int(0), k.int(0)),
    }
}

/// The product of extents.
pub fn product(shape: &[Dim]) -> Dim {
    shape.iter().product()
}

/// `n` rounded down to a multiple of `unit`, a power of two; `n` is not negative.
pub fn round_down(k: &mut Builder, n: Val, unit: u32) -> Val {
    let unit = i64::from(unit);
    match k.as_int(n) {
        Some(c) => k.int(c / unit * unit),
        None if unit == 1 => n,
        None => {
            let mask = k.int(-unit);
            k.bin(Bin::And, n, mask)
        }
    }
}

/// Visits the tail after whole vectors as a partial vector, starting at `start`: only if the target
/// [`has_masks`](mcc_targets::Target::has_masks).
pub fn rest(k: &mut Builder, start: Val, end: Val, lanes: u32, body: impl FnOnce(&mut Builder)) {
    let count = k.sub(end, start);
    match k.as_int(count) {
        Some(n) if n <= 0 => {}
        Some(_) => k.partly(count, lanes, body),
        None => {
            let any = k.cmp(Cmp::Gt, end, start);
            k.when(any, |k| k.partly(count, lanes, body));
        }
    }
}

/// Visits the valid lanes of a vector one by one.
pub fn each_lane(k: &mut Builder, lanes: u32, mut body: impl FnMut(&mut Builder, u8)) {
    let count = k.part(lanes);
    for lane in 0..lanes as u8 {
        let Some(count) = count else {
            body(k, lane);
            continue;
        };
        let at = k.int(lane.into());
        let counts = k.cmp(Cmp::Lt, at, count);
        k.when(counts, |k| body(k, lane));
    }
}

/// Visits `start..end` in whole vectors of `lanes`, a power of two; the tail is a partial vector, or single elements if
/// the target has no masks. The body gets the first index and the number of lanes.
pub fn columns(k: &mut Builder, start: Val, end: Val, lanes: u32, mut body: impl FnMut(&mut Builder, Val, u32)) {
    visit_columns(k, start, end, lanes, &mut body);
}

fn visit_columns(k: &mut Builder, start: Val, end: Val, lanes: u32, body: ColumnsBody<'_>) {
    let mut from = start;
    if lanes > 1 {
        let count = k.sub(end, start);
        let whole = round_down(k, count, lanes);
        from = k.add(start, whole);
        k.for_each(start, from, i64::from(lanes), |k, i| body(k, i, lanes));
        if k.has_masks() {
            return rest(k, from, end, lanes, |k| body(k, from, lanes));
        }
    }
    k.for_each(from, end, 1, |k, i| body(k, i, 1));
}

/// Visits `0..n` like [`columns`], but the last vector may overlap the previous one: for idempotent bodies. Also on
/// targets with masks, if `n` is known to be at least a vector's length: masked stores are slow on some.
pub fn cover(k: &mut Builder, n: Val, lanes: u32, mut body: impl FnMut(&mut Builder, Val, u32)) {
    visit_cover(k, n, lanes, &mut body);
}

fn visit_cover(k: &mut Builder, n: Val, lanes: u32, body: ColumnsBody<'_>) {
    let zero = k.int(0);
    let constant = k.as_int(n);
    let masks = k.has_masks() && lanes > 1;
    if masks && constant.is_some_and(|n| n < i64::from(lanes)) {
        return rest(k, zero, n, lanes, |k| body(k, zero, lanes));
    }
    if lanes == 1 || constant.is_some_and(|n| n < i64::from(lanes)) {
        k.for_each(zero, n, 1, |k, i| body(k, i, 1));
        return;
    }
    let whole = round_down(k, n, lanes);
    let last = k.add_int(n, -i64::from(lanes));
    if constant.is_some() {
        k.for_each(zero, whole, i64::from(lanes), |k, i| body(k, i, lanes));
        if whole != n {
            body(k, last, lanes);
        }
        return;
    }
    if masks {
        k.for_each(zero, whole, i64::from(lanes), |k, i| body(k, i, lanes));
        return rest(k, whole, n, lanes, |k| body(k, whole, lanes));
    }
    let (width, left) = (k.int(i64::from(lanes)), k.sub(n, whole));
    let long = k.cmp(Cmp::Ge, n, width);
    let short = k.cmp(Cmp::Lt, n, width);
    let uneven = k.cmp(Cmp::Ne, left, zero);
    let overlap = k.bin(Bin::And, uneven, long);
    k.for_each(zero, whole, i64::from(lanes), |k, i| body(k, i, lanes));
    k.when(overlap, |k| body(k, last, lanes));
    k.when(short, |k| k.for_each(zero, n, 1, |k, i| body(k, i, 1)));
}

/// `base + index * size` as a pointer.
pub fn pointer_at(k: &mut Builder, base: Val, index: Val, size: usize) -> Val {
    let bytes = k.mul_int(index, size as i64);
    k.add(base, bytes)
}

/// The type that moves elements of `size` bytes without changing their bits.
pub fn raw_dtype(size: usize) -> DType {
    match size {
        1 => DType::I8,
        2 => DType::I16,
        4 => DType::I32,
        _ => DType::I64,
    }
}

/// Copies `bytes` between pointers.
pub fn copy_bytes(k: &mut Builder, vector_bytes: u32, to: Val, from: Val, bytes: Val) {
    let Some(pieces) = pieces(k, vector_bytes, bytes) else {
        k.copy(to, from, bytes);
        return;
    };
    for (ty, offset) in pieces {
        let (from, to) = (k.at(from, offset), k.at(to, offset));
        let v = k.load(ty, from);
        k.store(to, v);
    }
}

/// Fills `bytes` with zeros.
pub fn zero_bytes(k: &mut Builder, vector_bytes: u32, to: Val, bytes: Val) {
    let Some(pieces) = pieces(k, vector_bytes, bytes) else {
        k.fill_zero(to, bytes);
        return;
    };
    for (ty, offset) in pieces {
        let (v, to) = (k.zero(ty), k.at(to, offset));
        k.store(to, v);
    }
}

/// Types and offsets that cover a short run of constant length. The last piece may overlap the previous one.
fn pieces(k: &Builder, vector_bytes: u32, bytes: Val) -> Option<Vec<(Ty, i32)>> {
    let n = k.as_int(bytes).and_then(|n| i32::try_from(n).ok()).filter(|&n| n <= MAX_INLINE_COPY_BYTES)?;
    let types = [Ty::new(Elem::I32, vector_bytes / 4), Ty::I64, Ty::new(Elem::I32, 1), Ty::new(Elem::I16, 1)];
    let types: Vec<_> = types.iter().map(|&t| (t, t.bytes() as i32)).filter(|t| t.1 <= n).collect();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < n {
        let left = n - at;
        let (ty, size, offset) = match types.iter().rfind(|t| t.1 >= left) {
            Some(&(ty, size)) => (ty, size, n - size),
            None => types.iter().find(|t| t.1 <= left).map_or((Ty::new(Elem::I8, 1), 1, at), |&(ty, s)| (ty, s, at)),
        };
        pieces.push((ty, offset));
        at = offset + size;
    }
    Some(pieces)
}
