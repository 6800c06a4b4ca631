//! Contractions with low-bit weights, compared with the evaluator: all codes, block tails, ragged panels, rows with
//! NaN.

use mcc_targets::Config;

use super::{check_with, noise};
use mcc_ir::eval::eval_op;
use mcc_ir::{Column, ConvSpec, DType, Dim, Layout, LowBit, Op, Packed, Tensor, TensorType, WeightFormat, infer};
use mcc_kernel::kernels::{Epilogue, KernelRequest, Places, build};
use mcc_kernel::kir::interp;
use mcc_kernel::kir::verify::verify;

/// The targets that compute them differently.
const TARGETS: &[(&str, &str)] = &[
    ("x86_64-unknown-linux-gnu", "x86-64-v2"),
    ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    ("x86_64-unknown-linux-gnu", "x86-64-v3+avxvnni"),
    ("x86_64-unknown-linux-gnu", "x86-64-v4"),
    ("x86_64-unknown-linux-gnu", "icelake-server"),
    ("aarch64-unknown-linux-gnu", "generic"),
    ("aarch64-unknown-linux-gnu", "generic+dotprod"),
    ("aarch64-unknown-linux-gnu", "generic+dotprod+i8mm"),
];

fn spec(axes: usize, strides: &[i64], dilations: &[i64]) -> ConvSpec {
    ConvSpec {
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads: vec![(0, 0); axes],
        group: 1,
        layout: Layout::ChannelsLast,
    }
}

/// Pseudo-random codes, and their parameters.
pub(crate) fn weights(bits: u32, block: usize, [depth, out]: [usize; 2], zeros: bool) -> Vec<Tensor> {
    let blocks = depth.div_ceil(block);
    let codes = noise(DType::F32, &[out, depth], 3).to_f64s();
    let scales = noise(DType::F32, &[out, blocks], 4).to_f64s();
    let columns: Vec<Column> = (0..out)
        .map(|c| Column {
            codes: codes[c * depth..][..depth].iter().map(|v| ((v + 2.0) / 4.0 * f64::from(1 << bits)) as u8).collect(),
            scales: scales[c * blocks..][..blocks].iter().map(|&s| (s / f64::from(1 << bits)) as f32).collect(),
            zeros: (0..if zeros { blocks } else { 0 }).map(|b| ((c + b) % 5) as i32 - 2).collect(),
        })
        .collect();
    LowBit { bits, block }.pack(&columns, 16).unwrap()
}

fn matrix(bits: u32, block: usize, out: usize) -> Op {
    let weights = WeightFormat::LowBit(LowBit { bits, block });
    Packed { spec: spec(0, &[], &[]), kernel: Vec::new(), out, weights }.into()
}

/// Runs every target's kernel with the interpreter; returns results in the targets' order.
fn interpreted(op: &Op, inputs: &[Tensor], want: &Tensor) -> Vec<Vec<f64>> {
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>()).unwrap().types;
    let constants = vec![None; types.len()];
    let places = Places::default();
    TARGETS
        .iter()
        .map(|(triple, cpu)| {
            let config = &Config::new(triple, Some(cpu)).unwrap();
            let request = KernelRequest {
                op,
                operands: &types,
                constants: &constants,
                results: &results,
                places: &places,
                config,
                layer: "",
            };
            let built = build(&request, &Epilogue::default()).unwrap();
            verify(&built.kernel).unwrap_or_else(|e| panic!("{cpu}: {e}"));
            let mut memory: Vec<Vec<u8>> = inputs.iter().map(|t| t.data().to_vec()).collect();
            memory.push(vec![0xee; want.data().len()]);
            let bytes = |d: &Dim| d.as_const().unwrap() as usize;
            memory.extend(built.scratch.iter().map(|d| vec![0xee; bytes(d)]));
            interp::run(&built.kernel, &mut memory, &[]).unwrap_or_else(|e| panic!("{cpu}: {e}"));
            let data = memory.swap_remove(inputs.len());
            Tensor::new(DType::F32, want.shape().to_vec(), data.into()).unwrap().to_f64s()
        })
        .collect()
}

