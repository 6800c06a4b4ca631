//! Weights in blocks, compared with the evaluator: ragged panels, rows and lines, empty panels, odd numbers of blocks,
//! floats and bytes, windows of one to three axes.

use super::int8::{bytes, narrow};
use super::{check, check_objects, noise};
use mcc_ir::{ConvSpec, DType, Layout, Op, Packed, Tensor, WeightFormat};

/// Blocks of panels `tile` columns wide, `counts[p]` of them for panel `p`, at some of the offsets.
fn blocks(dtype: DType, counts: &[usize], tile: usize, offsets: &[usize]) -> [Tensor; 3] {
    let (mut heads, mut met) = (vec![0i64], Vec::new());
    for (p, &count) in counts.iter().enumerate() {
        met.extend((0..count).map(|i| offsets[(i * 7 + p) % offsets.len()] as i64));
        heads.push(met.len() as i64);
    }
    let values = match dtype {
        DType::F32 => noise(DType::F32, &[met.len(), tile], 5),
        _ => bytes(DType::I8, &[met.len(), tile, 4], 5),
    };
    let list = |values: &[i64]| Tensor::from_i64s(DType::I32, vec![values.len()], values).unwrap();
    [list(&heads), list(&met), values]
}

fn operand(dtype: DType, shape: &[usize]) -> Tensor {
    if dtype == DType::F32 { noise(dtype, shape, 3) } else { bytes(dtype, shape, 3) }
}

/// `[rows, depth]` times blocks.
fn product(dtype: DType, rows: &[usize], depth: usize, out: usize, tile: usize, counts: &[usize]) -> (Op, Vec<Tensor>) {
    assert_eq!(out.div_ceil(tile), counts.len());
    let spec = ConvSpec::matrix();
    let together = if dtype == DType::F32 { 1 } else { 4 };
    let offsets: Vec<usize> = (0..=depth - together).collect();
    let x = operand(dtype, &[rows, &[depth]].concat());
    let op = Packed { spec, kernel: Vec::new(), out, weights: WeightFormat::Blocks };
    (op.into(), [&[x][..], &blocks(dtype, counts, tile, &offsets)].concat())
}

#[test]
fn products() {
    for (dtype, rows, depth, out, tile, counts) in [
        (DType::F32, &[1][..], 9, 5, 8, &[4][..]),
        (DType::F32, &[2, 29], 31, 40, 16, &[0, 7, 3]),
        (DType::F32, &[53], 17, 35, 8, &[5, 1, 0, 17, 2]),
        (DType::F32, &[7], 600, 33, 16, &[13, 40, 5]),
        (DType::U8, &[2, 29], 31, 40, 16, &[0, 7, 3]),
        (DType::I8, &[53], 12, 35, 16, &[5, 1, 6]),
    ] {
        let (op, mut operands) = product(dtype, rows, depth, out, tile, counts);
        check(&op, &operands);
        if dtype == DType::I8 {
            operands[3] = narrow(&operands[3]);
            check(&op, &operands);
        }
    }
}

/// Rows that would map to few cache sets are copied.
#[test]
fn rows_that_collide() {
    for (dtype, depth) in [(DType::F32, 512), (DType::U8, 2048)] {
        let (op, operands) = product(dtype, &[31], depth, 20, 16, &[9, 30]);
        check_objects(&op, &operands);
    }
}

#[test]
fn convolutions() {
    for (dtype, kernel, strides, dilations, shape, out) in [
        (DType::F32, &[3, 3][..], &[1, 1][..], &[1, 1][..], &[2, 9, 9, 5][..], 20),
        (DType::F32, &[2, 3], &[2, 1], &[1, 2], &[1, 8, 33, 3], 16),
        (DType::F32, &[1, 1], &[2, 2], &[1, 1], &[1, 7, 9, 256], 33),
        (DType::F32, &[3], &[1], &[2], &[3, 19, 6], 24),
        (DType::F32, &[2, 1, 2], &[1, 2, 1], &[1, 1, 1], &[1, 3, 5, 6, 4], 9),
        (DType::U8, &[3, 3], &[1, 1], &[1, 1], &[2, 9, 9, 8], 20),
        (DType::I8, &[2, 3], &[1, 2], &[2, 1], &[1, 8, 13, 4], 40),
        (DType::U8, &[5], &[1], &[1], &[3, 19, 12], 16),
    ] {
        let spec = ConvSpec {
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads: vec![(0, 0); kernel.len()],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        // Every element of a window.
        let (channels, together) = (shape[shape.len() - 1], if dtype == DType::F32 { 1 } else { 4 });
        let mut offsets: Vec<usize> = (0..=channels - together).step_by(together).collect();
        let mut apart = channels;
        for axis in (0..kernel.len()).rev() {
            let along =
                |o: &usize| (0..kernel[axis] as usize).map(|i| o + i * dilations[axis] as usize * apart).collect();
            offsets = offsets.iter().flat_map::<Vec<usize>, _>(along).collect();
            apart *= shape[axis + 1];
        }
        let counts: Vec<usize> = (0..usize::div_ceil(out, 16)).map(|p| offsets.len() / (p + 2) + p).collect();
        let operands = [&[operand(dtype, shape)][..], &blocks(dtype, &counts, 16, &offsets)].concat();
        let op = Packed { spec, kernel: kernel.to_vec(), out, weights: WeightFormat::Blocks };
        check(&op.into(), &operands);
    }
}

#[test]
fn odd_numbers() {
    let (op, mut operands) = product(DType::F32, &[5], 30, 16, 16, &[3]);
    let mut values = operands[0].to_f64s();
    (values[0], values[37], values[60], values[67]) = (f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NAN);
    operands[0] = Tensor::from_f64s(DType::F32, vec![5, 30], &values).unwrap();
    check(&op, &operands);
}
