//! Sparse products, compared with the evaluator: spans, groups, blocks and slices of all kinds, both kinds of offsets,
//! empty channels, padding, strides and dilations.

use super::int8::bytes;
use super::{check, noise};
use mcc_ir::{ConvSpec, DType, Layout, Op, Packed, Staging, Tensor, WeightFormat};

/// Weights with some non-zeros: heads, slots, offsets, values.
fn weights(staging: &Staging, out: usize, channels: usize, places: &Places, kind: DType) -> Vec<Tensor> {
    let taps = places.taps.len();
    let noise = noise(DType::F32, &[out, channels, taps], 5).to_f64s();
    let filter = |o: usize, slice: usize| -> Vec<(i64, f64)> {
        let of_slice = slice * staging.depth..channels.min((slice + 1) * staging.depth);
        let all = of_slice.flat_map(|c| (0..taps).map(move |t| (c, t)));
        // Some channels have none, some have many; those that share offsets have them at the same places.
        let like = o / staging.shared;
        let kept = all.filter(|(c, t)| o < out && like % 5 != 3 && (like * 7 + c * 13 + t * 5) % 10 < 2 + like % 3);
        let offset = |c: usize, t: usize| ((c * places.plane + places.taps[t]) / places.unit) as i64;
        kept.map(|(c, t)| (offset(c, t), noise[(o * channels + c) * taps + t])).collect()
    };
    let nothing = (channels * places.plane / places.unit) as i64;
    let (mut heads, mut slots, mut at, mut values) = (vec![0], Vec::new(), Vec::new(), Vec::new());
    for block in (0..out).step_by(staging.block) {
        let groups = (out - block).min(staging.block).div_ceil(staging.abreast);
        for (slice, group) in (0..staging.slices(channels)).flat_map(|s| (0..groups).map(move |g| (s, g))) {
            // The last one first, as one possible order.
            let first = block + group * staging.abreast;
            let blocks = (first..first + staging.abreast).step_by(staging.shared).rev();
            let members: Vec<usize> = blocks.flat_map(|o| o..o + staging.shared).collect();
            let filters: Vec<_> = members.iter().map(|&o| filter(o, slice)).collect();
            for round in 0..filters.iter().map(Vec::len).max().unwrap_or(0) {
                for block in filters.chunks(staging.shared) {
                    at.push(block[0].get(round).map_or(nothing, |entry| entry.0));
                    values.extend(block.iter().map(|f| f.get(round).map_or(0.0, |entry| entry.1)));
                }
            }
            slots.extend(members.iter().map(|&o| (o - block) as i64));
            heads.push(values.len() as i64);
        }
    }
    let n = values.len();
    vec![
        Tensor::from_i64s(DType::I32, vec![heads.len()], &heads).unwrap(),
        Tensor::from_i64s(DType::U8, vec![slots.len()], &slots).unwrap(),
        Tensor::from_i64s(kind, vec![n / staging.shared], &at).unwrap(),
        Tensor::from_f64s(DType::F32, vec![n], &values).unwrap(),
    ]
}

/// Positions of taps in planes.
struct Places {
    plane: usize,
    unit: usize,
    taps: Vec<usize>,
}

/// In all layouts; `shape` is that of a channels-last operand.
fn check_sparse(spec: ConvSpec, kernel: Vec<i64>, staging: Staging, shape: &[usize], out: usize, offsets: DType) {
    let (plane, unit) = (staging.plane(&spec, &kernel), staging.unit(&spec, &kernel));
    let places = Places { plane, unit, taps: staging.places(&spec, &kernel) };
    let channels = shape[shape.len() - 1];
    let weights = weights(&staging, out, channels, &places, offsets);
    let op = |spec, kernel, stored| -> Op {
        Packed { spec, kernel, out, weights: WeightFormat::NonZeros { staging, stored } }.into()
    };
    for (layout, stored) in LAYOUTS {
        let mut shape = shape.to_vec();
        shape.pop();
        shape.insert(layout.channels(shape.len() + 1), channels);
        let operands = [&[noise(DType::F32, &shape, 3)], weights.as_slice()].concat();
        let (spec, kernel) = (ConvSpec { layout, ..spec.clone() }, kernel.clone());
        check(&op(spec, kernel, stored), &operands);
    }
    // Words of bytes instead of floats.
    let mut shape = shape.to_vec();
    shape.iter_mut().rev().take(1).for_each(|channels| *channels *= 4);
    let dtype = if out.is_multiple_of(2) { DType::I8 } else { DType::U8 };
    let values = bytes(DType::I8, &[weights[3].numel(), 4], 7);
    let operands = [&[bytes(dtype, &shape, 3)], &weights[..3], &[values]].concat();
    check(&op(spec, kernel, Layout::ChannelsLast), &operands);
}

