//! Loads, stores and casts of every pair of element types as machine code: bitwise equal to the interpreter.

use super::*;
use mcc_kernel::kir::Addr;
use mcc_kernel::numbers::{cast, load, store};

/// Elements of a type: codes of all kinds, all in range for types of fewer bits than a byte.
fn elements(dtype: DType, count: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut values = vec![0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 100.0, 127.0, 128.0, -129.0, 255.0, 65504.0, 1e9, 4e9, -3e9];
    values.resize_with(count, || {
        let state = random.next() as u32;
        f64::from(state as i32) * 2f64.powi(-(state as i32 >> 3 & 31))
    });
    // These types have no negative numbers; elsewhere they wrap.
    let values: Vec<f64> = if dtype == DType::U64 { values.iter().map(|v| v.abs()).collect() } else { values };
    Tensor::from_f64s(dtype, vec![count], &values).expect("as many values").data().to_vec()
}

#[test]
fn all_casts() {
    let count = 64;
    for lanes in [1, 2, 4, 8, 16] {
        for from in DType::all() {
            let data = elements(from, count);
            let mut k = Builder::new("casts", 2);
            let (source, target) = (k.pointer(0), k.pointer(1));
            let (start, end) = (k.int(0), k.int(count as i64));
            let mut output = 0;
            for to in DType::all() {
                k.for_each(start, end, i64::from(lanes), |k, i| {
                    let at = k.at_index(source, i, from.size() as u32);
                    let v = load(k, from, at, lanes);
                    let v = cast(k, v, from, to, true);
                    let mut at = k.at_index(target, i, to.size() as u32);
                    at.offset += output;
                    store(k, to, at, v);
                });
                output += (count * to.size()) as i32;
            }
            let kernel = k.finish();
            let mut memory = vec![data.clone(), vec![0; output as usize]];
            interp::run(&kernel, &mut memory, &[]).expect("interprets");
            for machine in mcc_testing::levels() {
                let compiled = compile(&program(kernel.clone(), &[data.len()], output as usize), &machine);
                let object = compiled.expect("compiles").object;
                let got = mcc_testing::invoke(&machine, &object, &[tensor(&data)], &[tensor(&memory[1])]);
                let got = got[0].data();
                let mut start = 0;
                for to in DType::all() {
                    for i in 0..count {
                        let at = start + i * to.size()..start + (i + 1) * to.size();
                        let (a, b) = (&got[at.clone()], &memory[1][at]);
                        let x = &data[i * from.size()..(i + 1) * from.size()];
                        assert_eq!(a, b, "{from} {x:?} as {to} in {lanes} lanes");
                    }
                    start += count * to.size();
                }
            }
        }
    }
}

/// Every 16-bit float converted to `f32` and back by the dedicated instructions, and `f32` numbers in between.
#[test]
fn halves() {
    let codes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for lanes in [1, 8, 16] {
        let mut k = Builder::new("halves", 2).with_halves(true);
        let (source, target) = (k.pointer(0), k.pointer(1));
        let (start, end) = (k.int(0), k.int(1 << 16));
        k.for_each(start, end, lanes, |k, i| {
            let at = k.at_index(source, i, 2);
            let v = load(k, DType::F16, at, lanes as u32);
            let at = k.at_index(target, i, 4);
            store(k, DType::F32, at, v);
            // A little more or less, the midpoint, and out of range.
            for (n, factor) in (1i32..).zip([1.0, 1.0 + 2f64.powi(-11), 1.0 - 2f64.powi(-12), 3.0]) {
                let ty = k.ty(v);
                let factor = k.float(factor, ty);
                let moved = k.mul(v, factor);
                let at = k.at_index(target, i, 2);
                store(k, DType::F16, Addr { offset: (n + 1) << 17, ..at }, moved);
            }
        });
        let kernel = k.finish();
        let output = 6 << 17;
        let mut memory = vec![codes.clone(), vec![0; output]];
        interp::run(&kernel, &mut memory, &[]).expect("interprets");
        for machine in mcc_testing::levels().into_iter().filter(Target::has_halves) {
            let compiled = compile(&program(kernel.clone(), &[codes.len()], output), &machine).expect("compiles");
            let got = mcc_testing::invoke(&machine, &compiled.object, &[tensor(&codes)], &[tensor(&memory[1])]);
            assert!(got[0].data()[..] == memory[1], "{:?} in {lanes} lanes", machine.features);
        }
    }
}
