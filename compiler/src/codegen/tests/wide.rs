//! Instructions of the wide emitter's inner loops: a register tile, sums of byte products, a tail.

use super::*;
use crate::lower::kir::DotKind;

fn listing(kernel: Kernel, cpu: &str) -> String {
    let target = Target::new("x86_64-unknown-linux-gnu", Some(cpu)).expect("a known CPU");
    crate::codegen::asm_text(&program(kernel, &[4096, 4096], 4096), &target).expect("compiles")
}

/// `rows` rows by two vectors of columns.
fn tile(rows: usize, lanes: u32) -> Kernel {
    let ty = Ty::new(Elem::F32, lanes);
    let mut k = Builder::new("tile", 3);
    let (left, right, out) = (k.pointer(0), k.pointer(1), k.pointer(2));
    let (start, end, zero) = (k.int(0), k.int(16), k.zero(ty));
    let sums = k.fold_loop(start, end, 1, &vec![zero; 2 * rows], &mut |k, i, sums| {
        let columns: Vec<Val> = (0..2)
            .map(|v| {
                let offset = k.mul_int(i, i64::from(2 * ty.bytes()));
                let from = k.add(right, offset);
                let at = k.at(from, (v * ty.bytes()) as i32);
                k.load(ty, at)
            })
            .collect();
        (0..2 * rows)
            .map(|n| {
                let from = k.add_int(left, 64 * (n / 2) as i64);
                let at = k.at_index(from, i, 4);
                let scalar = k.load(Ty::new(Elem::F32, 1), at);
                let all = k.splat(scalar, lanes);
                k.fma(columns[n % 2], all, sums[n])
            })
            .collect()
    });
    for (n, sum) in sums.into_iter().enumerate() {
        let to = k.at(out, (n as u32 * ty.bytes()) as i32);
        k.store(to, sum);
    }
    k.finish()
}

#[test]
fn register_tiles() {
    insta::assert_snapshot!("tile_avx2", listing(tile(2, 8), "x86-64-v3"));
    insta::assert_snapshot!("tile_avx512", listing(tile(2, 16), "x86-64-v4"));
}

#[test]
fn byte_products() {
    let kernel = |lanes: u32, kind: DotKind| {
        let (bytes, words) = (Ty::new(Elem::I8, 4 * lanes), Ty::new(Elem::I32, lanes));
        let mut k = Builder::new("dot", 3);
        let [a, b, to] = [0, 1, 2].map(|n| {
            let pointer = k.pointer(n);
            k.at(pointer, 0)
        });
        let (a, b, acc) = (k.load(bytes, a), k.load(bytes, b), k.load(words, to));
        let sum = k.dot(kind, a, b, acc);
        k.store(to, sum);
        k.finish()
    };
    insta::assert_snapshot!("dot_avx2", listing(kernel(8, DotKind::U8S8), "x86-64-v3"));
    insta::assert_snapshot!("dot_vnni", listing(kernel(16, DotKind::U8S8), "znver4"));
    insta::assert_snapshot!("dot_signs_avx2", listing(kernel(8, DotKind::S8Narrow), "x86-64-v3"));
    insta::assert_snapshot!("dot_signs_avx512", listing(kernel(16, DotKind::S8Narrow), "x86-64-v4"));
    insta::assert_snapshot!("dot_signs_vnni", listing(kernel(16, DotKind::S8Narrow), "znver4"));
}

#[test]
fn tails() {
    let kernel = |lanes: u32| {
        let ty = Ty::new(Elem::F32, lanes);
        let mut k = Builder::new("tail", 3);
        let (from, to, count) = (k.pointer(0), k.pointer(1), k.pointer(2));
        let (from, to) = (k.at(from, 0), k.at(to, 0));
        let x = k.load_part(ty, from, count);
        let y = k.add(x, x);
        k.store_part(to, y, count);
        k.finish()
    };
    insta::assert_snapshot!("tail_avx2", listing(kernel(8), "x86-64-v3"));
    insta::assert_snapshot!("tail_avx512", listing(kernel(16), "x86-64-v4"));
}

/// More vectors alive than there are registers: what does not fit lies in the frame, each page of which is touched.
#[test]
fn large_frames_touch_every_page() {
    let ty = Ty::new(Elem::F32, 16);
    let mut k = Builder::new("spills", 2);
    let (from, to) = (k.pointer(0), k.pointer(1));
    let values: Vec<Val> = (0..200)
        .map(|n| {
            let at = k.at(from, n * 64);
            k.load(ty, at)
        })
        .collect();
    for (n, value) in values.into_iter().rev().enumerate() {
        let at = k.at(to, n as i32 * 64);
        k.store(at, value);
    }
    let text = listing(k.finish(), "x86-64-v4");
    let frame = text.lines().find_map(|l| l.trim().strip_prefix("sub rsp, ")).expect("a frame").trim_end_matches('h');
    let pages = i64::from_str_radix(frame, 16).expect("bytes") / 4096;
    assert!(pages >= 2, "{frame}");
    assert_eq!(text.matches("test [rsp").count() as i64, pages, "{text}");
}
