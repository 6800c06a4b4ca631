//! Products and convolutions, compared with naive loops, with tails of rows, columns and contracted elements.

use mcc_targets::Config;

use mcc_ir::{ConvSpec, DType, Dim, Filtering, Filters, Layout, Op, Packed, Tensor, TensorType, WeightFormat, infer};
use mcc_kernel::kernels::{Epilogue, KernelRequest, Places, build};
use mcc_kernel::kir::interp;

const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Small integers, so that sums are exact in any order.
fn numbers(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<i64> = (0..count).map(|i| ((i * 37 + seed * 11) % 17) as i64 - 8).collect();
    Tensor::from_i64s(dtype, shape.to_vec(), &values).unwrap()
}

/// Runs an operation's kernel on types whose dimensions may be symbols.
fn run(op: &Op, types: &[TensorType], operands: &[Tensor], symbols: &dyn Fn(&str) -> i64) -> Vec<Vec<f64>> {
    let refs: Vec<_> = types.iter().collect();
    let results = infer(op, &refs).unwrap().types;
    let constants = vec![None; types.len()];
    TARGETS
        .iter()
        .map(|triple| {
            let config = Config::new(triple, None).unwrap();
            let request = KernelRequest {
                op,
                operands: types,
                constants: &constants,
                results: &results,
                places: &Places::default(),
                config: &config,
                layer: "",
            };
            let built = build(&request, &Epilogue::default()).unwrap();
            let bytes = |d: &Dim| d.eval(&|s| Some(symbols(&s.0))).unwrap() as usize;
            let mut memory: Vec<Vec<u8>> = operands.iter().map(|t| t.data().to_vec()).collect();
            memory.extend(results.iter().map(|r| vec![0xee; bytes(&r.bytes())]));
            memory.extend(built.scratch.iter().map(|d| vec![0xee; bytes(d)]));
            let values: Vec<i64> = built.kernel.symbols.iter().map(|s| symbols(&s.0)).collect();
            interp::run(&built.kernel, &mut memory, &values).unwrap();
            let shape: Vec<usize> = results[0].shape.iter().map(bytes).collect();
            let data = memory.swap_remove(operands.len());
            let result = Tensor::new(results[0].dtype, shape, data.into()).unwrap();
            (0..result.numel()).map(|i| result.f64_at(i)).collect()
        })
        .collect()
}

fn check(op: &Op, types: &[TensorType], operands: &[Tensor], symbols: &dyn Fn(&str) -> i64, want: &[f64]) {
    check_near(op, types, operands, symbols, want, 0.0);
}

/// The same with a tolerance relative to the largest value.
fn check_near(
    op: &Op,
    types: &[TensorType],
    operands: &[Tensor],
    symbols: &dyn Fn(&str) -> i64,
    want: &[f64],
    tolerance: f64,
) {
    let error = tolerance * want.iter().fold(0.0, |most: f64, w| most.max(w.abs()));
    for (got, target) in run(op, types, operands, symbols).iter().zip(TARGETS) {
        let near = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() <= error);
        assert!(near, "{op:?} of {types:?} for {target}:\n{got:?}\nbut\n{want:?}");
    }
    if types.iter().all(|t| t.fixed_shape().is_some()) {
        super::check_objects(op, operands);
    }
}

fn types_of(operands: &[Tensor]) -> Vec<TensorType> {
    operands.iter().map(Tensor::ty).collect()
}

/// Cuts `[..., k, n]` into panels `[..., panels, k, tile]`.
fn packed(b: &Tensor, tile: usize) -> Tensor {
    let (batch, [k, n]) = b.shape().split_last_chunk::<2>().unwrap();
    let panels = n.div_ceil(tile);
    let mut values = Vec::new();
    for matrix in 0..batch.iter().product() {
        for (panel, row, col) in triples(panels, *k, tile) {
            let n_at = panel * tile + col;
            values.push(if n_at < *n { b.f64_at((matrix * k + row) * n + n_at) } else { 0.0 });
        }
    }
    let shape = [batch, &[panels, *k, tile]].concat();
    Tensor::from_f64s(b.dtype(), shape, &values).unwrap()
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |l| (i, j, l))))
}

