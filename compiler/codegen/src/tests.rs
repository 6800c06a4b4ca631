//! Kernels through the object file and the loader, on every CPU level of this machine's family.

mod branches;
mod dot;
mod emit;
mod emitters;
mod frames;
mod math;
mod numbers;
mod part;
mod quantize;

use bytes::Bytes;
use mcc_targets::{Arch, Target};

use mcc_testing::{port, program, sh};

use super::compile;
use mcc_ir::{DType, Dim, Random, Tensor, TensorType};
use mcc_kernel::kir::{Addr, Bin, Builder, Cmp, Elem, Kernel, Ty, Un, Val, interp};
use mcc_kernel::program::{Constant, Place, Program, Step, Symbol, SymbolSource, Work};
use mcc_loader::Model;

fn tensor(data: &[u8]) -> Tensor {
    Tensor::new(DType::U8, vec![data.len()], Bytes::copy_from_slice(data)).expect("bytes")
}

/// Runs a kernel at every level; checks that the output bytes are equal, and returns them.
fn run(kernel: &Kernel, inputs: &[&[u8]], output: usize) -> Vec<u8> {
    let sizes: Vec<usize> = inputs.iter().map(|i| i.len()).collect();
    let tensors: Vec<Tensor> = inputs.iter().map(|i| tensor(i)).collect();
    let mut first: Option<Vec<u8>> = None;
    for target in mcc_testing::levels() {
        let compiled = compile(&program(kernel.clone(), &sizes, output), &target).expect("compiles");
        let given = mcc_testing::invoke(&target, &compiled.object, &tensors, &[tensor(&vec![0; output])]);
        let given = given[0].data().to_vec();
        assert_eq!(*first.get_or_insert(given.clone()), given, "levels differ");
    }
    let first = first.unwrap_or_default();
    let mut memory: Vec<Vec<u8>> = inputs.iter().map(|i| i.to_vec()).chain([vec![0; output]]).collect();
    interp::run(kernel, &mut memory, &[]).expect("interprets");
    assert!(same_but_nan(&memory[inputs.len()], &first), "the interpreter differs");
    first
}

