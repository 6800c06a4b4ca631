//! Floats to bytes as machine code: bitwise equal to the interpreter, including NaN, infinities and halves.

use super::*;
use mcc_kernel::kir::Rounding;

/// Numbers of lanes and vectors of a conversion.
const SHAPES: &[(u32, usize)] = &[(1, 1), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (8, 4), (16, 1), (16, 2), (16, 4)];

fn numbers() -> Vec<f32> {
    let mut values = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 126.5];
    values.extend([255.5, 254.5, -128.5, -129.5, 1e10, -1e10, 3e38, -3e38, 2_147_483_648.0, -2_147_483_648.0, 1e-40]);
    values.extend((0..42).map(|i| (i as f32 - 20.0) * 13.37));
    values
}

/// A kernel that stores the bytes and their values; the zero point is a constant, or the last input.
fn kernel(lanes: u32, parts: usize, zero: Option<f64>, rounding: Rounding, count: usize) -> Kernel {
    let mut k = Builder::new("quantize", 3);
    let (source, shift, target) = (k.pointer(0), k.pointer(1), k.pointer(2));
    let ty = Ty::new(Elem::F32, lanes);
    let (start, end) = (k.int(0), k.int(count as i64));
    k.for_each(start, end, i64::from(lanes) * parts as i64, |k, i| {
        let zero = match zero {
            Some(zero) => k.float(zero, ty),
            None => {
                let at = k.at(shift, 0);
                let zero = k.load(Ty::new(Elem::F32, 1), at);
                k.splat(zero, lanes)
            }
        };
        let mut values = Vec::new();
        for part in 0..parts as i32 {
            let mut at = k.at_index(source, i, 4);
            at.offset += part * 4 * lanes as i32;
            let v = k.load(ty, at);
            let grid = k.grid(v, zero, rounding);
            // The sign of a zero is unspecified.
            let nothing = k.zero(ty);
            let grid = k.add(grid, nothing);
            let mut at = k.at_index(target, i, 4);
            at.offset += part * 4 * lanes as i32 + count as i32;
            k.store(at, grid);
            values.push(v);
        }
        let bytes = k.quantize(&values, zero, rounding);
        let at = k.at_index(target, i, 1);
        k.store(at, bytes);
    });
    k.finish()
}

#[test]
fn bytes_of_floats() {
    let values = numbers();
    let (data, count) = (f32s(&values), values.len());
    assert_eq!(count % 64, 0);
    let bounded: Vec<f32> = values.iter().map(|v| if v.abs() <= Rounding::BOUND as f32 { *v } else { -7.5 }).collect();
    let bounded = f32s(&bounded);
    for &(lanes, parts) in SHAPES {
        for (zero, signed) in [(0.0, false), (0.0, true), (123.0, false), (-7.0, true), (255.0, false), (127.0, true)] {
            for constant in [true, false] {
                let of =
                    |bounded: bool| kernel(lanes, parts, constant.then_some(zero), Rounding { signed, bounded }, count);
                run(&of(false), &[&data, &f32s(&[zero as f32])], 5 * count);
                run(&of(true), &[&bounded, &f32s(&[zero as f32])], 5 * count);
            }
        }
    }
}

#[test]
fn bytes_of_floats_on_arm() {
    let values = numbers();
    let (data, count) = (f32s(&values), values.len());
    for signed in [false, true] {
        let kernel = kernel(4, 4, Some(5.0), Rounding { signed, bounded: false }, count);
        let inputs = [data.clone(), f32s(&[5.0])];
        let mut memory = vec![inputs[0].clone(), inputs[1].clone(), vec![0; 5 * count]];
        interp::run(&kernel, &mut memory, &[]).expect("interprets");
        let arm = Target::new("aarch64-unknown-linux-gnu", None).expect("a target");
        let compiled = compile(&program(kernel, &[data.len(), 4], 5 * count), &arm).expect("compiles");
        let tensors: Vec<Tensor> = inputs.iter().map(|i| tensor(i)).collect();
        let got = mcc_testing::invoke(&arm, &compiled.object, &tensors, &[tensor(&memory[2])]);
        assert_eq!(got[0].data(), &memory[2]);
    }
}

/// Bytes looked up in tables, on both kinds of targets.
#[test]
fn bytes_of_tables() {
    let data: Vec<u8> = (0..=255u8).map(|i| i.wrapping_mul(77).wrapping_add(5)).collect();
    let table: Vec<u8> = (0..=255u8).map(|i| i ^ (i >> 1) ^ 0x5a).collect();
    for lanes in [1, 4, 8, 16, 32, 64] {
        let mut k = Builder::new("lookup", 3);
        let (source, found, target) = (k.pointer(0), k.pointer(1), k.pointer(2));
        let (start, end) = (k.int(0), k.int(256));
        k.for_each(start, end, i64::from(lanes), |k, i| {
            let at = k.at_index(source, i, 1);
            let v = k.load(Ty::new(Elem::I8, lanes), at);
            let v = k.lookup(v, found);
            let at = k.at_index(target, i, 1);
            k.store(at, v);
        });
        let kernel = k.finish();
        let want: Vec<u8> = data.iter().map(|&i| table[usize::from(i)]).collect();
        let mut memory = vec![data.clone(), table.clone(), vec![0; 256]];
        interp::run(&kernel, &mut memory, &[]).expect("interprets");
        assert_eq!(memory[2], want);
        for target in mcc_testing::levels().into_iter().filter(|t| lanes <= t.vector_bytes) {
            let compiled = compile(&program(kernel.clone(), &[256, 256], 256), &target).expect("compiles");
            let inputs = [tensor(&data), tensor(&table)];
            let got = mcc_testing::invoke(&target, &compiled.object, &inputs, &[tensor(&want)]);
            assert_eq!(got[0].data(), &want, "{lanes} lanes");
        }
    }
}