fn product(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (a_batch, [m, k]) = a.shape().split_last_chunk::<2>().unwrap();
    let (b_batch, [_, n]) = b.shape().split_last_chunk::<2>().unwrap();
    let (a_count, b_count) = (a_batch.iter().product::<usize>(), b_batch.iter().product::<usize>());
    let mut values = Vec::new();
    for (matrix, i, j) in triples(a_count.max(b_count), *m, *n) {
        let (p, q) = (matrix % a_count, matrix % b_count);
        let term = |l| a.f64_at((p * m + i) * k + l) * b.f64_at((q * k + l) * n + j);
        values.push((0..*k).map(term).sum());
    }
    values
}

#[test]
fn products() {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::I64] {
        let sizes: &[(usize, usize, usize)] = if dtype == DType::F32 {
            &[(1, 9, 8), (2, 4, 3), (5, 8, 17), (11, 6, 12), (23, 3, 8), (16, 7, 47), (600, 2, 9)]
        } else {
            &[(7, 5, 9)]
        };
        for &(m, k, n) in sizes {
            let (a, b) = (numbers(dtype, &[m, k], 1), numbers(dtype, &[k, n], 2));
            let want = product(&a, &b);
            for tile in [4, 8, 12, 16] {
                let operands = [a.clone(), packed(&b, tile)];
                let op = Op::PackedMatMul { n: Dim::from(n) };
                check(&op, &types_of(&operands), &operands, &|_| 0, &want);
            }
            let operands = [a, b];
            check(&Op::MatMul, &types_of(&operands), &operands, &|_| 0, &want);
        }
    }
}

#[test]
fn products_of_unknown_extents() {
    for (m, k, n) in [(1, 3, 1), (5, 4, 8), (7, 9, 13), (14, 1, 20), (13, 6, 45)] {
        let (a, b) = (numbers(DType::F32, &[m, k], 1), numbers(DType::F32, &[k, n], 2));
        let want = product(&a, &b);
        let symbols = |s: &str| [m, k, n, n.div_ceil(8)]["mknp".find(s).unwrap()] as i64;
        let ty = |dims: &[&str]| TensorType::new(DType::F32, dims.iter().map(|d| Dim::sym(*d)).collect());
        check(&Op::MatMul, &[ty(&["m", "k"]), ty(&["k", "n"])], &[a.clone(), b.clone()], &symbols, &want);
        let panels = Dim::sym("n").ceil_div(&Dim::from(8i64));
        let shape = vec![panels, Dim::sym("k"), Dim::from(8i64)];
        let types = [ty(&["m", "k"]), TensorType::new(DType::F32, shape)];
        check(&Op::PackedMatMul { n: Dim::sym("n") }, &types, &[a, packed(&b, 8)], &symbols, &want);
    }
}

#[test]
fn stacked_products() {
    let shapes: &[(&[usize], &[usize])] =
        &[(&[3, 2], &[3, 2]), (&[3, 2], &[1, 1]), (&[3, 2], &[2]), (&[1], &[4]), (&[2], &[])];
    for (a, b) in shapes {
        let a = numbers(DType::F32, &[*a, &[3, 5]].concat(), 1);
        let b = numbers(DType::F32, &[*b, &[5, 6]].concat(), 2);
        let want = product(&a, &b);
        let operands = [a.clone(), packed(&b, 8)];
        check(&Op::PackedMatMul { n: Dim::from(6i64) }, &types_of(&operands), &operands, &|_| 0, &want);
        check(&Op::MatMul, &types_of(&[a.clone(), b.clone()]), &[a, b], &|_| 0, &want);
    }
}