/// Equal bytes, or both NaN when read as floats: the bits of a NaN may differ.
fn same_but_nan(a: &[u8], b: &[u8]) -> bool {
    let words =
        |x: &[u8]| x.chunks(4).map(|c| c.try_into().map(f32::from_le_bytes).unwrap_or(0.0)).collect::<Vec<f32>>();
    a.len() == b.len()
        && a.chunks(4)
            .zip(b.chunks(4))
            .zip(words(a).iter().zip(words(b)))
            .all(|((x, y), (p, q))| x == y || (p.is_nan() && q.is_nan()))
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn to_f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

#[test]
fn loops_carry_and_may_not_run() {
    for n in [0, 1, 7] {
        let mut k = Builder::new("sum", 2);
        let (from, to) = (k.pointer(0), k.pointer(1));
        // A bound that the builder does not know.
        let count = k.at(from, 0);
        let count = k.load(Ty::I64, count);
        let zero = k.int(0);
        let first = k.int(100);
        let sum = k.fold_loop(zero, count, 1, &[first], |k, i, sum| {
            let at = k.at_index(from, i, 8);
            let x = k.load(Ty::I64, at);
            vec![k.add(sum[0], x)]
        });
        let out = k.at(to, 0);
        k.store(out, sum[0]);
        let data: Vec<u8> = (0..8i64).flat_map(|i| (if i == 0 { n } else { i }).to_le_bytes()).collect();
        let got = run(&k.finish(), &[&data], 8);
        let want = 100 + (0..n).map(|i| if i == 0 { n } else { i }).sum::<i64>();
        assert_eq!(got, want.to_le_bytes());
    }
}

#[test]
fn choices_give_values() {
    let mut k = Builder::new("choose", 2);
    let (from, to) = (k.pointer(0), k.pointer(1));
    let zero = k.int(0);
    let end = k.int(4);
    k.for_each(zero, end, 1, |k, i| {
        let at = k.at_index(from, i, 4);
        let x = k.load(Ty::new(Elem::F32, 1), at);
        let nought = k.zero(Ty::new(Elem::F32, 1));
        let negative = k.cmp(Cmp::Lt, x, nought);
        let y = k.choose(negative, |k| vec![k.mul(x, x)], |_| vec![x]);
        let at = k.at_index(to, i, 4);
        k.store(at, y[0]);
    });
    let got = run(&k.finish(), &[&f32s(&[-2.0, 3.0, f32::NAN, -0.5])], 16);
    let got = to_f32s(&got);
    assert_eq!((got[0], got[1], got[3]), (4.0, 3.0, 0.25));
    assert!(got[2].is_nan());
}

/// Memory needs no alignment, whichever instruction accesses it.
#[test]
fn comparisons_read_from_anywhere() {
    for (elem, lanes) in [(Elem::F32, 4), (Elem::F32, 8), (Elem::F64, 2)] {
        let ty = Ty::new(elem, lanes);
        let mut k = Builder::new("compare", 2);
        let (from, to) = (k.pointer(0), k.pointer(1));
        for (n, shift) in [4, 8, 12, 5].into_iter().enumerate() {
            let [a, b] = [0, 64 + shift].map(|at| k.at(from, at));
            let (a, b) = (k.load(ty, a), k.load(ty, b));
            let less = k.cmp(Cmp::Lt, a, b);
            let less = k.mask_to_int(less);
            let at = k.at(to, 32 * n as i32);
            k.store(at, less);
        }
        let values: Vec<f32> = (0..40).map(|i| (i * 7 % 11) as f32).collect();
        run(&k.finish(), &[&f32s(&values)], 128);
    }
}

/// A kernel that maps lanes of one type to lanes of another.
fn map(from: Ty, to: Ty, mut f: impl FnMut(&mut Builder, Val) -> Val) -> Kernel {
    let mut k = Builder::new("map", 2);
    let (source, target) = (k.pointer(0), k.pointer(1));
    let at = k.at(source, 0);
    let x = k.load(from, at);
    let y = f(&mut k, x);
    assert_eq!(k.ty(y), to);
    let at = k.at(target, 0);
    k.store(at, y);
    k.finish()
}

const INTS: [i64; 8] = [0, -1, 127, -128, 3, 0x7fff_ffff, -0x8000_0000, 0x1_0000_0081];
const FLOATS: [f64; 8] = [0.0, -1.75, 127.5, -130.0, 3e9, -3e9, 7e4, f64::NAN];

fn encode(elem: Elem, i: usize) -> Vec<u8> {
    match elem {
        Elem::F32 => (FLOATS[i] as f32).to_le_bytes().to_vec(),
        Elem::F64 => FLOATS[i].to_le_bytes().to_vec(),
        _ => INTS[i].to_le_bytes()[..elem.bytes() as usize].to_vec(),
    }
}

fn int_of(bytes: &[u8], signed: bool) -> i64 {
    let fill = if signed && bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

fn converted(from: Elem, to: Elem, signed: bool, bytes: &[u8]) -> Vec<u8> {
    let width = to.bytes() as usize;
    if from.is_float() {
        let x = match from {
            Elem::F32 => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => f64::from_le_bytes(bytes.try_into().expect("8 bytes")),
        };
        return match (to, signed) {
            (Elem::F32, _) => (x as f32).to_le_bytes().to_vec(),
            (Elem::F64, _) => x.to_le_bytes().to_vec(),
            (Elem::I8, true) => (x as i8).to_le_bytes().to_vec(),
            (Elem::I16, true) => (x as i16).to_le_bytes().to_vec(),
            (Elem::I32, true) => (x as i32).to_le_bytes().to_vec(),
            (Elem::I8, false) => (x as u8).to_le_bytes().to_vec(),
            (Elem::I16, false) => (x as u16).to_le_bytes().to_vec(),
            (Elem::I32, false) => (x as u32).to_le_bytes().to_vec(),
            (_, true) => (x as i64).to_le_bytes().to_vec(),
            (_, false) => (x as u64).to_le_bytes().to_vec(),
        };
    }
    let x = int_of(bytes, signed);
    match (to, signed || from != Elem::I64) {
        (Elem::F32, true) => (x as f32).to_le_bytes().to_vec(),
        (Elem::F64, true) => (x as f64).to_le_bytes().to_vec(),
        (Elem::F32, false) => (x as u64 as f32).to_le_bytes().to_vec(),
        (Elem::F64, false) => (x as u64 as f64).to_le_bytes().to_vec(),
        _ => x.to_le_bytes()[..width].to_vec(),
    }
}

#[test]
fn conversions_of_every_pair_and_width() {
    let elems = [Elem::I8, Elem::I16, Elem::I32, Elem::I64, Elem::F32, Elem::F64];
    let mut k = Builder::new("convert", 2);
    let (source, target) = (k.pointer(0), k.pointer(1));
    let (mut input, mut want, mut what) = (Vec::new(), Vec::new(), Vec::new());
    for (from, to) in elems.iter().flat_map(|&f| elems.iter().map(move |&t| (f, t))).filter(|(f, t)| f != t) {
        // The sign is irrelevant between floats, and for integers that are narrowed.
        let unsigned = from.is_float() != to.is_float() || from.is_int() && to.is_int() && to.bytes() > from.bytes();
        let signs: &[bool] = if unsigned { &[true, false] } else { &[true] };
        for (lanes, &signed) in [1, 2, 4, 8].into_iter().flat_map(|l| signs.iter().map(move |s| (l, s))) {
            let at = k.at(source, input.len() as i32);
            let x = k.load(Ty::new(from, lanes), at);
            let y = if signed { k.convert(x, to) } else { k.uconvert(x, to) };
            let at = k.at(target, want.len() as i32);
            k.store(at, y);
            for lane in 0..lanes as usize {
                let bytes = encode(from, (lane + lanes as usize) % 8);
                let result = converted(from, to, signed, &bytes);
                what.extend(vec![(from, to, lanes, signed, lane); result.len()]);
                want.extend(result);
                input.extend(bytes);
            }
        }
    }
    let got = run(&k.finish(), &[&input], want.len());
    let wrong: Vec<_> = (0..want.len()).filter(|&i| got[i] != want[i]).map(|i| what[i]).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn shuffles_lanes_and_splats() {
    for (elem, lanes) in
        [(Elem::I8, 16), (Elem::I8, 4), (Elem::I16, 8), (Elem::F32, 4), (Elem::F32, 8), (Elem::F64, 2), (Elem::I64, 4)]
    {
        let ty = Ty::new(elem, lanes);
        let width = elem.bytes() as usize;
        let count = lanes as usize;
        let data: Vec<u8> = (0..2 * count * width).map(|i| (i * 7 + 1) as u8).collect();
        let pattern: Vec<u8> = (0..lanes).map(|i| ((i * 5 + 3) % (2 * lanes)) as u8).collect();
        let mut k = Builder::new("shuffle", 2);
        let (source, target) = (k.pointer(0), k.pointer(1));
        let at = k.at(source, 0);
        let a = k.load(ty, at);
        let at = k.at(source, (count * width) as i32);
        let b = k.load(ty, at);
        let turned = k.shuffle(a, b, &pattern);
        let last = k.lane(b, lanes as u8 - 1);
        let replaced = k.with_lane(a, last, 1);
        let spread = k.splat(last, lanes);
        let size = (count * width) as i32;
        for (i, v) in [turned, replaced, spread].into_iter().enumerate() {
            let at = k.at(target, i as i32 * size);
            k.store(at, v);
        }
        let got = run(&k.finish(), &[&data], 3 * count * width);
        let lane = |i: usize| data[i * width..(i + 1) * width].to_vec();
        let mut want: Vec<u8> = pattern.iter().flat_map(|&i| lane(i.into())).collect();
        want.extend((0..count).flat_map(|i| lane(if i == 1 { 2 * count - 1 } else { i })));
        want.extend((0..count).flat_map(|_| lane(2 * count - 1)));
        assert_eq!(got, want, "{elem:?} x {lanes}");
    }
}

#[test]
fn extrema_keep_nan() {
    let nan = f32::NAN;
    let (a, b) = ([1.0, nan, 2.0, -1.0], [3.0, 1.0, nan, -2.0]);
    for (op, want) in [(Bin::Min, [1.0, nan, nan, -2.0]), (Bin::Max, [3.0, nan, nan, -1.0])] {
        for lanes in [1, 4] {
            let mut k = Builder::new("extremum", 2);
            let (source, target) = (k.pointer(0), k.pointer(1));
            for i in (0..4).step_by(lanes as usize) {
                let ty = Ty::new(Elem::F32, lanes);
                let (at, other) = (k.at(source, 4 * i), k.at(source, 16 + 4 * i));
                let (x, y) = (k.load(ty, at), k.load(ty, other));
                let best = k.bin(op, x, y);
                let bound = k.float(1.5, ty);
                let bounded = k.bin(op, x, bound);
                let (at, other) = (k.at(target, 4 * i), k.at(target, 16 + 4 * i));
                k.store(at, best);
                k.store(other, bounded);
            }
            let got = to_f32s(&run(&k.finish(), &[&f32s(&[a, b].concat())], 32));
            for i in 0..4 {
                assert!(if want[i].is_nan() { got[i].is_nan() } else { got[i] == want[i] });
                let bounded = if op == Bin::Min { a[i].min(1.5) } else { a[i].max(1.5) };
                assert!(if a[i].is_nan() { got[4 + i].is_nan() } else { got[4 + i] == bounded });
            }
        }
    }
}

#[test]
fn masks_select_and_count() {
    let ty = Ty::new(Elem::F32, 4);
    let kernel = map(ty, ty, |k, x| {
        let zero = k.zero(ty);
        let two = k.float(2.0, ty);
        let positive = k.cmp(Cmp::Gt, x, zero);
        let small = k.cmp(Cmp::Lt, x, two);
        let both = k.bin(Bin::And, positive, small);
        let neither = k.un(Un::Not, both);
        let picked = k.select(both, two, x);
        let ones = k.mask_to_int(neither);
        let ones = k.convert(ones, Elem::F32);
        k.add(picked, ones)
    });
    let got = run(&kernel, &[&f32s(&[-1.0, 1.0, 5.0, f32::NAN])], 16);
    let got = to_f32s(&got);
    assert_eq!(got[..3], [0.0, 2.0, 6.0]);
    assert!(got[3].is_nan());
}

#[test]
fn narrow_masks_ignore_what_lies_above() {
    let ty = Ty::new(Elem::F32, 2);
    let kernel = map(ty, Ty::new(Elem::I32, 1), |k, x| {
        let doubled = k.shuffle(x, x, &[0, 1]);
        let zero = k.zero(ty);
        // The upper lanes: x / 0 there would be NaN, and NaN != 0.
        let quotient = k.bin(Bin::Div, doubled, doubled);
        let differs = k.cmp(Cmp::Ne, quotient, zero);
        let same = k.un(Un::Not, differs);
        let any = k.any_true(same);
        let one = k.mask_to_int(any);
        k.convert(one, Elem::I32)
    });
    assert_eq!(run(&kernel, &[&f32s(&[1.0, 2.0])], 4), 0i32.to_le_bytes());
}

#[test]
fn copies_and_fills() {
    for n in [0usize, 1, 15, 100, 1000] {
        let mut k = Builder::new("copy", 2);
        let (from, to) = (k.pointer(0), k.pointer(1));
        let bytes = k.int(n as i64);
        k.copy(to, from, bytes);
        let behind = k.add(to, bytes);
        k.fill_zero(behind, bytes);
        let data: Vec<u8> = (0..n.max(1)).map(|i| (i % 250) as u8 + 1).collect();
        let got = run(&k.finish(), &[&data], (2 * n).max(1));
        assert_eq!(got[..n], data[..n]);
        assert!(got[n..].iter().all(|&b| b == 0));
    }
}

/// `y = x + weights[0]` over a symbolic extent, through the arena.
fn symbolic() -> Program {
    let n = Dim::sym("n");
    let mut k = Builder::new("add", 3);
    let (x, w, y) = (k.pointer(0), k.pointer(1), k.pointer(2));
    let ty = Ty::new(Elem::F32, 1);
    let at = k.at(w, 0);
    let w = k.load(ty, at);
    let (zero, end) = (k.int(0), k.dim(&n));
    k.for_each(zero, end, 1, |k, i| {
        let at = k.at_index(x, i, 4);
        let v = k.load(ty, at);
        let sum = k.add(v, w);
        let at = k.at_index(y, i, 4);
        k.store(at, sum);
    });
    let row = |name: &str| port(name, TensorType::new(DType::F32, vec![n.clone(), Dim::ONE]));
    let call = |from: Place, to: Place| Step::Call {
        kernel: 0,
        args: vec![from, Place::Constant(0), to],
        label: "add".to_string(),
        work: Work::default(),
        shared: None,
    };
    let offset = &n * &Dim::from(64usize);
    Program {
        name: "sym".to_string(),
        inputs: vec![row("x"), row("z")],
        outputs: vec![row("y")],
        symbols: vec![Symbol {
            name: n.as_sym().expect("a symbol").clone(),
            source: SymbolSource::InputDim { input: 0, axis: 0 },
        }],
        requires: Vec::new(),
        constants: vec![Constant { label: "w".to_string(), data: Bytes::from(f32s(&[1.5])) }],
        kernels: vec![k.finish()],
        steps: vec![call(Place::Input(0), Place::Arena(offset.clone())), call(Place::Arena(offset), Place::Output(0))],
        arena_bytes: &n * &Dim::from(128usize),
        live_bytes: Dim::ZERO,
        traced: false,
        checked: cfg!(debug_assertions),
        threads: 1,
        weights_id: None,
        decisions: Vec::new(),
    }
}

#[test]
fn symbols_arena_and_refusals() {
    for target in Target::host_levels() {
        let compiled = compile(&symbolic(), &target).expect("compiles");
        let model = Model::load(&compiled.object).expect("loads");
        assert_eq!(model.fixed_arena, None);
        assert_eq!(
            (model.inputs[0].dims.as_slice(), model.inputs[0].dim_names[0].as_str()),
            (&[None, Some(1)][..], "n")
        );
        let x = |n: usize| Tensor::from_f64s(DType::F32, vec![n, 1], &vec![2.0; n]).expect("a tensor");
        let got = model.invoke(&[x(3), x(3)]).expect("runs");
        assert_eq!(got[0], Tensor::from_f64s(DType::F32, vec![3, 1], &[5.0; 3]).expect("a tensor"));
        assert_eq!(model.session(&[x(5), x(5)], None).expect("fits").arena_bytes, 640);
        assert!(model.invoke(&[x(3), x(4)]).is_err());
        assert!(model.invoke(&[x(3)]).is_err());
        let wrong = Tensor::from_f64s(DType::F64, vec![3, 1], &[0.0; 3]).expect("a tensor");
        assert!(model.invoke(&[x(3), wrong]).is_err());
    }
}

#[test]
fn foreign_objects() {
    for triple in [
        "aarch64-linux-android",
        "aarch64-unknown-linux-gnu",
        "aarch64-apple-ios17.0",
        "aarch64-apple-darwin",
        "x86_64-unknown-linux-gnu",
        "x86_64-pc-windows-gnu",
    ] {
        let target = Target::new(triple, None).expect("a known triple");
        let compiled = compile(&symbolic(), &target).unwrap_or_else(|e| panic!("{triple}: {e}"));
        let again = compile(&symbolic(), &target).expect("compiles");
        assert!(!compiled.object.is_empty() && compiled.object == again.object, "{triple}");
    }
    let windows_on_arm = Target::new("aarch64-pc-windows-msvc", None).expect("a known triple");
    assert!(matches!(compile(&symbolic(), &windows_on_arm), Err(mcc_ir::Error::Unsupported(_))));
}

const CALLER: &str = r#"
#include "sym.h"
#include <stdio.h>
int main(void)
{
    static _Alignas(64) unsigned char arena[1024];
    float x[3] = {1, 2, 3}, z[3] = {0}, y[3] = {0};
    int64_t dx[2] = {3, 1}, dz[2] = {3, 1}, dy[2] = {0, 0}, bytes = 0;
    mcc_tensor in[2] = {{x, dx, 2, MCC_F32}, {z, dz, 2, MCC_F32}}, out[1] = {{0, dy, 0, 0}};
    if (sym_shapes(in, out, &bytes) != MCC_OK || dy[0] != 3 || dy[1] != 1 || bytes != 384 || out[0].rank != 2) return 1;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_NULL_POINTER) return 2;
    out[0].data = y;
    if ((sym_invoke(in, out, arena, 383, 0) & MCC_KIND) != MCC_ARENA_TOO_SMALL) return 3;
    if ((sym_invoke(in, out, arena + 8, 1000, 0) & MCC_KIND) != MCC_MISALIGNED_ARENA) return 4;
    if ((sym_invoke(in, out, 0, 1000, 0) & MCC_KIND) != MCC_NULL_POINTER) return 5;
    dz[0] = 2;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_WRONG_DIMENSION) return 6;
    dz[0] = dx[0] = -1;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_WRONG_DIMENSION) return 7;
    dz[0] = dx[0] = 3;
    in[1].rank = 1;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_WRONG_RANK) return 8;
    in[1].rank = 2, in[1].dtype = MCC_I32;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_WRONG_DTYPE) return 9;
    in[1].dtype = MCC_F32, dy[0] = 4;
    if ((sym_invoke(in, out, arena, sizeof arena, 0) & MCC_KIND) != MCC_WRONG_DIMENSION) return 10;
    dy[0] = 3;
    if (y[0] != 0) return 11;
    if (sym_invoke(in, out, arena, sizeof arena, 0) != MCC_OK || y[0] != 4 || y[2] != 6) return 12;
    y[0] = 0;
    if (sym_run(3, x, z, y, arena, sizeof arena) != MCC_OK || y[0] != 4) return 13;
    if ((sym_run(-3, x, z, y, arena, sizeof arena) & MCC_KIND) != MCC_WRONG_DIMENSION) return 14;
    if (sym_model.invoke != sym_invoke || sym_model.inputs[0].dims[0] != -1 || sym_model.inputs[0].dims[1] != 1) return 15;
    printf("%s %s %s %s\n", sym_model.name, sym_model.inputs[1].name, sym_model.outputs[0].dim_names[0], mcc_message(5));
    dz[0] = 2;
    puts(sym_explain(sym_invoke(in, out, arena, sizeof arena, 0)));
    return 0;
}
"#;

