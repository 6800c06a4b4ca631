//! Integer and logical functions against Rust's arithmetic on every interesting pair.

use super::*;
use crate::kir::interp;
use crate::numbers::{load, store};
use mcc_ir::Tensor;

/// Applies `f` to whole tensors, in vectors.
fn run(result: DType, operands: &[&Tensor], lanes: u32, f: impl Fn(&mut Builder, &[Val]) -> Val) -> Tensor {
    let count = operands[0].numel();
    let mut k = Builder::new("test", operands.len() as u32 + 1);
    let (start, end) = (k.int(0), k.int(count as i64));
    let pointers: Vec<Val> = (0..=operands.len() as u32).map(|n| k.pointer(n)).collect();
    k.for_each(start, end, i64::from(lanes), |k, i| {
        let values: Vec<Val> = operands
            .iter()
            .zip(&pointers)
            .map(|(t, &p)| {
                let at = k.at_index(p, i, t.dtype().size() as u32);
                load(k, t.dtype(), at, lanes)
            })
            .collect();
        let v = f(k, &values);
        let at = k.at_index(pointers[operands.len()], i, result.size() as u32);
        store(k, result, at, v);
    });
    let mut memory: Vec<Vec<u8>> = operands.iter().map(|t| t.data().to_vec()).collect();
    memory.push(vec![0; count * result.size()]);
    interp::run(&k.finish(), &mut memory, &[]).unwrap();
    Tensor::new(result, vec![count], memory.pop().unwrap_or_default().into()).unwrap()
}

/// All pairs of a few values, wrapped to the type; a multiple of 4 pairs.
fn pairs(dtype: DType) -> (Tensor, Tensor) {
    let bits = dtype.bits();
    let low = if bits == 64 { i64::MIN } else { -(1i64 << (bits - 1)) };
    let values = [0, 1, -1, 2, -2, 3, 7, -7, 31, 64, low, low + 1, low.wrapping_sub(1), 100, -100, 5];
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for &x in &values {
        for &y in &values {
            a.push(x);
            b.push(y);
        }
    }
    let tensor = |v: &[i64]| Tensor::from_i64s(dtype, vec![v.len()], v).unwrap();
    (tensor(&a), tensor(&b))
}

/// The result of an operation in `i128`, before it wraps.
fn reference(op: BinaryOp, dtype: DType, a: i128, b: i128) -> i128 {
    let bits = i128::from(dtype.bits());
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div | BinaryOp::Rem | BinaryOp::Mod if b == 0 => 0,
        BinaryOp::Div => a / b,
        BinaryOp::Rem => a % b,
        BinaryOp::Mod => (a % b + b) % b,
        BinaryOp::Pow if b < 0 => match a {
            1 => 1,
            -1 => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        },
        BinaryOp::Pow => {
            let (mut result, mut base, mut rest) = (1i128, a, b);
            while rest > 0 {
                if rest & 1 == 1 {
                    result = result.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                rest >>= 1;
            }
            result
        }
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::ShiftLeft => {
            if (0..bits).contains(&b) {
                a << b
            } else {
                0
            }
        }
        BinaryOp::ShiftRight => {
            let unsigned = a & ((1 << bits) - 1);
            if (0..bits).contains(&b) { unsigned >> b } else { 0 }
        }
        BinaryOp::Equal => i128::from(a == b),
        BinaryOp::Less => i128::from(a < b),
        BinaryOp::LessOrEqual => i128::from(a <= b),
        BinaryOp::Greater => i128::from(a > b),
        BinaryOp::GreaterOrEqual => i128::from(a >= b),
    }
}

const BINARY: [BinaryOp; 19] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Pow,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Mod,
    BinaryOp::Rem,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::ShiftLeft,
    BinaryOp::ShiftRight,
    BinaryOp::Equal,
    BinaryOp::Less,
    BinaryOp::LessOrEqual,
    BinaryOp::Greater,
    BinaryOp::GreaterOrEqual,
];

fn wide(t: &Tensor, i: usize) -> i128 {
    let v = t.i64_at(i);
    if t.dtype() == DType::U64 { i128::from(v as u64) } else { i128::from(v) }
}

#[test]
fn integers_as_in_wide_arithmetic() {
    for dtype in DType::all().filter(|t| t.is_int()) {
        let (a, b) = pairs(dtype);
        for op in BINARY {
            let result = if op.is_comparison() { DType::Bool } else { dtype };
            for lanes in [1, 4] {
                let got = run(result, &[&a, &b], lanes, |k, v| binary(k, op, dtype, v[0], v[1]));
                for i in 0..got.numel() {
                    let exact = reference(op, dtype, wide(&a, i), wide(&b, i));
                    let want = Tensor::from_i64s(result, vec![1], &[exact as i64]).unwrap();
                    let (x, y) = (a.i64_at(i), b.i64_at(i));
                    assert_eq!(got.i64_at(i), want.i64_at(0), "{op:?} of {dtype} {x}, {y} in {lanes} lanes");
                }
            }
        }
    }
}

#[test]
fn masks_and_selections() {
    let a = Tensor::from_f64s(DType::F64, vec![4], &[1.0, f64::NAN, -0.0, 3.0]).unwrap();
    let b = Tensor::from_f64s(DType::F64, vec![4], &[2.0, 1.0, 0.0, -3.0]).unwrap();
    for lanes in [1, 2, 4] {
        let got = run(DType::F64, &[&a, &b], lanes, |k, v| {
            let less = binary(k, BinaryOp::Less, DType::F64, v[0], v[1]);
            let nan = unary(k, UnaryOp::IsNan, DType::F64, v[0]);
            let either = binary(k, BinaryOp::Or, DType::Bool, less, nan);
            let not = unary(k, UnaryOp::Not, DType::Bool, either);
            select(k, not, v[0], v[1])
        });
        assert_eq!(got.to_f64s(), [2.0, 1.0, -0.0, 3.0]);
        let condition = Tensor::from_i64s(DType::Bool, vec![4], &[1, 0, 1, 0]).unwrap();
        let got = run(DType::F64, &[&condition, &a, &b], lanes, |k, v| select(k, v[0], v[1], v[2]));
        assert_eq!(got.to_f64s(), [1.0, 1.0, -0.0, -3.0]);
    }
}

#[test]
fn signs_and_bits() {
    let x = Tensor::from_i64s(DType::I8, vec![4], &[-128, -1, 0, 127]).unwrap();
    let of = |op| run(DType::I8, &[&x], 4, |k, v| unary(k, op, DType::I8, v[0])).to_i64s();
    assert_eq!(of(UnaryOp::Neg), [-128, 1, 0, -127]);
    assert_eq!(of(UnaryOp::Abs), [-128, 1, 0, 127]);
    assert_eq!(of(UnaryOp::Sign), [-1, -1, 0, 1]);
    assert_eq!(of(UnaryOp::BitNot), [127, 0, -1, -128]);
    let x = Tensor::from_f64s(DType::F32, vec![4], &[-2.5, f64::NAN, -0.0, f64::INFINITY]).unwrap();
    let of = |op| run(DType::F32, &[&x], 4, |k, v| unary(k, op, DType::F32, v[0])).to_f64s();
    assert_eq!(format!("{:?}", of(UnaryOp::Sign)), "[-1.0, NaN, -0.0, 1.0]");
    assert_eq!(format!("{:?}", of(UnaryOp::Round)), "[-2.0, NaN, -0.0, inf]");
}
