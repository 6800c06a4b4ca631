//! Copies between strided views of raw elements: the loop behind transposes, slices and broadcasts.

/// The elements of `src` at `offset + sum(index * strides)` for every index of `shape`, in row-major order. Strides
/// and offset count elements of `size` bytes; all positions must lie in `src`.
pub(super) fn read(src: &[u8], size: usize, shape: &[usize], offset: usize, strides: &[isize]) -> Vec<u8> {
    let numel: usize = shape.iter().product();
    let mut out = Vec::with_capacity(numel * size);
    if numel == 0 {
        return out;
    }
    let (outer, (n, step)) = coalesce(shape, strides);
    let mut index = vec![0usize; outer.len()];
    let mut base = offset as isize;
    loop {
        row(src, size, base, n, step, &mut out);
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            let (extent, stride) = outer[axis];
            index[axis] += 1;
            base += stride;
            if index[axis] < extent {
                break;
            }
            index[axis] = 0;
            base -= stride * extent as isize;
        }
    }
}

/// Drops axes of extent 1 and joins contiguous axes; the innermost axis is separate.
fn coalesce(shape: &[usize], strides: &[isize]) -> (Vec<(usize, isize)>, (usize, isize)) {
    let mut axes: Vec<(usize, isize)> = Vec::with_capacity(shape.len());
    for (&n, &stride) in shape.iter().zip(strides).filter(|(n, _)| **n != 1) {
        match axes.last_mut() {
            Some(last) if last.1 == stride * n as isize => *last = (last.0 * n, stride),
            _ => axes.push((n, stride)),
        }
    }
    let inner = axes.pop().unwrap_or((1, 1));
    (axes, inner)
}

fn row(src: &[u8], size: usize, base: isize, n: usize, step: isize, out: &mut Vec<u8>) {
    let base = base as usize;
    if step == 1 {
        return out.extend_from_slice(&src[base * size..(base + n) * size]);
    }
    match size {
        1 => elements::<1>(src, base, n, step, out),
        2 => elements::<2>(src, base, n, step, out),
        4 => elements::<4>(src, base, n, step, out),
        8 => elements::<8>(src, base, n, step, out),
        _ => (0..n).for_each(|i| {
            let at = base.wrapping_add_signed(i as isize * step) * size;
            out.extend_from_slice(&src[at..at + size]);
        }),
    }
}

fn elements<const SIZE: usize>(src: &[u8], base: usize, n: usize, step: isize, out: &mut Vec<u8>) {
    let (elements, _) = src.as_chunks::<SIZE>();
    let mut at = base;
    out.extend((0..n).flat_map(|_| {
        let element = elements[at];
        at = at.wrapping_add_signed(step);
        element
    }));
}
