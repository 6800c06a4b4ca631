//! Loads, stores and casts of every pair of element types as machine code: to the bit what the interpreter computes.

use super::*;
use crate::lower::numbers::{cast, load, store};

/// Elements of a type: codes of all kinds, none of which is out of range for the types of fewer bits than a byte.
fn elements(dtype: DType, count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut values = vec![0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 100.0, 127.0, 128.0, -129.0, 255.0, 65504.0, 1e9, 4e9, -3e9];
    values.resize_with(count, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state as i32) * 2f64.powi(-(state as i32 >> 3 & 31))
    });
    // Negative numbers are no numbers of these; elsewhere they wrap.
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
                k.for_each(start, end, i64::from(lanes), &mut |k, i| {
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
            for machine in Target::host_levels() {
                let compiled = compile(&program(kernel.clone(), &[data.len()], output as usize), &machine);
                let model = Model::load(&compiled.expect("compiles").object).expect("loads");
                let got = model.invoke(&[tensor(&data)]).expect("runs")[0].data().to_vec();
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
