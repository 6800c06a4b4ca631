//! Contractions of bytes, compared with the evaluator: windows, groups, strides, runs with every remainder, ragged
//! panels.

use super::{check, check_objects, noise};
use mcc_ir::{ConvSpec, DType, Dim, Layout, Op, Packed, Tensor, WeightFormat, mask_bytes};

/// Bytes of the whole range.
pub(crate) fn bytes(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let wide = noise(DType::F32, shape, seed).to_f64s();
    let numbers: Vec<i64> = wide.iter().map(|v| (v * 64.0).floor() as i64).collect();
    let shifted = numbers.iter().map(|v| if dtype == DType::U8 { v + 128 } else { *v }).collect::<Vec<_>>();
    Tensor::from_i64s(dtype, shape.to_vec(), &shifted).unwrap()
}

fn dot(spec: ConvSpec, kernel: Vec<i64>, out: usize) -> Op {
    Packed { spec, kernel, out, weights: WeightFormat::Int8 { bitmask: false } }.into()
}

/// The same with a bitmask.
fn masked(op: &Op) -> Op {
    op.packed().expect("packed weights").with(WeightFormat::Int8 { bitmask: true }).into()
}

/// A product of `2 * rows` rows.
fn product(dtype: DType, rows: usize, depth: usize, out: usize, tile: usize) -> (Op, Vec<Tensor>) {
    let (panels, steps) = (usize::div_ceil(out, tile), usize::div_ceil(depth, 4));
    let (strides, dilations, pads) = (Vec::new(), Vec::new(), Vec::new());
    let spec = ConvSpec { strides, dilations, pads, group: 1, layout: Layout::ChannelsLast };
    let packed = bytes(DType::I8, &[1, panels, 1, steps, tile, 4], 7);
    (dot(spec, Vec::new(), out), vec![bytes(dtype, &[2, rows, depth], 3), packed])
}

/// The same bytes without the smallest one.
pub(crate) fn narrow(t: &Tensor) -> Tensor {
    let bytes: Vec<u8> = t.data().iter().map(|&b| if b == 0x80 { 0x81 } else { b }).collect();
    Tensor::new(t.dtype(), t.shape().to_vec(), bytes.into()).unwrap()
}

#[test]
fn products_of_extremes() {
    for (dtype, low) in [(DType::I8, 0x81), (DType::I8, 0x80), (DType::U8, 0x80)] {
        let (op, mut operands) = product(dtype, 11, 70, 24, 16);
        let ends = |t: &Tensor, ends: [u8; 3]| {
            let bytes: Vec<u8> = (0..t.numel()).map(|i| ends[i * 7 % 11 % 3]).collect();
            Tensor::new(t.dtype(), t.shape().to_vec(), bytes.into()).unwrap()
        };
        let data = if dtype == DType::I8 { [0x80, 0x80, 0x7f] } else { [0xff, 0xff, 0] };
        operands = vec![ends(&operands[0], data), ends(&operands[1], [low, 0x7f, low])];
        check(&op, &operands);
    }
}

#[test]
fn products() {
    for (dtype, rows, depth, out, tile) in [
        (DType::U8, 1, 3, 5, 4),
        (DType::I8, 7, 33, 40, 16),
        (DType::U8, 13, 18, 16, 16),
        (DType::U8, 29, 40, 130, 64),
        (DType::I8, 3, 64, 48, 48),
    ] {
        let (op, operands) = product(dtype, rows, depth, out, tile);
        check(&op, &operands);
        if dtype == DType::I8 {
            check(&op, &[operands[0].clone(), narrow(&operands[1])]);
        }
    }
}

/// Deep rows are in blocks of few rows, which tiles of ten rows must divide.
#[test]
fn blocks_of_rows() {
    let (op, operands) = product(DType::U8, 25, 8192, 8, 8);
    check_objects(&op, &operands);
}

#[test]
fn convolutions() {
    for (kernel, strides, dilations, group, shape, out) in [
        (vec![1, 1], vec![1, 1], vec![1, 1], 1, [2, 5, 6, 16], 20),
        (vec![1, 1], vec![2, 2], vec![1, 1], 1, [1, 5, 7, 12], 33),
        (vec![3, 3], vec![1, 1], vec![1, 1], 1, [1, 6, 5, 3], 8),
        (vec![3, 2], vec![1, 2], vec![2, 3], 1, [1, 8, 9, 6], 17),
        (vec![2, 3], vec![1, 1], vec![1, 1], 2, [1, 4, 5, 10], 12),
    ] {
        let spec = ConvSpec { strides, dilations, pads: vec![(0, 0); 2], group, layout: Layout::ChannelsLast };
        let (taps, run) = spec.runs(&kernel, &Dim::from(shape[3] / group));
        let run = run.as_const().unwrap();
        let panels = usize::div_ceil(out / group, 16);
        let packed = bytes(DType::I8, &[group, panels, taps as usize, usize::div_ceil(run as usize, 4), 16, 4], 11);
        check(&dot(spec, kernel, out), &[bytes(DType::U8, &shape, 5), packed]);
    }
}

/// Bytes with many zeros, as masks and values.
fn sparse(packed: &Tensor, share: usize) -> [Tensor; 3] {
    let kept = packed.data().iter().enumerate().map(|(i, &b)| if i * 7 % share == 0 { b } else { 0 });
    let packed = Tensor::new(DType::I8, packed.shape().to_vec(), kept.collect::<Vec<u8>>().into()).unwrap();
    mask_bytes(&packed).unwrap().unwrap()
}

#[test]
fn masked_products() {
    // One tile, full tiles with and without a tail, several blocks of rows, ragged panels, no zeros and only zeros.
    for (rows, depth, out, tile, share) in
        [(1, 7, 40, 16, 5), (3, 64, 64, 64, 5), (20, 18, 130, 64, 3), (6, 32, 33, 48, 1), (5, 9, 16, 16, 1 << 30)]
    {
        let (op, operands) = product(DType::U8, rows, depth, out, tile);
        check(&masked(&op), &[&operands[..1], &sparse(&operands[1], share)].concat());
    }
    let (op, operands) = product(DType::U8, 150, 8192, 16, 16);
    check_objects(&masked(&op), &[&operands[..1], &sparse(&operands[1], 5)].concat());
}

#[test]
fn masked_convolutions() {
    let spec = ConvSpec {
        strides: vec![1, 2],
        dilations: vec![2, 1],
        pads: vec![(0, 0); 2],
        group: 1,
        layout: Layout::ChannelsLast,
    };
    let (taps, run) = spec.runs(&[3, 2], &Dim::from(6i64));
    let steps = usize::div_ceil(run.as_const().unwrap() as usize, 4);
    let packed = bytes(DType::I8, &[1, 2, taps as usize, steps, 32, 4], 11);
    let op = dot(spec, vec![3, 2], 50);
    check(&masked(&op), &[&[bytes(DType::U8, &[1, 8, 9, 6], 5)][..], &sparse(&packed, 4)].concat());
}
