//! Conversions against the tensor codec of the graph IR and the `half` crate, for every code of the narrow types.

use super::*;
use crate::kir::interp;
use mcc_ir::Tensor;

/// Loads elements as `from`, applies `f`, and stores them as `to`, in vectors.
fn run(from: DType, to: DType, lanes: u32, data: &[u8], f: impl Fn(&mut Builder, Val) -> Val) -> Vec<u8> {
    let count = data.len() / from.size();
    let mut k = Builder::new("test", 2);
    let (source, target) = (k.pointer(0), k.pointer(1));
    let (start, end) = (k.int(0), k.int(count as i64));
    k.for_each(start, end, i64::from(lanes), |k, i| {
        let at = k.at_index(source, i, from.size() as u32);
        let v = load(k, from, at, lanes);
        let v = f(k, v);
        let at = k.at_index(target, i, to.size() as u32);
        store(k, to, at, v);
    });
    let mut memory = vec![data.to_vec(), vec![0; count * to.size()]];
    interp::run(&k.finish(), &mut memory, &[]).unwrap();
    memory.remove(1)
}

/// All codes of a type of one or two bytes.
fn codes(dtype: DType) -> Vec<u8> {
    match (dtype.size(), dtype.bits()) {
        (1, 8) => (0..=255).collect(),
        (1, 1) => [0, 1].repeat(8),
        (1, bits) => {
            let all: Vec<i64> = (0..1 << bits).collect();
            let mut data = Tensor::from_i64s(dtype, vec![all.len()], &all).unwrap().data().to_vec();
            if dtype.is_float() {
                data = (0..1 << bits).collect();
            }
            data.repeat(4)
        }
        _ => (0..=u16::MAX).flat_map(|c| c.to_le_bytes()).collect(),
    }
}

fn narrow() -> impl Iterator<Item = DType> {
    DType::all().filter(|t| t.size() <= 2)
}

#[test]
fn loads_give_the_numbers_of_all_codes() {
    for dtype in narrow() {
        let to = if dtype.is_float() { DType::F32 } else { DType::I32 };
        let data = codes(dtype);
        let count = data.len() / dtype.size();
        let want = Tensor::new(dtype, vec![count], data.clone().into()).unwrap();
        for lanes in [1, 2, 4, 8] {
            let got = run(dtype, to, lanes, &data, |_, v| v);
            let got = Tensor::new(to, vec![count], got.into()).unwrap();
            for i in 0..count {
                let (a, b) = (got.f64_at(i), want.f64_at(i));
                let same = a == b && a.is_sign_negative() == b.is_sign_negative() || a.is_nan() && b.is_nan();
                assert!(same, "{dtype} code {i} in {lanes} lanes: {a}, not {b}");
            }
        }
    }
}

#[test]
fn stores_give_the_codes_back() {
    for dtype in narrow() {
        let data = codes(dtype);
        let values = Tensor::new(dtype, vec![data.len() / dtype.size()], data.clone().into()).unwrap();
        for lanes in [1, 2, 4, 8] {
            let got = run(dtype, dtype, lanes, &data, |_, v| v);
            for (i, (a, b)) in got.chunks(dtype.size()).zip(data.chunks(dtype.size())).enumerate() {
                assert!(a == b || values.f64_at(i).is_nan(), "{dtype} in {lanes} lanes: {b:?} became {a:?}");
            }
        }
    }
}

/// Numbers of all binades, neighbours of midpoints, special values.
fn floats() -> Vec<f32> {
    let mut v =
        vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45, 464.0, 465.0, 65519.9, 65520.0];
    let mut state = 9u32;
    for i in 0..20_000u32 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let shift = i % 24;
        v.push(f32::from_bits(state));
        // Few bits after the leading one: ties and exact numbers.
        v.push(f32::from_bits(state >> shift << shift));
        let small = f32::from_bits(state & 0x8fff_ffff | 0x3000_0000);
        v.push(f32::from_bits(small.to_bits() >> 11 << 11));
    }
    v.truncate(v.len() / 8 * 8);
    v
}

#[test]
fn floats_round_half_to_even() {
    let values = floats();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for dtype in
        [DType::F16, DType::BF16, DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F4E2M1]
    {
        let got = run(DType::F32, dtype, 4, &bytes, |k, v| cast(k, v, DType::F32, dtype, true));
        let got = Tensor::new(dtype, vec![values.len()], got.into()).unwrap();
        let finite: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let want = Tensor::from_f64s(dtype, vec![values.len()], &finite).unwrap();
        for i in 0..values.len() {
            let (a, b) = (got.f64_at(i), want.f64_at(i));
            let same = a == b || a.is_nan() && b.is_nan() || dtype == DType::F4E2M1 && values[i].is_nan();
            assert!(same, "{:e} as {dtype}: {a}, not {b}", values[i]);
        }
    }
}

