//! Every form: mcc computes the weights that are meant, and where its kernels take the form, keeps the codes.

use mcc::ir::{Op, WeightFormat};
use mcc_ir::eval::eval_graph;
use mcc_ir::{Error, Random, Tensor};
use mcc_proto::type_proto::{self, Value};
use mcc_proto::{GraphProto, Message, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto};
use mcc_proto::{NodeProto, tensor_shape_proto};

use super::{
    Blocks, Entries, Factors, Half, Integer, Places, Sharing, Steps, WeightNodes, codebook, half, matmul_nbits, steps,
};

/// Inputs and outputs of the product whose weights are written.
const DEPTH: usize = 96;
const OUT: usize = 64;

fn fresh() -> impl FnMut(&str) -> String {
    let mut count = 0;
    move |stem| {
        count += 1;
        format!("{stem}_{count}")
    }
}

fn codes(seed: u64, count: usize, [lowest, highest]: [i64; 2]) -> Vec<i32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.within(lowest, highest) as i32).collect()
}

fn scales(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| 0.01 + random.real().abs() as f32 * 0.1).collect()
}

/// A model of the nodes, with the product of `x` and the weight `w` if they are not that themselves.
fn model(written: &WeightNodes, version: i64) -> ModelProto {
    let dims = [3, DEPTH].map(|d| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::DimensionValue::DimValue(d as i64)),
        ..Default::default()
    });
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim: dims.to_vec() }) };
    let ty = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
    let mut node = written.nodes.clone();
    if written.output == "w" {
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
        let (input, output) = (names(&["x", "w"]), names(&["y"]));
        node.push(NodeProto { op_type: "MatMul".into(), input, output, ..Default::default() });
    }
    let graph = GraphProto {
        node,
        initializer: written.initializers.clone(),
        input: vec![ValueInfoProto { name: "x".into(), r#type: Some(ty), ..Default::default() }],
        output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let opset_import = vec![import("", version), import("com.microsoft", 1)];
    ModelProto { ir_version: 10, graph: Some(graph), opset_import, ..Default::default() }
}

/// Compares the product with that of `weights` (inputs by outputs), and gives the format in which mcc keeps them.
#[track_caller]
fn computes(written: &WeightNodes, version: i64, weights: &[f32]) -> String {
    let bytes = model(written, version).encode_to_vec();
    let graph = mcc_onnx::import(bytes.clone().into(), None, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    let x = Random::new(9).floats(&[3, DEPTH], 1.0).expect("a tensor");
    let got = eval_graph(&graph, std::slice::from_ref(&x)).expect("values").remove(0);
    let x = x.to_f64s();
    for (i, got) in got.to_f64s().into_iter().enumerate() {
        let (row, column) = (i / OUT, i % OUT);
        let want: f64 = (0..DEPTH).map(|d| x[row * DEPTH + d] * f64::from(weights[d * OUT + column])).sum();
        assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "element {i}: {got} instead of {want}");
    }
    let target = mcc::Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).expect("a target");
    let options = mcc::Options::new(vec![target], "m").expect("options");
    let compiled = mcc::compile(bytes::Bytes::from(bytes), &options).unwrap_or_else(|e| panic!("{e}"));
    let graph = &compiled.graph;
    let formats = graph.topological().into_iter().filter_map(|n| match graph.op(n) {
        Op::Packed(packed) => match &packed.weights {
            WeightFormat::LowBit(coded) => Some(format!("{} bits", coded.bits)),
            _ => Some("floats".to_string()),
        },
        Op::PackedMatMul { .. } | Op::MatMul => Some("floats".to_string()),
        _ => None,
    });
    formats.collect::<Vec<_>>().join(", ")
}

#[test]
fn steps_are_kept_as_codes() {
    let shape = &[DEPTH, OUT];
    for (integer, range) in
        [(Integer::I8, [-127, 127]), (Integer::U8, [0, 255]), (Integer::I4, [-8, 7]), (Integer::U4, [0, 15])]
    {
        for (sharing, count) in [
            (Sharing::Tensor, 1),
            (Sharing::Axis(1), OUT),
            (Sharing::Axis(0), DEPTH),
            (Sharing::Blocks { axis: 0, size: 32 }, 3 * OUT),
            (Sharing::Blocks { axis: 0, size: 40 }, 3 * OUT),
        ] {
            let signed = matches!(integer, Integer::I4 | Integer::I8);
            let (codes, scales) = (codes(1, DEPTH * OUT, range), scales(2, count));
            let zeros = self::codes(3, count, [range[1] / 2 - 2, range[1] / 2 + 2]);
            let zeros = (!signed).then_some(zeros.as_slice());
            let written = Steps { shape, codes: &codes, integer, sharing, scales: &scales, zeros };
            let written = steps(&written, "w", &mut fresh()).expect("nodes");
            let group = |at: usize| match sharing {
                Sharing::Tensor => 0,
                Sharing::Axis(0) => at / OUT,
                Sharing::Axis(_) => at % OUT,
                Sharing::Blocks { size, .. } => at / OUT / size * OUT + at % OUT,
            };
            let zero = |at: usize| zeros.map_or(0, |z| z[group(at)]);
            let weights: Vec<f32> =
                (0..DEPTH * OUT).map(|at| (codes[at] - zero(at)) as f32 * scales[group(at)]).collect();
            let version = if integer.bits() == 8 && !matches!(sharing, Sharing::Blocks { .. }) { 13 } else { 21 };
            let format = computes(&written, version, &weights);
            // Scales per input or for runs of odd length are no form of the kernels.
            let coded = !matches!(sharing, Sharing::Axis(0) | Sharing::Blocks { size: 40, .. });
            if coded {
                assert_eq!(format, format!("{} bits", integer.bits()), "{integer:?}, {sharing:?}");
            }
        }
    }
}

#[test]
fn products_of_blocks_are_kept_as_codes() {
    for (bits, size) in [(4, 16), (4, 32), (4, 128), (8, 32)] {
        let runs = DEPTH.div_ceil(size);
        let codes = codes(4, OUT * DEPTH, [0, (1 << bits) - 1]);
        let scales = scales(5, OUT * runs);
        let zeros = self::codes(6, OUT * runs, [5, 10]);
        for zeros in [None, Some(zeros.as_slice())] {
            let blocks = Blocks { rows: OUT, columns: DEPTH, bits, size, codes: &codes, scales: &scales, zeros };
            let written = matmul_nbits(&blocks, "x", "y", &mut fresh()).expect("nodes");
            let weight = |at: usize| {
                let (input, row) = (at / OUT, at % OUT);
                let group = row * runs + input / size;
                let zero = zeros.map_or(1 << (bits - 1), |z| z[group]);
                (codes[row * DEPTH + input] - zero) as f32 * scales[group]
            };
            let weights: Vec<f32> = (0..DEPTH * OUT).map(weight).collect();
            assert_eq!(computes(&written, 21, &weights), format!("{bits} bits"), "blocks of {size}");
        }
    }
}

#[test]
fn entries_of_a_table_are_kept_as_codes() {
    let table: Vec<f32> = (0..16).map(|i| (i as f32 - 7.3).powi(3) / 200.0).collect();
    let codes: Vec<u8> = codes(7, DEPTH * OUT, [0, 15]).into_iter().map(|c| c as u8).collect();
    let plain = Entries {
        shape: &[DEPTH, OUT],
        codes: &codes,
        tables: &table,
        entries: 16,
        sharing: None,
        factors: None,
        four_bits: false,
    };
    for (four_bits, version) in [(false, 13), (true, 21)] {
        let blocks = Sharing::Blocks { axis: 0, size: 32 };
        for sharing in [None, Some(Sharing::Axis(1)), Some(blocks)] {
            let count = if sharing == Some(blocks) { DEPTH / 32 * OUT } else { OUT };
            let factors = scales(8, count);
            let entries =
                Entries { factors: sharing.map(|sharing| Factors { sharing, values: &factors }), four_bits, ..plain };
            let written = codebook(&entries, "w", &mut fresh()).expect("nodes");
            let place = |at: usize| if sharing == Some(blocks) { at / OUT / 32 * OUT } else { 0 } + at % OUT;
            let factor = |at: usize| if sharing.is_some() { factors[place(at)] } else { 1.0 };
            let weights: Vec<f32> = (0..DEPTH * OUT).map(|at| table[usize::from(codes[at])] * factor(at)).collect();
            assert_eq!(computes(&written, version, &weights), "4 bits", "{sharing:?}");
            assert_eq!(written.initializers[0].raw_data.len(), DEPTH * OUT / if four_bits { 2 } else { 1 });
        }
    }
    // A table per 8 outputs, and one per output, of more entries than a byte can count.
    for size in [8, 1] {
        let tables: Vec<f32> = (0..OUT / size * 16).map(|i| i as f32 * 0.01 - 1.0).collect();
        let entries = Entries { tables: &tables, sharing: Some(Places { axis: 1, size }), four_bits: true, ..plain };
        let written = codebook(&entries, "w", &mut fresh()).expect("nodes");
        let weight = |at: usize| tables[at % OUT / size * 16 + usize::from(codes[at])];
        let weights: Vec<f32> = (0..DEPTH * OUT).map(weight).collect();
        computes(&written, 13, &weights);
    }
}

#[test]
fn halves_are_rounded() {
    let mut random = Random::new(3);
    let given: Vec<f32> = (0..DEPTH * OUT).map(|_| random.real() as f32).collect();
    for (kind, dtype) in [(Half::F16, mcc_ir::DType::F16), (Half::Bf16, mcc_ir::DType::BF16)] {
        let written = half(&[DEPTH, OUT], &given, kind, "w", &mut fresh()).expect("nodes");
        let wide: Vec<f64> = given.iter().map(|&v| f64::from(v)).collect();
        let rounded = Tensor::from_f64s(dtype, vec![DEPTH, OUT], &wide).expect("a tensor").to_f64s();
        computes(&written, 13, &rounded.iter().map(|&v| v as f32).collect::<Vec<_>>());
    }
    let refused = half(&[1], &[1e6], Half::F16, "w", &mut fresh()).expect_err("refused");
    assert!(matches!(refused, Error::Unsupported(_)) && refused.to_string().contains("1000000"));
}

#[test]
fn what_does_not_fit_is_told() {
    let plain = Steps {
        shape: &[2, 2],
        codes: &[0, 1, 2, 3],
        integer: Integer::I4,
        sharing: Sharing::Tensor,
        scales: &[1.0],
        zeros: None,
    };
    let refused = |s: Steps<'_>| steps(&s, "w", &mut fresh()).expect_err("refused").to_string();
    assert!(refused(Steps { codes: &[0, 1, 2, 8], ..plain }).contains("code 8"));
    assert!(refused(Steps { codes: &[0, 1, 2], ..plain }).contains("3 codes"));
    assert!(refused(Steps { sharing: Sharing::Axis(1), ..plain }).contains("1 scales"));
    assert!(refused(Steps { sharing: Sharing::Axis(2), ..plain }).contains("axis 2"));
    assert!(refused(Steps { scales: &[f32::NAN], ..plain }).contains("NaN"));
    // An odd number of 4-bit integers ends in half a byte.
    let odd = Steps { shape: &[3], codes: &[-1, 7, -8], ..plain };
    let written = steps(&odd, "w", &mut fresh()).expect("nodes");
    assert_eq!(&written.initializers[0].raw_data[..], [0x7f, 0x08]);
    let blocks = Blocks { rows: 1, columns: 8, bits: 3, size: 32, codes: &[0; 8], scales: &[1.0], zeros: None };
    assert!(matches!(matmul_nbits(&blocks, "x", "y", &mut fresh()), Err(Error::Unsupported(_))));
}