/// Compares results with the evaluator's, within the error bound of 16-bit rows.
fn check_rows(op: &Op, inputs: &[Tensor], depth: usize) {
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>()).unwrap().types;
    let want = &eval_op(op, inputs, &results).unwrap()[0];
    // Weights and elements are at most 2 here.
    let bound = 2.0 / 65278.0 * 2.0 * depth as f64;
    for (got, (_, cpu)) in interpreted(op, inputs, want).iter().zip(TARGETS) {
        for (i, (g, w)) in got.iter().zip(want.to_f64s()).enumerate() {
            assert!((g - w).abs() <= bound, "{op:?} of {types:?} for {cpu}, element {i}: {g}, not {w}");
        }
    }
}

#[test]
fn products() {
    for (m, depth, out) in [(1, 16, 16), (2, 33, 7), (5, 100, 40), (9, 48, 97), (30, 20, 33)] {
        for (bits, block) in [(8, 1024), (4, 1024), (2, 1024), (8, 32), (4, 16), (4, 32), (2, 16)] {
            for zeros in [false, true] {
                let mut operands = vec![noise(DType::F32, &[m, depth], 7)];
                operands.extend(weights(bits, block, [depth, out], zeros));
                check_rows(&matrix(bits, block, out), &operands, depth);
            }
        }
    }
}

/// In blocks whose sums exceed 32 bits, the two bytes are summed separately.
#[test]
fn long_blocks() {
    for (bits, block, zeros) in [(8, 2048, false), (8, 2048, true), (4, 1024, true)] {
        let depth = 1500;
        let mut operands = vec![noise(DType::F32, &[3, depth], 7)];
        operands.extend(weights(bits, block, [depth, 20], zeros));
        check_rows(&matrix(bits, block, 20), &operands, depth);
    }
}

#[test]
fn objects() {
    for (m, depth, out, bits, block, zeros) in [
        (7, 52, 50, 8, 1024, false),
        (1, 64, 80, 4, 32, true),
        (3, 40, 18, 2, 16, false),
        (13, 72, 35, 4, 16, false),
        (4, 530, 9, 8, 1024, true),
    ] {
        let mut operands = vec![noise(DType::F32, &[m, depth], 7)];
        operands.extend(weights(bits, block, [depth, out], zeros));
        check_with(&matrix(bits, block, out), &operands, 2e-3);
    }
}

#[test]
fn windows() {
    for (kernel, strides, dilations, shape, out) in [
        (vec![1, 1], [2, 2], [1, 1], [1, 5, 7, 12], 33),
        (vec![3, 3], [1, 1], [1, 1], [1, 6, 5, 3], 8),
        (vec![3, 2], [1, 2], [2, 3], [1, 8, 9, 6], 17),
        (vec![1, 1], [1, 1], [1, 1], [2, 3, 4, 20], 21),
    ] {
        let depth = shape[3] * kernel.iter().product::<i64>() as usize;
        let format = WeightFormat::LowBit(LowBit { bits: 8, block: 16 });
        let op = Packed { spec: spec(2, &strides, &dilations), kernel, out, weights: format }.into();
        let mut operands = vec![noise(DType::F32, &shape, 5)];
        operands.extend(weights(8, 16, [depth, out], false));
        check_rows(&op, &operands, depth);
        check_with(&op, &operands, 2e-3);
    }
}

#[test]
fn tables() {
    for (m, bits) in [(1, 4), (6, 4), (5, 8), (3, 2)] {
        let mut operands = vec![noise(DType::F32, &[m, 40], 7)];
        operands.extend(weights(bits, 16, [40, 21], false));
        operands.push(noise(DType::F32, &[LowBit { bits, block: 16 }.table_size()], 8));
        check_rows(&matrix(bits, 16, 21), &operands, 40);
        check_with(&matrix(bits, 16, 21), &operands, 1e-4);
    }
}