/// Channels-last convolution without padding of `x: [batch, h, w, in]` with `w: [out, in/group, kh, kw]`.
fn correlate(x: &Tensor, w: &Tensor, spec: &ConvSpec) -> Vec<f64> {
    let (&[batch, h, width, channels], &[out, per, kh, kw]) = (x.shape(), w.shape()) else { unreachable!() };
    let (s, d): (Vec<usize>, Vec<usize>) =
        (spec.strides.iter().map(|&s| s as usize).collect(), spec.dilations.iter().map(|&d| d as usize).collect());
    let (oh, ow) = ((h - (kh - 1) * d[0] - 1) / s[0] + 1, (width - (kw - 1) * d[1] - 1) / s[1] + 1);
    let mut values = Vec::new();
    for n in 0..batch {
        for (oy, ox, o) in triples(oh, ow, out) {
            let group = o / (out / spec.group);
            let term = |(ky, kx, c): (usize, usize, usize)| {
                let at = ((n * h + oy * s[0] + ky * d[0]) * width + ox * s[1] + kx * d[1]) * channels;
                x.f64_at(at + group * per + c) * w.f64_at(((o * per + c) * kh + ky) * kw + kx)
            };
            values.push(triples(kh, kw, per).map(term).sum());
        }
    }
    values
}

fn spec(stride: i64, dilation: i64, group: usize) -> ConvSpec {
    ConvSpec {
        strides: vec![stride, stride],
        dilations: vec![dilation, dilation],
        pads: vec![(0, 0); 2],
        group,
        layout: Layout::ChannelsLast,
    }
}

#[test]
fn convolutions() {
    // batch, height, width, in, out, kernel, stride, dilation, group
    let cases = [
        [1, 4, 5, 3, 8, 1, 1, 1, 1],
        [2, 5, 5, 3, 9, 3, 1, 1, 1],
        [1, 7, 6, 4, 5, 3, 2, 1, 1],
        [1, 8, 7, 2, 8, 3, 1, 2, 1],
        [2, 6, 5, 6, 4, 2, 1, 1, 2],
        [1, 5, 5, 5, 8, 1, 2, 1, 1],
    ];
    for [batch, h, width, channels, out, kernel, stride, dilation, group] in cases {
        let per = channels / group;
        let x = numbers(DType::F32, &[batch, h, width, channels], 1);
        let w = numbers(DType::F32, &[out, per, kernel, kernel], 2);
        let spec = spec(stride as i64, dilation as i64, group);
        let want = correlate(&x, &w, &spec);
        let (columns, tile) = (out / group, 4 * (out / group).div_ceil(4).min(2));
        let mut values = Vec::new();
        for (g, panel, tap) in triples(group, columns.div_ceil(tile), kernel * kernel) {
            for (c, lane) in (0..per).flat_map(|c| (0..tile).map(move |l| (c, l))) {
                let column = panel * tile + lane;
                let at = ((g * columns + column) * per + c) * kernel * kernel + tap;
                values.push(if column < columns { w.f64_at(at) } else { 0.0 });
            }
        }
        let shape = vec![group, columns.div_ceil(tile), kernel, kernel, per, tile];
        let packed = Tensor::from_f64s(DType::F32, shape, &values).unwrap();
        let mut types = types_of(&[x.clone(), packed.clone()]);
        let operands = [x.clone(), packed];
        let op =
            Packed { spec: spec.clone(), kernel: vec![kernel as i64; 2], out, weights: WeightFormat::Dense }.into();
        check(&op, &types, &operands, &|_| 0, &want);
        types[0].shape[..3].clone_from_slice(&[Dim::sym("n"), Dim::sym("h"), Dim::sym("w")]);
        let symbols = |s: &str| [batch, h, width]["nhw".find(s).unwrap()] as i64;
        check(&op, &types, &operands, &symbols, &want);
        let operands = [x, w];
        types[1] = operands[1].ty();
        check(&Op::Conv(spec), &types, &operands, &symbols, &want);
    }
}

