use super::*;
use crate::{ConvSpec, Layout, PoolKind, PoolSpec};

fn ty(dtype: DType, dims: &[&str]) -> TensorType {
    let dim = |d: &&str| d.parse::<i64>().map_or_else(|_| Dim::sym(*d), Dim::from);
    TensorType::new(dtype, dims.iter().map(dim).collect())
}

fn f32(dims: &[&str]) -> TensorType {
    ty(DType::F32, dims)
}

fn check(op: Op, operands: &[TensorType], want: &str) {
    let refs: Vec<_> = operands.iter().collect();
    let got = match infer(&op, &refs) {
        Ok(i) => {
            let types: Vec<_> = i.types.iter().map(ToString::to_string).collect();
            let requires: String =
                i.requires.iter().map(|r| format!(" {}", r.condition.to_string().replace(' ', ""))).collect();
            types.join(" ") + &requires
        }
        Err(e) => e.report().message.clone(),
    };
    assert_eq!(got, want);
}

#[test]
fn broadcasting() {
    let add = || Op::Binary(BinaryOp::Add);
    check(add(), &[f32(&["2", "1"]), f32(&["3"])], "f32[2, 3]");
    check(add(), &[f32(&["n", "1"]), f32(&["1", "m"])], "f32[n, m]");
    check(add(), &[f32(&["n"]), f32(&["m"])], "f32[n] n==m");
    check(add(), &[f32(&["n"]), f32(&["4"])], "f32[4] n==4");
    check(add(), &[f32(&[]), f32(&["n"])], "f32[n]");
    check(add(), &[f32(&["2"]), f32(&["3"])], "the extents of axis 0, which must be equal or 1, differ: 2 and 3");
    check(add(), &[f32(&["2"]), ty(DType::I64, &["2"])], "operands 0 and 1 have different element types, f32 and i64");
    check(Op::Binary(BinaryOp::Less), &[f32(&["2"]), f32(&[])], "bool[2]");
    check(Op::Binary(BinaryOp::Less), &[f32(&["2"])], "has 1 operands instead of 2");
}

#[test]
fn windows() {
    let spec = ConvSpec {
        strides: vec![2, 2],
        dilations: vec![1, 1],
        pads: vec![(1, 1), (1, 1)],
        group: 1,
        layout: Layout::ChannelsFirst,
    };
    let w = f32(&["8", "3", "3", "3"]);
    check(Op::Conv(spec.clone()), &[f32(&["n", "3", "224", "223"]), w.clone()], "f32[n, 8, 112, 112]");
    check(Op::Conv(spec.clone()), &[f32(&["n", "3", "h", "7"]), w.clone()], "f32[n, 8, floordiv(h+1,2), 4] h-1>=0");
    check(
        Op::Conv(spec.clone()),
        &[f32(&["1", "4", "8", "8"]), w.clone()],
        "the channels of the operand and of the weights differ: 4 and 3",
    );
    let last = ConvSpec { layout: Layout::ChannelsLast, ..spec };
    check(Op::Conv(last), &[f32(&["n", "224", "223", "3"]), w], "f32[n, 112, 112, 8]");
    let pool = |ceil, pads| {
        Op::Pool(PoolSpec {
            kind: PoolKind::Max,
            kernel: vec![2],
            strides: vec![3],
            dilations: vec![1],
            pads: vec![pads],
            ceil,
            layout: Layout::ChannelsFirst,
        })
    };
    check(pool(false, (0, 0)), &[f32(&["1", "1", "6"])], "f32[1, 1, 2]");
    check(pool(true, (0, 0)), &[f32(&["1", "1", "6"])], "f32[1, 1, 2]");
    check(pool(true, (0, 2)), &[f32(&["1", "1", "6"])], "f32[1, 1, 2]");
    check(pool(true, (0, 0)), &[f32(&["1", "1", "7"])], "f32[1, 1, 3]");
}

#[test]
fn reshapes() {
    let to = |dims: &[&str]| Op::Reshape { shape: f32(dims).shape };
    check(to(&["n", "6"]), &[f32(&["n", "2", "3"])], "f32[n, 6]");
    check(to(&["n", "5"]), &[f32(&["n", "2", "3"])], "f32[n, 5] 6*n==5*n");
    check(to(&["5"]), &[f32(&["2", "3"])], "the number of elements differ: 6 and 5");
}