/// Infinities, NaN and tiny numbers give the same results as `f32` weights.
#[test]
fn rows_that_digits_cannot_hold() {
    let depth = 50;
    let mut rows = noise(DType::F32, &[8, depth], 7).to_f64s();
    rows[3] = f64::INFINITY;
    rows[depth + 7] = f64::NAN;
    rows[2 * depth..3 * depth].fill(0.0);
    rows[3 * depth..4 * depth].iter_mut().for_each(|v| *v *= 1e-36);
    rows[4 * depth..5 * depth].iter_mut().for_each(|v| *v *= 1e36);
    rows[5 * depth + 49] = f64::NEG_INFINITY;
    let x = Tensor::from_f64s(DType::F32, vec![8, depth], &rows).unwrap();
    for (bits, block) in [(8, 1024), (4, 16)] {
        let op = matrix(bits, block, 20);
        let operands = [vec![x.clone()], weights(bits, block, [depth, 20], false)].concat();
        let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
        let results = infer(&op, &types.iter().collect::<Vec<_>>()).unwrap().types;
        let want = &eval_op(&op, &operands, &results).unwrap()[0];
        for (got, (_, cpu)) in interpreted(&op, &operands, want).iter().zip(TARGETS) {
            for (i, (&g, w)) in got.iter().zip(want.to_f64s()).enumerate() {
                let unit = rows[i / 20 * depth..][..depth].iter().fold(0.0f64, |m, v| m.max(v.abs()));
                let near = (g - w).abs() <= 2e-3 * unit;
                assert!(g == w || g.is_nan() && w.is_nan() || near, "{cpu}, element {i}: {g}, not {w}");
            }
        }
    }
}

/// One object for any number of rows.
#[test]
fn symbols_and_threads() {
    let mut operands = vec![noise(DType::F32, &[70, 40], 7)];
    operands.extend(weights(4, 16, [40, 100], true));
    check_with(&matrix(4, 16, 100), &operands, 2e-3);
}

/// 16-bit scales, where the target can convert them.
#[test]
fn short_scales() {
    for (m, bits, block, zeros) in [(3, 4, 16, true), (9, 8, 1024, false), (2, 2, 32, true)] {
        let mut operands = vec![noise(DType::F32, &[m, 70], 7)];
        operands.extend(weights(bits, block, [70, 40], zeros));
        operands[2] = Tensor::from_f64s(DType::F16, operands[2].shape().to_vec(), &operands[2].to_f64s()).unwrap();
        check_rows(&matrix(bits, block, 40), &operands, 70);
        check_with(&matrix(bits, block, 40), &operands, 2e-3);
    }
}

/// For quantized data that reach a product as floats, the results are exact integers, since they may be quantized
/// again. A row with a single element that is not an integer has only the error of split rows.
#[test]
fn whole_numbers_are_exact() {
    for (m, depth, out, bits, block, zeros) in [
        (1, 64, 20, 8, 1024, false),
        (9, 100, 40, 8, 1024, true),
        (5, 600, 17, 8, 1024, false),
        (7, 48, 33, 4, 16, true),
    ] {
        // The largest magnitudes of rows; the last ones exceed two bytes.
        let spans = match bits {
            4 => [255.0, 1.0, 32639.0, 32640.0, 65535.0, 40001.0, 63.0, 2.0, 0.0],
            _ => [255.0, 254.0, 128.0, 127.0, 1.0, 64.0, 63.0, 2.0, 0.0],
        };
        let mut rows: Vec<f64> = noise(DType::F32, &[m, depth], 7).to_f64s();
        for (row, span) in rows.chunks_mut(depth).zip(spans) {
            row.iter_mut().for_each(|v| *v = (*v * span / 2.0).round());
            row[depth / 2] = -span;
        }
        let mut operands = vec![Tensor::from_f64s(DType::F32, vec![m, depth], &rows).unwrap()];
        operands.extend(weights(bits, block, [depth, out], zeros));
        operands[2] =
            Tensor::from_f64s(DType::F32, operands[2].shape().to_vec(), &vec![1.0; operands[2].numel()]).unwrap();
        let op = matrix(bits, block, out);
        let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
        let results = infer(&op, &types.iter().collect::<Vec<_>>()).unwrap().types;
        let want = &eval_op(&op, &operands, &results).unwrap()[0];
        for (got, (_, cpu)) in interpreted(&op, &operands, want).iter().zip(TARGETS) {
            assert_eq!(got, &want.to_f64s(), "{m} rows of {depth} elements for {cpu}");
        }
        check_with(&op, &operands, 0.0);
    }
    let mut rows = vec![1.0; 32];
    rows[31] = 0.7;
    let mut operands = vec![Tensor::from_f64s(DType::F32, vec![1, 32], &rows).unwrap()];
    operands.extend(weights(8, 1024, [32, 16], false));
    check_rows(&matrix(8, 1024, 16), &operands, 32);
}