#[test]
fn depthwise_convolutions() {
    // height, width, channels, kernel, stride, dilation
    for [h, width, channels, kernel, stride, dilation] in [
        [5, 9, 8, 3, 1, 1],
        [6, 16, 7, 3, 2, 1],
        [9, 9, 4, 5, 1, 1],
        [8, 13, 37, 5, 1, 1],
        [7, 21, 20, 3, 1, 1],
        [11, 12, 3, 3, 1, 2],
        [12, 23, 5, 11, 1, 1],
        [20, 43, 1, 19, 2, 1],
    ] {
        let x = numbers(DType::F32, &[2, h, width, channels], 1);
        let w = numbers(DType::F32, &[channels, 1, kernel, kernel], 2);
        let spec = spec(stride as i64, dilation as i64, channels);
        let want = correlate(&x, &w, &spec);
        let taps = kernel * kernel;
        let turned: Vec<f64> = (0..taps * channels).map(|i| w.f64_at(i % channels * taps + i / channels)).collect();
        let w = Tensor::from_f64s(DType::F32, vec![kernel, kernel, channels], &turned).unwrap();
        let operands = [x, w];
        let mut types = types_of(&operands);
        let op =
            Packed { spec, kernel: vec![kernel as i64; 2], out: channels, weights: WeightFormat::Depthwise }.into();
        check(&op, &types, &operands, &|_| 0, &want);
        types[0].shape[..3].clone_from_slice(&[Dim::sym("n"), Dim::sym("h"), Dim::sym("w")]);
        check(&op, &types, &operands, &|s| [2, h, width]["nhw".find(s).unwrap()] as i64, &want);
    }
}

#[test]
fn windows_add_up() {
    // The columns of a transposed convolution: each window's elements go to the window's position.
    let (kernel, size) = ([3i64, 2], [5i64, 6]);
    for (strides, pads) in [([1i64, 1], [(0, 0), (0, 0)]), ([2, 2], [(1, 0), (0, 1)]), ([1, 1], [(1, 1), (1, 0)])] {
        let spec = ConvSpec {
            strides: strides.to_vec(),
            dilations: vec![1, 1],
            pads: pads.to_vec(),
            group: 1,
            layout: Layout::ChannelsFirst,
        };
        let count = |a: usize| ((size[a] + pads[a].0 + pads[a].1 - kernel[a]) / strides[a] + 1) as usize;
        let (rows, columns) = (count(0), count(1));
        let x = numbers(DType::F32, &[2, 3 * 6, rows * columns], 3);
        let mut want = vec![0.0; 2 * 3 * 30];
        for (plane, tap, window) in triples(6, 6, rows * columns) {
            let y = (window / columns) as i64 * strides[0] + tap as i64 / 2 - pads[0].0;
            let z = (window % columns) as i64 * strides[1] + tap as i64 % 2 - pads[1].0;
            if (0..size[0]).contains(&y) && (0..size[1]).contains(&z) {
                want[(plane as i64 * 30 + y * 6 + z) as usize] += x.f64_at((plane * 6 + tap) * rows * columns + window);
            }
        }
        let op = Op::Col2Im { spec, kernel: kernel.to_vec(), size: size.map(Dim::from).to_vec() };
        check(&op, &types_of(std::slice::from_ref(&x)), &[x], &|_| 0, &want);
    }
}

