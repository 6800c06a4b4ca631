//! Each function against the standard library's `f64` version: dense samples of every `F32` binade, and special values.

use super::*;
use crate::kir::interp;

type Function = fn(&mut Builder, Val) -> Val;
type Function2 = fn(&mut Builder, Val, Val) -> Val;

/// Runs a function over elements given as bits, in vectors.
fn run(elem: Elem, lanes: u32, fused: bool, operands: &[Vec<u8>], f: impl Fn(&mut Builder, &[Val]) -> Val) -> Vec<u8> {
    let bytes = operands[0].len();
    let mut k = Builder::new("test", operands.len() as u32 + 1);
    let pointers: Vec<Val> = (0..=operands.len() as u32).map(|n| k.pointer(n)).collect();
    let (start, end) = (k.int(0), k.int((bytes / elem.bytes() as usize) as i64));
    k.for_each(start, end, i64::from(lanes), |k, i| {
        let values: Vec<Val> = (0..operands.len())
            .map(|n| {
                let from = k.at_index(pointers[n], i, elem.bytes());
                k.load(Ty::new(elem, lanes), from)
            })
            .collect();
        let y = f(k, &values);
        let to = k.at_index(pointers[operands.len()], i, elem.bytes());
        k.store(to, y);
    });
    let mut memory = operands.to_vec();
    memory.push(vec![0; bytes]);
    let run = if fused { interp::run } else { interp::run_unfused };
    run(&k.finish(), &mut memory, &[]).unwrap();
    memory.pop().unwrap()
}