#[test]
fn doubles_round_once() {
    let above_tie = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    let bytes: Vec<u8> = [above_tie, -above_tie].iter().flat_map(|v| v.to_le_bytes()).collect();
    let got = run(DType::F64, DType::F16, 2, &bytes, |k, v| cast(k, v, DType::F64, DType::F16, true));
    assert_eq!(got, [0x01, 0x3c, 0x01, 0xbc]);
}

/// From, value, to, result; `saturate` is off.
const CASTS: &[(DType, f64, DType, f64)] = &[
    (DType::F32, 2.9, DType::I32, 2.0),
    (DType::F32, -2.9, DType::I8, -2.0),
    (DType::F32, 300.0, DType::U8, 44.0),
    (DType::F32, 1e30, DType::I32, 2147483647.0),
    (DType::F32, 3e9, DType::U32, 3e9),
    (DType::F32, f64::NAN, DType::Bool, 1.0),
    (DType::F64, 0.5, DType::Bool, 1.0),
    (DType::F64, 1e18, DType::I64, 1e18),
    (DType::F64, 1e19, DType::U64, 1e19),
    (DType::U64, 1e19, DType::F64, 1e19),
    (DType::U64, 1e19, DType::F32, 9999999980506448e3),
    (DType::I64, -5.0, DType::F16, -5.0),
    (DType::I64, 300.0, DType::U8, 44.0),
    (DType::I64, 3e9, DType::U32, 3e9),
    (DType::U32, 4e9, DType::I64, 4e9),
    (DType::U32, 4e9, DType::F32, 4e9),
    (DType::I32, -1.0, DType::U64, 18446744073709551615.0),
    (DType::I32, -1.0, DType::U16, 65535.0),
    (DType::U8, 200.0, DType::I8, -56.0),
    (DType::U8, 200.0, DType::I16, 200.0),
    (DType::I32, 9.0, DType::I4, -7.0),
    (DType::Bool, 1.0, DType::F64, 1.0),
    (DType::I64, 8589934592.0, DType::Bool, 1.0),
    (DType::F32, 1e6, DType::F8E4M3FN, f64::NAN),
    (DType::F32, 1e6, DType::F8E5M2, f64::INFINITY),
    (DType::F32, f64::INFINITY, DType::F8E5M2FNUZ, f64::NAN),
    (DType::F32, 9.0, DType::F4E2M1, 6.0),
    (DType::F32, 1.1, DType::F8E8M0, 2.0),
    (DType::F32, 0.124, DType::F8E8M0, 0.125),
];

#[test]
fn casts() {
    for &(from, value, to, want) in CASTS {
        let data = match from {
            DType::U64 => (value as u64).to_le_bytes().to_vec(),
            _ => Tensor::scalar_f64(from, value).data().to_vec(),
        };
        for lanes in [1, 4] {
            let got = run(from, to, lanes, &data.repeat(4), |k, v| cast(k, v, from, to, false));
            let got = Tensor::new(to, vec![4], got.into()).unwrap().f64_at(3);
            assert!(got == want || got.is_nan() && want.is_nan(), "{from} {value} as {to}: {got}, not {want}");
        }
    }
}

#[test]
fn bitcasts() {
    let one = |from: DType, data: &[u8], to: DType| run(from, to, 4, &data.repeat(4), |k, v| bitcast(k, v, from, to));
    assert_eq!(one(DType::F32, &1.5f32.to_le_bytes(), DType::U32), 1.5f32.to_le_bytes().repeat(4));
    assert_eq!(one(DType::F16, &[0x00, 0xbc], DType::U16), [0x00, 0xbc].repeat(4));
    assert_eq!(one(DType::I16, &[0x00, 0xbc], DType::BF16), [0x00, 0xbc].repeat(4));
    assert_eq!(one(DType::U8, &[0xff], DType::I8), [0xff].repeat(4));
    assert_eq!(one(DType::I64, &(-1i64).to_le_bytes(), DType::U64), [0xff].repeat(32));
}

#[test]
fn what_was_loaded_is_stored_as_it_is() {
    for lanes in [1, 4] {
        let mut k = Builder::new("copy", 2);
        let (from, to) = (k.pointer(0), k.pointer(1));
        let (from, to) = (k.at(from, 0), k.at(to, 0));
        let v = load(&mut k, DType::F16, from, lanes);
        let w = cast(&mut k, v, DType::F16, DType::F32, true);
        let w = cast(&mut k, w, DType::F32, DType::F16, true);
        store(&mut k, DType::F16, to, w);
        let kernel = k.finish();
        let comparisons = kernel.insts.iter().filter(|i| matches!(i.0, super::super::kir::Inst::Cmp(..))).count();
        assert_eq!(comparisons, 1, "decoding compares once, encoding would more often");
    }
}