/// The expected output of the caller.
const SAID: &str = "sym z n the arena is too small\n\
                    input \"z\": dimension 0 must be n, which is dimension 0 of input \"x\"\n";

#[test]
fn c_and_cpp_callers() {
    let dir = tempfile::tempdir().expect("a directory");
    let compiled = compile(&symbolic(), &Target::host(None).expect("the host is a target")).expect("compiles");
    std::fs::write(dir.path().join("sym.o"), &compiled.object).expect("written");
    std::fs::write(dir.path().join("sym.h"), &compiled.header).expect("written");
    std::fs::write(dir.path().join("main.c"), CALLER).expect("written");
    let strict = "-Wall -Wextra -Werror -pedantic";
    sh(dir.path(), &format!("c++ -std=c++17 {strict} -fsyntax-only -x c++ -include sym.h /dev/null"));
    sh(dir.path(), &format!("cc -std=c11 {strict} main.c sym.o -o main"));
    assert_eq!(sh(dir.path(), "./main"), SAID);
    assert_eq!(sh(dir.path(), "nm -u sym.o | grep -vE ' (memcpy|memset)$' || true"), "");
    sh(dir.path(), "cc -shared -Wl,-z,text -Wl,--no-undefined -Wl,--fatal-warnings sym.o -o libsym.so");
}