#[test]
fn minimal_filtering() {
    let square = |taps| Filtering::of_taps(taps).filter(|f| f.results > 1).map(|f| [f, f]);
    let unit = Filtering::new(1, 1).unwrap();
    let one = |taps| Filtering::of_taps(taps).filter(|f| f.results > 1).flat_map(move |f| [[f, unit], [unit, f]]);
    let shapes = [[2, 4, 6, 4, 8], [1, 5, 7, 8, 12], [1, 3, 4, 4, 20], [1, 301, 3, 8, 4], [1, 9, 10, 16, 32]];
    for f in square(3) {
        shapes.iter().for_each(|&shape| check_filtering(f, [1, 1], shape));
    }
    for f in [2, 3, 5, 7].into_iter().flat_map(one) {
        shapes[1..4].iter().for_each(|&shape| check_filtering(f, [1, 1], shape));
    }
    for f in one(3) {
        shapes[1..3].iter().for_each(|&shape| check_filtering(f, [2, 5], shape));
    }
    [2, 5].into_iter().flat_map(square).for_each(|f| check_filtering(f, [1, 1], shapes[1]));
    for f in one(5).filter(|f| f[1].taps == 1) {
        check_filtering(f, [1, 1], [3, 17, 1, 8, 12]);
        check_filtering(f, [3, 1], [2, 40, 1, 16, 16]);
    }
    square(3).for_each(|f| check_filtering(f, [3, 2], shapes[4]));
}

/// Images with one column, along which nothing is filtered, are lines.
fn check_filtering(f: [Filtering; 2], dilations: [usize; 2], [batch, oh, ow, channels, out]: [usize; 5]) {
    let axes = if ow == 1 && f[1].taps == 1 { 1 } else { 2 };
    let spatial = |size: [usize; 2]| size[..axes].to_vec();
    let extents = spatial([f[0].extent(oh, dilations[0]), f[1].extent(ow, dilations[1])]);
    let x = numbers(DType::F32, &[vec![batch], extents, vec![channels]].concat(), 1);
    let w = numbers(DType::F32, &[f[0].elements() * f[1].elements(), channels, out], 2);
    let operands = [x, packed(&w, 4 * out.div_ceil(4).min(2))];
    let types = types_of(&operands);
    let both = |of: [usize; 2]| spatial(of).into_iter().map(|n| n as i64).collect::<Vec<_>>();
    let weights = WeightFormat::Filtered {
        size: spatial([oh, ow]).into_iter().map(Dim::from).collect(),
        tile: both(f.map(|f| f.results)),
        filters: Filters::Transformed,
    };
    let spec = ConvSpec {
        strides: vec![1; axes],
        dilations: both(dilations),
        pads: vec![(0, 0); axes],
        group: 1,
        layout: Layout::ChannelsLast,
    };
    let op = Packed { spec, kernel: both(f.map(|f| f.taps)), out, weights }.into();
    let result = infer(&op, &types.iter().collect::<Vec<_>>()).unwrap().types;
    let want = mcc_ir::eval::eval_op(&op, &operands, &result).unwrap()[0].to_f64s();
    // The factors of most products have too many digits for exact sums.
    let tolerance = if f.iter().any(|f| f.elements() == 8) { 1e-6 } else { 0.0 };
    check_near(&op, &types, &operands, &|_| 0, &want, tolerance);
}

/// Wide tiles with every number of rows, as machine code if this machine has the instructions.
#[test]
fn wide_tiles() {
    for m in [1, 2, 3, 4, 5, 6, 13] {
        for (k, n) in [(1, 16), (7, 33), (12, 20)] {
            let (a, b) = (numbers(DType::F32, &[m, k], 1), numbers(DType::F32, &[k, n], 2));
            super::check(&Op::PackedMatMul { n: Dim::from(n) }, &[a.clone(), packed(&b, 16)]);
            super::check(&Op::MatMul, &[a, b]);
        }
    }
    let x = numbers(DType::F32, &[2, 6, 5, 6], 1);
    for (spec, out, w) in [(spec(1, 1, 1), 20, [1, 2, 2, 3, 6, 16]), (spec(2, 1, 2), 32, [2, 1, 3, 2, 3, 16])] {
        let kernel = w[2..4].iter().map(|&k| k as i64).collect();
        let op = Packed { spec, kernel, out, weights: WeightFormat::Dense };
        super::check(&op.into(), &[x.clone(), numbers(DType::F32, &w, 2)]);
    }
}