fn run_f32(fused: bool, xs: &[f32], f: impl Fn(&mut Builder, &[Val]) -> Val, ys: Option<&[f32]>) -> Vec<f32> {
    let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let operands: Vec<Vec<u8>> = std::iter::once(xs).chain(ys).map(bytes).collect();
    let out = run(Elem::F32, 4, fused, &operands, f);
    out.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn run_f64(fused: bool, xs: &[f64], f: impl Fn(&mut Builder, &[Val]) -> Val, ys: Option<&[f64]>) -> Vec<f64> {
    let bytes = |v: &[f64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let operands: Vec<Vec<u8>> = std::iter::once(xs).chain(ys).map(bytes).collect();
    let out = run(Elem::F64, 2, fused, &operands, f);
    out.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Distance in units of the last place of `want` as an `f32`; 0 if equal, infinite for a wrong special value.
fn ulps_f32(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if rounded.is_nan() || got.is_nan() {
        return if rounded.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got == rounded {
        return if got != 0.0 || want.is_sign_negative() == got.is_sign_negative() { 0.0 } else { f64::INFINITY };
    }
    if got.is_infinite() || rounded.is_infinite() {
        return if f64::from(got.abs().min(rounded.abs())) > 3.402_820_0e38 { 1.0 } else { f64::INFINITY };
    }
    let exponent = (want.abs().to_bits() >> 52) as i32 - 1023;
    (f64::from(got) - want).abs() / 2f64.powi((exponent - 23).max(-149))
}

fn ulps_f64(got: f64, want: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got == want {
        return if got != 0.0 || want.is_sign_negative() == got.is_sign_negative() { 0.0 } else { f64::INFINITY };
    }
    if got.is_infinite() || want.is_infinite() {
        return if got.abs().min(want.abs()) > 1.797e308 { 1.0 } else { f64::INFINITY };
    }
    ((got.to_bits() as i64) - (want.to_bits() as i64)).abs() as f64
}

/// Special values, a pseudorandom sample of all bit patterns, and one of [-20, 20]. A multiple of 4 elements.
fn sample_f32(count: usize) -> Vec<f32> {
    let mut v: Vec<f32> =
        vec![0.0, 1.0, 0.5, 2.0, f32::INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45, 88.72283];
    v.extend([
        0.25,
        0.75,
        1.5,
        103.9,
        87.33654,
        0.92,
        0.999_999_94,
        1.000_000_1,
        1e-30,
        std::f32::consts::PI,
        6400.0,
        16384.0,
    ]);
    v.extend([10.0, 9.0, 4.0, 89.41598, 89.5, 1e5, 1e10, 1e20, 3e38, 0.34657]);
    v.extend(v.clone().iter().map(|x| -x));
    let mut state = 1u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    v.extend((0..count).map(|_| f32::from_bits(next())));
    v.extend((0..count).map(|_| (f64::from(next()) / f64::from(u32::MAX) * 40.0 - 20.0) as f32));
    v.extend((0..count).map(|_| (f64::from(next()) / f64::from(u32::MAX) * 4.0 - 2.0) as f32));
    v.truncate(v.len() / 4 * 4);
    v
}

fn sample_f64(count: usize) -> Vec<f64> {
    let mut v: Vec<f64> = sample_f32(0).iter().map(|&x| f64::from(x)).collect();
    v.extend([f64::MAX, f64::MIN_POSITIVE, 5e-324, 709.78, 710.3, -745.0, -708.5, -745.2, 1e300, 1e-310, 1.6e6, 1e22]);
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    v.extend((0..count).map(|_| f64::from_bits(next())));
    v.extend((0..count).map(|_| next() as f64 / u64::MAX as f64 * 40.0 - 20.0));
    v.extend((0..count).map(|_| next() as f64 / u64::MAX as f64 * 4.0 - 2.0));
    v.truncate(v.len() / 4 * 4);
    v
}

/// `erf` by its Taylor series and by the continued fraction of `erfc`.
fn erf_reference(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || a > 6.5 {
        return x.signum();
    }
    let size = if a < 1.0 {
        // e^-x² Σ 2^n x^(2n+1) / (2n+1)!!: all terms are positive.
        let mut term = a;
        let mut sum = a;
        for n in 1..120 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = f64::from(n) * 0.5 / (a + fraction);
        }
        1.0 - (-a * a).exp() / (a + fraction) * std::f64::consts::FRAC_2_SQRT_PI * 0.5
    };
    size.copysign(x)
}

fn sigmoid_reference(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn softplus_reference(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// The standard library's inverse hyperbolic functions lose digits or overflow.
fn asinh_reference(x: f64) -> f64 {
    let a = x.abs();
    let y = if a > 1e8 { a.ln() + std::f64::consts::LN_2 } else { (a + a * a / (1.0 + a.hypot(1.0))).ln_1p() };
    y.copysign(x)
}

fn acosh_reference(x: f64) -> f64 {
    let t = x - 1.0;
    if x > 1e8 {
        x.ln() + std::f64::consts::LN_2
    } else {
        (t + (t * (t + 2.0)).sqrt()).ln_1p() + (x - x.max(1.0)).sqrt()
    }
}

fn atanh_reference(x: f64) -> f64 {
    let a = x.abs();
    (0.5 * (2.0 * a / (1.0 - a)).ln_1p()).copysign(x)
}

/// Function, reference, bounds in ulp for `F32` and `F64`.
const TABLE: &[(&str, Function, fn(f64) -> f64, f64, f64)] = &[
    ("exp", exp, f64::exp, 1.5, 2.0),
    ("log", log, f64::ln, 1.5, 2.0),
    ("sigmoid", sigmoid, sigmoid_reference, 3.0, 4.0),
    ("tanh", tanh, f64::tanh, 3.0, 4.0),
    ("erf", erf, erf_reference, 3.0, 8.0),
    ("softplus", softplus, softplus_reference, 3.0, 4.0),
    ("sin", sin, f64::sin, 2.0, 2.0),
    ("cos", cos, f64::cos, 2.0, 2.0),
    ("tan", tan, f64::tan, 3.0, 4.0),
    ("asin", asin, f64::asin, 2.0, 2.0),
    ("acos", acos, f64::acos, 2.0, 2.0),
    ("atan", atan, f64::atan, 2.0, 2.0),
    ("sinh", sinh, f64::sinh, 3.0, 4.0),
    ("cosh", cosh, f64::cosh, 3.0, 4.0),
    ("asinh", asinh, asinh_reference, 3.0, 4.0),
    ("acosh", acosh, acosh_reference, 3.0, 4.0),
    ("atanh", atanh, atanh_reference, 3.0, 4.0),
];

/// Every function with and without fused multiply-add.
#[test]
fn functions_stay_within_their_bounds() {
    let (singles, doubles) = (sample_f32(80_000), sample_f64(10_000));
    let mut report = String::new();
    let mut failures = Vec::new();
    for &(name, f, reference, bound32, bound64) in TABLE {
        for fused in [true, false] {
            let got = run_f32(fused, &singles, |k, v| f(k, v[0]), None);
            let errors = singles.iter().zip(&got).map(|(&x, &y)| {
                let x = f64::from(x);
                (x, f64::from(y), ulps_f32(y, reference(x)))
            });
            let (x, y, error) = worst(errors);
            report += &format!("{name} fused: {fused}, f32: {error:.3} ulp at {x:e} ({y:e})\n");
            let got = run_f64(fused, &doubles, |k, v| f(k, v[0]), None);
            let errors = doubles.iter().zip(&got).map(|(&x, &y)| (x, y, ulps_f64(y, reference(x))));
            let (x, y, error64) = worst(errors);
            report += &format!("{name} fused: {fused}, f64: {error64} ulp at {x:e} ({y:e})\n");
            if error > bound32 || error64 > bound64 {
                failures.push(name);
            }
        }
    }
    println!("{report}");
    assert!(failures.is_empty(), "{failures:?}\n{report}");
}

fn worst(results: impl Iterator<Item = (f64, f64, f64)>) -> (f64, f64, f64) {
    results.fold((0.0, 0.0, 0.0), |a, b| if b.2 > a.2 { b } else { a })
}

/// `gelu` has no sign to cancel: its error is in units of its last place where it is positive, and where it is negative
/// in those of its argument, the error that sums of 1 and `erf` have.
#[test]
fn gelu_stays_within_its_bounds() {
    let reference =
        |x: f64| if x < -9.0 { -0.0 } else { 0.5 * x * (1.0 + erf_reference(x * std::f64::consts::FRAC_1_SQRT_2)) };
    let (singles, doubles) = (sample_f32(80_000), sample_f64(10_000));
    for fused in [true, false] {
        let got = run_f32(fused, &singles, |k, v| gelu(k, v[0]), None);
        let errors = singles.iter().zip(&got).map(|(&x, &y)| {
            let x = f64::from(x);
            let want = reference(x);
            let error = (f64::from(y) - want).abs();
            let ulps = if x > 0.0 || !x.is_finite() || error == 0.0 || x.abs() < 1e-30 {
                // At negative infinity the remainder is far below any unit.
                if x == f64::NEG_INFINITY && error < 1e-20 { 0.0 } else { ulps_f32(y, want) }
            } else {
                error / (x.abs() * 2f64.powi(-24))
            };
            (x, f64::from(y), ulps)
        });
        let (x, y, error) = worst(errors);
        println!("gelu fused: {fused}, f32: {error:.3} ulp at {x:e} ({y:e})");
        assert!(error < 2.0, "gelu({x:e}) = {y:e} is off by {error} ulp, fused: {fused}");
        let got = run_f64(fused, &doubles, |k, v| gelu(k, v[0]), None);
        for (&x, &y) in doubles.iter().zip(&got) {
            let want = reference(x);
            let same =
                want.is_nan() && y.is_nan() || want == y || (y - want).abs() <= 1e-15 * x.abs().clamp(1e-300, 40.0);
            assert!(same, "gelu({x:e}) = {y:e}, not {want:e}, fused: {fused}");
        }
    }
}

/// `pow`: every pair of special values, and random pairs whose result is in range.
#[test]
fn powers_stay_within_their_bounds() {
    let special =
        [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 4.0, 5.0, 1e-40, 1e38, f64::INFINITY, f64::NAN, 0.333, 1e9, 16777217.0, 7.1];
    let special: Vec<f64> = special.iter().flat_map(|&x| [x, -x]).collect();
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    for &x in &special {
        for &y in &special {
            xs.push(x);
            ys.push(y);
        }
    }
    let mut state = 7u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as f64 / u64::MAX as f64
    };
    for _ in 0..20_000 {
        xs.push((next() * 40.0 - 20.0).exp());
        ys.push(next() * 20.0 - 10.0);
        xs.push(0.5 + next());
        ys.push(next() * 400.0 - 200.0);
    }
    let f: Function2 = pow;
    let (xs32, ys32): (Vec<f32>, Vec<f32>) =
        (xs.iter().map(|&x| x as f32).collect(), ys.iter().map(|&y| y as f32).collect());
    for fused in [true, false] {
        let got = run_f32(fused, &xs32, |k, v| f(k, v[0], v[1]), Some(&ys32));
        let errors = xs32.iter().zip(&ys32).zip(&got).map(|((&x, &y), &got)| {
            let (x, y) = (f64::from(x), f64::from(y));
            (x, y, ulps_f32(got, x.powf(y)))
        });
        let (x, y, error) = worst(errors);
        println!("pow fused: {fused}, f32: {error:.3} ulp at {x:e}, {y:e}");
        assert!(error < 1.5, "pow({x:e}, {y:e}) is off by {error} ulp");
        let got = run_f64(fused, &xs, |k, v| f(k, v[0], v[1]), Some(&ys));
        let errors = xs.iter().zip(&ys).zip(&got).map(|((&x, &y), &got)| (x, y, ulps_f64(got, x.powf(y))));
        let (x, y, error) = worst(errors);
        println!("pow fused: {fused}, f64: {error} ulp at {x:e}, {y:e}");
        assert!(error < 3.0, "pow({x:e}, {y:e}) is off by {error} ulp");
    }
}

#[test]
fn remainders_are_exact() {
    let xs = sample_f64(4_000);
    let mut ys = xs.clone();
    ys.rotate_left(37);
    let got = run_f64(false, &xs, |k, v| rem(k, v[0], v[1]), Some(&ys));
    for i in 0..xs.len() {
        assert_eq!(
            ulps_f64(got[i], xs[i] % ys[i]),
            0.0,
            "{:e} % {:e} = {:e}, not {:e}",
            xs[i],
            ys[i],
            got[i],
            xs[i] % ys[i]
        );
    }
    let xs = sample_f32(4_000);
    let mut ys = xs.clone();
    ys.rotate_left(37);
    let got = run_f32(false, &xs, |k, v| rem(k, v[0], v[1]), Some(&ys));
    for i in 0..xs.len() {
        assert_eq!(ulps_f32(got[i], f64::from(xs[i] % ys[i])), 0.0, "{:e} % {:e}", xs[i], ys[i]);
    }
}
