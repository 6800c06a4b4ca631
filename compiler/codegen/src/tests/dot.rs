//! Byte products: exact on every level, on Arm too.

use super::*;
use mcc_kernel::kir::DotKind;

/// Bytes with the extremes of both kinds next to each other.
fn bytes(count: usize, seed: u32) -> Vec<u8> {
    let mut random = Random::new(seed.into());
    (0..count)
        .map(|i| if i < 16 { [0, 255, 128, 127][(i / (1 + seed as usize % 4)) % 4] } else { random.next() as u8 })
        .collect()
}

const KINDS: [DotKind; 4] = [DotKind::U8S8, DotKind::S8S8, DotKind::U8U8, DotKind::S8Narrow];

/// Operands of `4 * lanes` bytes and `lanes` sums; the results of all kinds, one after another.
fn kernel(lanes: u32, kinds: &[DotKind]) -> Kernel {
    let mut k = Builder::new("dot", 4);
    let [a, b, acc] =
        [(0, Ty::new(Elem::I8, 4 * lanes)), (1, Ty::new(Elem::I8, 4 * lanes)), (2, Ty::new(Elem::I32, lanes))].map(
            |(n, ty)| {
                let pointer = k.pointer(n);
                let at = k.at(pointer, 0);
                k.load(ty, at)
            },
        );
    let to = k.pointer(3);
    for (n, &kind) in kinds.iter().enumerate() {
        let sums = k.dot(kind, a, b, acc);
        let at = k.at(to, (4 * lanes as usize * n) as i32);
        k.store(at, sums);
    }
    k.finish()
}

fn wanted(kind: DotKind, a: &[u8], b: &[u8], acc: &[u8]) -> Vec<u8> {
    let number = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    let (a_signed, b_signed) = kind.signed();
    let sums = acc.chunks(4).zip(a.chunks(4).zip(b.chunks(4))).map(|(acc, (a, b))| {
        let products = a.iter().zip(b).map(|(&a, &b)| number(a, a_signed) * number(b, b_signed));
        i32::from_le_bytes([acc[0], acc[1], acc[2], acc[3]]).wrapping_add(products.sum::<i32>())
    });
    sums.flat_map(i32::to_le_bytes).collect()
}

#[test]
fn dots_are_exact() {
    for lanes in [1, 2, 4, 8, 16] {
        for seed in 1..4 {
            let (a, b) = (bytes(4 * lanes, seed), bytes(4 * lanes, seed + 1));
            let mut acc = bytes(4 * lanes, seed + 2);
            acc[..4].copy_from_slice(&i32::MAX.to_le_bytes());
            let (wide, narrow) = KINDS.split_at(3);
            let narrowed: Vec<u8> = b.iter().map(|&b| if b == 0x80 { 0x81 } else { b }).collect();
            let wanted_of = |kinds: &[DotKind], b: &[u8]| -> Vec<u8> {
                kinds.iter().flat_map(|&kind| wanted(kind, &a, b, &acc)).collect()
            };
            let want = wanted_of(narrow, &narrowed);
            let narrow = kernel(lanes as u32, narrow);
            assert_eq!(run(&narrow, &[&a, &narrowed, &acc], want.len()), want, "{lanes} narrow lanes");
            let (want, kernel) = (wanted_of(wide, &b), kernel(lanes as u32, wide));
            assert_eq!(run(&kernel, &[&a, &b, &acc], want.len()), want, "{lanes} lanes");
            if seed != 1 {
                continue;
            }
            for cpu in ["generic", "generic,+dotprod", "generic,+dotprod,+i8mm"] {
                let target = Target::new("aarch64-unknown-linux-gnu", Some(cpu)).expect("a known triple");
                let program = program(kernel.clone(), &[a.len(), b.len(), acc.len()], want.len());
                let compiled = compile(&program, &target).expect("compiles");
                let outputs = [tensor(&want)];
                let got =
                    mcc_testing::invoke(&target, &compiled.object, &[tensor(&a), tensor(&b), tensor(&acc)], &outputs);
                assert_eq!(got[0].data(), &want[..], "{lanes} lanes, {cpu}");
            }
        }
    }
}

/// Products at the limits of 16-bit pair sums, in tiles whose rows share columns, and vice versa.
#[test]
fn tiles_of_extremes() {
    for (kind, ends) in [(DotKind::S8Narrow, [0x80, 0x7f, 0x81, 0x7f]), (DotKind::U8S8, [0xff, 0xfe, 0x80, 0x7f])] {
        let rows: Vec<u8> = (0..3 * 32).map(|i| ends[i % 7 % 2]).collect();
        let columns: Vec<u8> = (0..2 * 32).map(|i| ends[2 + i % 5 % 2]).collect();
        let mut k = Builder::new("tile", 3);
        let ty = Ty::new(Elem::I8, 32);
        let all = |k: &mut Builder, n: u32, count: usize| -> Vec<Val> {
            let pointer = k.pointer(n);
            (0..count)
                .map(|i| {
                    let at = k.at(pointer, 32 * i as i32);
                    k.load(ty, at)
                })
                .collect()
        };
        let (a, b) = (all(&mut k, 0, 3), all(&mut k, 1, 2));
        let to = k.pointer(2);
        let mut want = Vec::new();
        for (i, &row) in a.iter().enumerate() {
            for (j, &column) in b.iter().enumerate() {
                let zero = k.zero(Ty::new(Elem::I32, 8));
                let sum = k.dot(kind, row, column, zero);
                let sum = k.dot(kind, row, column, sum);
                let at = k.at(to, 32 * (2 * i + j) as i32);
                k.store(at, sum);
                let (x, y) = (&rows[32 * i..][..32], &columns[32 * j..][..32]);
                let once = wanted(kind, x, y, &[0; 32]);
                want.extend(wanted(kind, x, y, &once));
            }
        }
        assert_eq!(run(&k.finish(), &[&rows, &columns], want.len()), want, "{kind:?}");
    }
}