#[test]
fn aarch64_callers() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = Target::new("aarch64-unknown-linux-gnu", None).expect("a known triple");
    let compiled = compile(&symbolic(), &target).expect("compiles");
    std::fs::write(dir.path().join("sym.o"), &compiled.object).expect("written");
    std::fs::write(dir.path().join("sym.h"), &compiled.header).expect("written");
    std::fs::write(dir.path().join("main.c"), CALLER).expect("written");
    sh(dir.path(), "aarch64-linux-gnu-gcc main.c sym.o -o main -static");
    assert_eq!(sh(dir.path(), "qemu-aarch64 ./main"), SAID);
    sh(dir.path(), "aarch64-linux-gnu-gcc -shared -Wl,-z,text -Wl,--no-undefined sym.o -o libsym.so");
}

#[test]
fn arm_multiplies_by_element() {
    let ty = Ty::new(Elem::F32, 4);
    let kernel = map(ty, ty, |k, x| k.fma_lane(x, x, 2, x));
    let target = Target::new("aarch64-unknown-linux-gnu", None).expect("a known triple");
    let text = super::asm_text(&program(kernel, &[16], 16), &target).expect("compiles");
    assert!(text.contains(".s[2]") && text.contains("fmla") && !text.contains("dup"), "{text}");
}
