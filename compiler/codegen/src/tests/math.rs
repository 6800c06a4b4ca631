//! The elementary functions as machine code: bitwise equal to the interpreter with fused multiply-add, and nearly equal
//! without it.

use super::*;
use mcc_kernel::math;

type Function = fn(&mut Builder, Val) -> Val;

const FUNCTIONS: &[(&str, Function)] = &[
    ("exp", math::exp),
    ("log", math::log),
    ("sigmoid", math::sigmoid),
    ("tanh", math::tanh),
    ("erf", math::erf),
    ("softplus", math::softplus),
    ("sin", math::sin),
    ("cos", math::cos),
    ("tan", math::tan),
    ("asin", math::asin),
    ("acos", math::acos),
    ("atan", math::atan),
    ("sinh", math::sinh),
    ("cosh", math::cosh),
    ("asinh", math::asinh),
    ("acosh", math::acosh),
    ("atanh", math::atanh),
    ("pow", |k, x| {
        let y = k.float(-2.7, k.ty(x));
        math::pow(k, x, y)
    }),
    ("rem", |k, x| {
        let y = k.float(1.3, k.ty(x));
        math::rem(k, x, y)
    }),
];

/// All functions in sequence, each over the whole input.
fn kernel(ty: Ty, count: usize) -> Kernel {
    let mut k = Builder::new("functions", 2);
    let (from, to) = (k.pointer(0), k.pointer(1));
    let (start, end) = (k.int(0), k.int(count as i64));
    for (n, (_, f)) in FUNCTIONS.iter().enumerate() {
        k.for_each(start, end, i64::from(ty.lanes), |k, i| {
            let at = k.at_index(from, i, ty.elem.bytes());
            let x = k.load(ty, at);
            let y = f(k, x);
            let place = k.add_int(i, (n * count) as i64);
            let at = k.at_index(to, place, ty.elem.bytes());
            k.store(at, y);
        });
    }
    k.finish()
}

/// Numbers of every binade of a type of this many bits, and special values; a multiple of 4.
fn samples() -> Vec<f64> {
    let mut v = vec![0.0, 1.0, 0.5, f64::INFINITY, f64::NAN, 1e-45, 1e38, 6400.0, 1e10, 88.8, 103.0, 20.0];
    v.extend((-148..128).map(|e| 1.37 * 2f64.powi(e)));
    v.extend((0..300).map(|i| f64::from(i) * 0.033));
    v.extend(v.clone().iter().map(|x| -x));
    v.truncate(v.len() / 4 * 4);
    v
}

fn check(ty: Ty, data: &[u8], decode: &dyn Fn(&[u8]) -> (f64, i64)) {
    let width = ty.elem.bytes() as usize;
    let count = data.len() / width;
    let output = FUNCTIONS.len() * data.len();
    let kernel = kernel(ty, count);
    let mut memory = vec![data.to_vec(), vec![0; output]];
    interp::run(&kernel, &mut memory, &[]).expect("interprets");
    for target in mcc_testing::levels() {
        let compiled = compile(&program(kernel.clone(), &[data.len()], output), &target).expect("compiles");
        let got = mcc_testing::invoke(&target, &compiled.object, &[tensor(data)], &[tensor(&memory[1])]);
        let got = got[0].data();
        let bound = if target.has_fma() { 0 } else { 4 };
        for (i, (a, b)) in got.chunks(width).zip(memory[1].chunks(width)).enumerate() {
            let ((a, a_bits), (b, b_bits)) = (decode(a), decode(b));
            let near = a_bits.abs_diff(b_bits) <= bound || a.is_nan() && b.is_nan();
            let x = decode(&data[i % count * width..]).0;
            assert!(near, "{} of {x:e}: {a:e}, not {b:e}, fused: {}", FUNCTIONS[i / count].0, target.has_fma());
        }
    }
}

#[test]
fn single_precision() {
    let data: Vec<u8> = samples().iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    for lanes in [1, 4] {
        check(Ty::new(Elem::F32, lanes), &data, &|b| {
            let v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            (f64::from(v), i64::from(v.to_bits()))
        });
    }
}

#[test]
fn double_precision() {
    let data: Vec<u8> = samples().iter().flat_map(|&x| x.to_le_bytes()).collect();
    for lanes in [1, 2, 4] {
        check(Ty::new(Elem::F64, lanes), &data, &|b| {
            let v = f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
            (v, v.to_bits() as i64)
        });
    }
}
