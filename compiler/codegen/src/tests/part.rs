//! Loads and stores of some lanes, with every count.

use super::*;

#[test]
fn parts_touch_what_counts() {
    let elems = [Elem::I8, Elem::I16, Elem::I32, Elem::I64, Elem::F32, Elem::F64];
    for (elem, bytes) in elems.into_iter().flat_map(|e| [1, 8, 16, 32, 64].map(|b| (e, b))) {
        let lanes = (bytes / elem.bytes()).max(1);
        let ty = Ty::new(elem, lanes);
        let size = ty.bytes() as usize;
        let counts: Vec<i64> = [-1, i64::MIN, i64::MAX].into_iter().chain(0..=i64::from(lanes) + 1).collect();
        let rounds = counts.len();
        // Every round loads up to the end of the buffer, so that a surplus lane reads outside.
        let mut k = Builder::new("parts", 3);
        let (source, table, target) = (k.pointer(0), k.pointer(1), k.pointer(2));
        let (zero, end) = (k.int(0), k.int(rounds as i64));
        k.for_each(zero, end, 1, |k, i| {
            let at = k.at_index(table, i, 8);
            let count = k.load(Ty::I64, at);
            let (none, all) = (k.int(0), k.int(lanes.into()));
            let loaded = k.bin(Bin::Max, count, none);
            let loaded = k.bin(Bin::Min, loaded, all);
            let skipped = k.sub(all, loaded);
            let from = k.at_index(source, skipped, elem.bytes());
            let v = k.load_part(ty, from, count);
            let whole = k.at_index(target, i, 2 * ty.bytes());
            k.store(whole, v);
            let from = k.at(source, 0);
            let v = k.load(ty, from);
            let mut part = k.at_index(target, i, 2 * ty.bytes());
            part.offset += ty.bytes() as i32;
            k.store_part(part, v, count);
        });
        let data: Vec<u8> = (0..size).map(|i| i as u8 + 1).collect();
        let table: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        let mut want = Vec::new();
        for &count in &counts {
            let bytes = count.clamp(0, i64::from(lanes)) as usize * elem.bytes() as usize;
            want.extend(data[size - bytes..].iter().copied().chain(std::iter::repeat_n(0, size - bytes)));
            want.extend(data[..bytes].iter().copied().chain(std::iter::repeat_n(0, size - bytes)));
        }
        assert_eq!(run(&k.finish(), &[&data, &table], want.len()), want, "{elem:?} x {lanes}");
    }
}

#[test]
fn constant_counts_fold() {
    let ty = Ty::new(Elem::F32, 4);
    let mut k = Builder::new("fold", 1);
    let p = k.pointer(0);
    for count in [-1, 0, 4, 5] {
        let (at, count) = (k.at(p, 0), k.int(count));
        let v = k.load_part(ty, at, count);
        k.store_part(at, v, count);
    }
    let text = k.finish().to_string();
    assert!(
        !text.contains("_part") && text.matches("load").count() == 2 && text.matches("store").count() == 2,
        "{text}"
    );
}

#[test]
fn bytes_go_where_bits_are_set() {
    let masks = [0, u64::MAX, 1, 1 << 63, 0x8000_0000_0000_0001, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    for lanes in [2, 8, 16, 32, 64] {
        let mut k = Builder::new("expanded", 3);
        let (source, table, target) = (k.pointer(0), k.pointer(1), k.pointer(2));
        let (zero, end) = (k.int(0), k.int(masks.len() as i64));
        k.for_each(zero, end, 1, |k, i| {
            let at = k.at_index(table, i, 8);
            let (mask, from) = (k.load(Ty::I64, at), k.at(source, 0));
            let v = k.load_expanded(lanes, from, mask);
            let to = k.at_index(target, i, lanes + 8);
            k.store(to, v);
            let count = k.un(Un::CountOnes, mask);
            k.store(Addr { offset: to.offset + lanes as i32, ..to }, count);
        });
        let data: Vec<u8> = (0..lanes as u8).map(|i| i + 1).collect();
        let table: Vec<u8> = masks.iter().flat_map(|m: &u64| m.to_le_bytes()).collect();
        let mut want = Vec::new();
        for mask in masks {
            let mut next = data.iter().copied();
            want.extend((0..lanes).map(|i| if mask >> i & 1 == 1 { next.next().unwrap_or(0) } else { 0 }));
            want.extend(u64::from(mask.count_ones()).to_le_bytes());
        }
        assert_eq!(run(&k.finish(), &[&data, &table], want.len()), want, "{lanes} lanes");
    }
}