const LAYOUTS: [(Layout, Layout); 4] = [
    (Layout::ChannelsLast, Layout::ChannelsLast),
    (Layout::ChannelsFirst, Layout::ChannelsFirst),
    (Layout::ChannelsFirst, Layout::ChannelsLast),
    (Layout::ChannelsLast, Layout::ChannelsFirst),
];

#[test]
fn matrices() {
    for (rows, channels, out, span, (shared, block, depth), offsets) in [
        (1, 33, 70, 1, (1, 64, 33), DType::U16),
        (2, 19, 5, 1, (4, 8, 7), DType::I32),
        (3, 21, 67, 4, (2, 64, 40), DType::U16),
        (5, 40, 37, 8, (1, 40, 40), DType::U16),
        (8, 17, 20, 8, (4, 16, 9), DType::I32),
        (17, 35, 19, 16, (1, 16, 17), DType::I32),
        (50, 16, 66, 64, (4, 32, 5), DType::U16),
        (113, 9, 18, 112, (1, 12, 4), DType::U16),
        (113, 9, 18, 112, (4, 12, 4), DType::I32),
        (40, 20, 22, 80, (2, 24, 20), DType::U16),
    ] {
        let (strides, dilations, pads) = (Vec::new(), Vec::new(), Vec::new());
        let spec = ConvSpec { strides, dilations, pads, group: 1, layout: Layout::ChannelsLast };
        let abreast = if span < 64 { 8 } else { 4 };
        let staging =
            Staging { lines: span, pitch: 1, span, phase: span, aligned: false, abreast, shared, block, depth };
        check_sparse(spec, Vec::new(), staging, &[2, rows, channels], out, offsets);
    }
}

#[test]
fn windows() {
    for (kernel, strides, dilations, pads, shape, lines, out) in [
        (vec![3, 3], vec![1, 1], vec![1, 1], vec![(1, 1), (1, 1)], vec![2, 7, 6, 5], 3, 9),
        (vec![3, 3], vec![2, 2], vec![1, 1], vec![(1, 1), (0, 1)], vec![1, 9, 8, 17], 5, 6),
        (vec![1, 1], vec![2, 2], vec![1, 1], vec![(0, 0), (0, 0)], vec![1, 6, 7, 16], 3, 21),
        (vec![3, 2], vec![1, 1], vec![2, 3], vec![(2, 0), (1, 3)], vec![1, 8, 9, 4], 2, 7),
        (vec![2, 5], vec![3, 2], vec![1, 1], vec![(0, 2), (3, 1)], vec![2, 10, 11, 3], 2, 17),
    ] {
        let spec = ConvSpec { strides, dilations, pads, group: 1, layout: Layout::ChannelsLast };
        let extent = |a: usize| {
            let reach = (kernel[a] - 1) * spec.dilations[a] + 1;
            ((shape[a + 1] as i64 + spec.pads[a].0 + spec.pads[a].1 - reach) / spec.strides[a] + 1) as usize
        };
        for aligned in [false, true] {
            let any =
                Staging { lines, pitch: 1, span: 16, phase: 16, aligned, abreast: 4, shared: 1, block: 8, depth: 3 };
            let reach = any.reach(&spec, &kernel);
            let width = extent(1) + reach[1] as usize;
            let pitch = if aligned { width.next_multiple_of(16) } else { width };
            let span = ((lines - 1) * pitch + extent(1)).next_multiple_of(16);
            let phase = (span + reach[0] as usize * pitch + reach[1] as usize).next_multiple_of(16);
            let shared = if aligned { 4 } else { 1 };
            let staging = Staging { lines, pitch, span, phase, aligned, abreast: 4, shared, block: 8, depth: 3 };
            check_sparse(spec.clone(), kernel.clone(), staging, &shape, out, DType::U16);
        }
    }
}

#[test]
fn lines_of_one_axis() {
    let spec =
        ConvSpec { strides: vec![2], dilations: vec![1], pads: vec![(2, 2)], group: 1, layout: Layout::ChannelsLast };
    let staging = Staging {
        lines: 1,
        pitch: 13,
        span: 16,
        phase: 32,
        aligned: false,
        abreast: 8,
        shared: 2,
        block: 16,
        depth: 4,
    };
    check_sparse(spec, vec![5], staging, &[1, 20, 6], 11, DType::I32);
}
