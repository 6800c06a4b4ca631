//! Heads of attention and hidden units of recurrent nodes disappear from a model: those that add nothing, without any
//! change of the results.

mod common;

use common::{Builder, normal, options, samples, setting};
use mcc_compress::attribute::{int, set_int, set_ints};
use mcc_compress::model::Model;
use mcc_compress::recipe::{Criterion, Pattern, Prune, Recipe, Step};
use mcc_compress::session::{Session, compress};
use mcc_ir::{DType, Random, Tensor};
use mcc_proto::NodeProto;
use mcc_proto::attribute_proto::AttributeType;

/// Heads, and channels of each.
const HEADS: usize = 4;
const WIDTH: usize = 3;
const ALL: usize = HEADS * WIDTH;

/// Hidden units.
const UNITS: usize = 8;

fn integers(values: &[i64]) -> Tensor {
    Tensor::from_i64s(DType::I64, vec![values.len()], values).unwrap()
}

/// Weights in which those that `keeps` refuses are zero.
fn some(seed: u64, shape: &[usize], keeps: impl Fn(&[usize]) -> bool) -> Tensor {
    let mut random = Random::new(seed);
    let mut values = Vec::new();
    for at in 0..shape.iter().product() {
        let (mut rest, mut place) = (at, vec![0; shape.len()]);
        for axis in (0..shape.len()).rev() {
            place[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        let value = normal(&mut random) * 0.5;
        values.push(if keeps(&place) { value } else { 0.0 });
    }
    Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
}

/// Whether the head of a channel is one that matters.
fn head(channel: usize) -> bool {
    !(channel / WIDTH).is_multiple_of(2)
}

/// Whether a unit is one that matters.
fn unit(h: usize) -> bool {
    h.is_multiple_of(2)
}

fn half(share: f64) -> Prune {
    Prune { pattern: Pattern::Channels, share: Some(share), ..Prune::default() }
}

fn pruned(model: Model, shape: &[usize], step: Prune) -> mcc_ir::Result<Session> {
    let (samples, options) = (samples(shape, 24), options());
    let recipe = Recipe { steps: vec![Step::Prune(step)], ..Recipe::default() };
    compress(model, &recipe, &setting(&samples, &options))
}

/// Results for an input of some shape.
fn results(model: &Model, shape: &[usize]) -> Vec<f64> {
    let loaded = mcc::compile(model.encode().unwrap(), &options()).unwrap();
    let outputs = loaded.load().unwrap().invoke(&samples(shape, 1).read(0).unwrap()).unwrap();
    outputs.iter().flat_map(Tensor::to_f64s).collect()
}

/// Prunes half of the channels, which add nothing, without a fit; results stay what they are, for other extents, too.
fn lossless(model: &Model, shapes: [&[usize]; 2]) -> Session {
    let step = Prune { reconstruct: false, ..half(0.5) };
    let done = pruned(model.clone(), shapes[0], step).unwrap();
    for shape in shapes {
        let (before, after) = (results(model, shape), results(&done.model, shape));
        let most = before.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(most > 0.0 && before.len() == after.len());
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= 1e-5 * most, "{a} became {b}");
        }
    }
    done
}

fn rows(model: &Model, output: &str) -> usize {
    mcc_compress::layers::again(model, output).unwrap().1.rows()
}

fn reason(done: &Session, output: &str) -> String {
    done.changes.iter().find(|c| c.output == output).unwrap().reason.clone()
}

fn transpose(perm: [i64; 4]) -> impl Fn(&mut NodeProto) {
    move |node| set_ints(node, "perm", perm.to_vec())
}

/// Projections of `x`, in which heads of no value add nothing, and the constants of reshapes: `split` and `merge`.
fn projections(split: &[i64], merge: &[i64]) -> Builder {
    Builder::new(1)
        .input("x", &[-1, 5, 6])
        .constant("wq", &some(1, &[6, ALL], |_| true))
        .constant("wk", &some(2, &[6, ALL], |_| true))
        .constant("wv", &some(3, &[6, ALL], |at| head(at[1])))
        .constant("bq", &some(4, &[ALL], |_| true))
        .constant("wo", &some(5, &[ALL, 6], |_| true))
        .constant("split", &integers(split))
        .constant("merge", &integers(merge))
        .constant("scale", &Tensor::from_f64s(DType::F32, vec![1], &[0.6]).unwrap())
        .node("MatMul", &["x", "wq"], "q0", |_| {})
        .node("Add", &["bq", "q0"], "q", |_| {})
        .node("MatMul", &["x", "wk"], "k", |_| {})
        .node("MatMul", &["x", "wv"], "v", |_| {})
}

/// The product of the attention `a`, `[batch, head, time, width]`, with the last weights.
fn output(builder: Builder) -> Model {
    builder
        .node("Transpose", &["a"], "at", transpose([0, 2, 1, 3]))
        .node("Reshape", &["at", "merge"], "m", |_| {})
        .node("MatMul", &["m", "wo"], "y", |_| {})
        .output("y")
        .model(17)
}

/// Attention in which the keys are turned at once.
fn attention(split: &[i64], merge: &[i64]) -> Builder {
    projections(split, merge)
        .node("Reshape", &["q", "split"], "qs", |_| {})
        .node("Reshape", &["k", "split"], "ks", |_| {})
        .node("Reshape", &["v", "split"], "vs", |_| {})
        .node("Transpose", &["qs"], "qt", transpose([0, 2, 1, 3]))
        .node("Transpose", &["ks"], "kt", transpose([0, 2, 3, 1]))
        .node("Transpose", &["vs"], "vt", transpose([0, 2, 1, 3]))
        .node("MatMul", &["qt", "kt"], "s0", |_| {})
        .node("Mul", &["s0", "scale"], "s", |_| {})
}

fn softmax(builder: Builder, from: &str) -> Builder {
    builder.node("Softmax", &[from], "p", |node| set_int(node, "axis", -1)).node("MatMul", &["p", "vt"], "a", |_| {})
}

const SHAPES: [&[usize]; 2] = [&[2, 5, 6], &[3, 5, 6]];

#[test]
fn heads_go_with_their_part_of_each_projection() {
    let (heads, width, all) = (HEADS as i64, WIDTH as i64, ALL as i64);
    let forms: [(&[i64], &[i64]); 4] = [
        (&[-1, 5, heads, width], &[-1, 5, all]),
        (&[0, 0, -1, width], &[0, 0, -1]),
        (&[0, 0, heads, -1], &[0, 0, all]),
        (&[0, -1, heads, width], &[0, 5, -1]),
    ];
    for (split, merge) in forms {
        let done = lossless(&output(softmax(attention(split, merge), "s")), SHAPES);
        let found = ["q0", "k", "v", "y"].map(|output| rows(&done.model, output));
        assert_eq!(found, [ALL / 2, ALL / 2, ALL / 2, 6], "{split:?}");
    }
}

#[test]
fn heads_go_from_a_projection_that_is_keys_and_values() {
    let mut model = output(softmax(attention(&[0, 0, HEADS as i64, WIDTH as i64], &[0, 0, ALL as i64]), "s"));
    let place = model.nodes().iter().position(|n| n.output[0] == "ks").unwrap();
    model.edit_node(place, |n| n.input[0] = "v".to_string());
    model.tidy().unwrap();
    let done = lossless(&model, SHAPES);
    assert_eq!(["q0", "v", "y"].map(|output| rows(&done.model, output)), [ALL / 2, ALL / 2, 6]);
}

#[test]
fn a_list_that_copies_the_whole_width_is_not_misread() {
    // The constant 12 of another list is what a value that is not followed needs.
    let built = softmax(attention(&[0, 0, 4, 3], &[0, 0, 12]), "s")
        .constant("time", &integers(&[5]))
        .constant("heads", &integers(&[4]))
        .constant("width", &integers(&[3]))
        .constant("w4", &some(9, &[6, ALL], |_| true))
        .node("Shape", &["x"], "shape", |node| set_int(node, "end", 1))
        .node("Concat", &["shape", "time", "heads", "width"], "shared", |node| set_int(node, "axis", 0))
        .node("MatMul", &["x", "w4"], "other", |_| {})
        .node("Reshape", &["other", "shared"], "z", |_| {})
        .output("z");
    let mut model = output(built);
    // The queries are split by the list that the other result reads.
    let place = model.nodes().iter().position(|n| n.output[0] == "qs").unwrap();
    model.edit_node(place, |n| n.input[1] = "shared".to_string());
    model.tidy().unwrap();
    let error = pruned(model, SHAPES[0], half(0.5)).err().unwrap().report().to_string();
    assert!(error.contains("no channels can go") && error.contains("output \"z\""), "{error}");
}

#[test]
fn heads_go_from_one_product_for_all() {
    let all = ALL as i64;
    let weights = some(6, &[6, 3 * ALL], |at| at[1] < 2 * ALL || head(at[1] % ALL));
    let part = |n: i64| integers(&[n]);
    let built = Builder::new(1)
        .input("x", &[-1, 5, 6])
        .constant("w", &weights)
        .constant("wo", &some(5, &[ALL, 6], |_| true))
        .constant("split", &integers(&[0, 5, 3, HEADS as i64, WIDTH as i64]))
        .constant("merge", &integers(&[0, 5, all]))
        .constant("zero", &part(0))
        .constant("one", &part(1))
        .constant("two", &part(2))
        .constant("three", &part(3))
        .constant("second", &Tensor::from_i64s(DType::I64, vec![], &[1]).unwrap())
        .constant("mask", &some(7, &[1, HEADS, 5, 5], |_| true))
        .node("MatMul", &["x", "w"], "qkv", |_| {})
        .node("Reshape", &["qkv", "split"], "s5", |_| {})
        .node("Transpose", &["s5"], "t5", |node| set_ints(node, "perm", vec![2, 0, 3, 1, 4]))
        .node("Slice", &["t5", "zero", "one", "zero"], "q1", |_| {})
        .node("Squeeze", &["q1", "zero"], "qt", |_| {})
        .node("Gather", &["t5", "second"], "k1", |_| {})
        .node("Slice", &["t5", "two", "three", "zero"], "v1", |_| {})
        .node("Squeeze", &["v1", "zero"], "vt", |_| {})
        .node("Transpose", &["k1"], "kt", transpose([0, 1, 3, 2]))
        .node("MatMul", &["qt", "kt"], "s", |_| {})
        .node("Add", &["s", "mask"], "masked", |_| {});
    let done = lossless(&output(softmax(built, "masked")), SHAPES);
    assert_eq!(rows(&done.model, "qkv"), 3 * ALL / 2);
}

#[test]
fn heads_of_attention_nodes_go() {
    let attention = |node: &mut NodeProto| {
        set_int(node, "num_heads", HEADS as i64);
        node.domain = "com.microsoft".to_string();
    };
    let mut proto = projections(&[0], &[0])
        .constant("bias", &some(8, &[3 * ALL], |at| at[0] < 2 * ALL || head(at[0] % ALL)))
        .node("MultiHeadAttention", &["q", "k", "v", "bias"], "m", attention)
        .node("MatMul", &["m", "wo"], "y", |_| {})
        .output("y")
        .proto(17);
    proto.opset_import.push(mcc_proto::OperatorSetIdProto { domain: "com.microsoft".to_string(), version: 1 });
    let done = lossless(&Model::new(proto, None).unwrap(), SHAPES);
    let node = done.model.nodes().iter().find(|n| n.op_type == "MultiHeadAttention").unwrap();
    assert_eq!((int(node, "num_heads", 0), rows(&done.model, "q0")), (2, ALL / 2));

    let grouped = |kv: usize| {
        let standard = move |node: &mut NodeProto| {
            set_int(node, "q_num_heads", HEADS as i64);
            set_int(node, "kv_num_heads", kv as i64);
        };
        projections(&[0], &[0])
            .constant("wg", &some(2, &[6, kv * WIDTH], |_| true))
            .constant("wh", &some(3, &[6, kv * WIDTH], |at| head(at[1])))
            .node("MatMul", &["x", "wg"], "kg", |_| {})
            .node("MatMul", &["x", "wh"], "vg", |_| {})
            .node("Attention", &["q", "kg", "vg"], "m", standard)
            .node("MatMul", &["m", "wo"], "y", |_| {})
            .output("y")
            .model(23)
    };
    let done = lossless(&grouped(HEADS), SHAPES);
    assert_eq!(["q0", "kg", "vg"].map(|output| rows(&done.model, output)), [ALL / 2; 3]);
    // Fewer heads of keys than of queries: none goes.
    let error = pruned(grouped(2), SHAPES[0], half(0.5)).err().unwrap().report().to_string();
    assert!(error.contains("they reach Attention"), "{error}");
}

#[test]
fn heads_that_are_expanded_stay() {
    let built = projections(&[0, 0, HEADS as i64, WIDTH as i64], &[0, 0, ALL as i64])
        .constant("wg", &some(2, &[6, 2 * WIDTH], |_| true))
        .constant("few", &integers(&[0, 0, 2, WIDTH as i64]))
        .constant("axis", &integers(&[2]))
        .constant("many", &integers(&[1, 2, 2, 5, WIDTH as i64]))
        .constant("joined", &integers(&[0, HEADS as i64, 5, WIDTH as i64]))
        .node("MatMul", &["x", "wg"], "kg", |_| {})
        .node("Reshape", &["kg", "few"], "k4", |_| {})
        .node("Transpose", &["k4"], "k5", transpose([0, 2, 1, 3]))
        .node("Unsqueeze", &["k5", "axis"], "k6", |_| {})
        .node("Expand", &["k6", "many"], "k7", |_| {})
        .node("Reshape", &["k7", "joined"], "k8", |_| {})
        .node("Transpose", &["k8"], "kt", transpose([0, 1, 3, 2]))
        .node("Reshape", &["q", "split"], "qs", |_| {})
        .node("Reshape", &["v", "split"], "vs", |_| {})
        .node("Transpose", &["qs"], "qt", transpose([0, 2, 1, 3]))
        .node("Transpose", &["vs"], "vt", transpose([0, 2, 1, 3]))
        .node("MatMul", &["qt", "kt"], "s", |_| {});
    let error = pruned(output(softmax(built, "s")), SHAPES[0], half(0.5)).err().unwrap().report().to_string();
    assert!(error.contains("Expand"), "{error}");
}

fn text(node: &mut NodeProto, name: &str, value: &str) {
    node.attribute.push(mcc_proto::AttributeProto {
        name: name.to_string(),
        s: Some(value.as_bytes().to_vec().into()),
        r#type: AttributeType::String as i32,
        ..Default::default()
    });
}

/// A recurrent node over `x` of `[time, batch, 6]` channels of a product, in which odd units read and are read by
/// nothing that matters.
fn recurrent(op: &str, gates: usize, directions: usize, edit: impl Fn(&mut NodeProto)) -> Builder {
    let rows = gates * UNITS;
    // The last four of eight channels of the product add nothing.
    let input = some(11, &[directions, rows, 8], |at| at[2] < 4);
    let state = some(12, &[directions, rows, UNITS], |at| unit(at[2]));
    Builder::new(2)
        .input("x", &[-1, 2, 5])
        .constant("w0", &some(10, &[5, 8], |_| true))
        .constant("w", &input)
        .constant("r", &state)
        .constant("b", &some(13, &[directions, 2 * rows], |_| true))
        .node("MatMul", &["x", "w0"], "a", |_| {})
        .node("Tanh", &["a"], "t", |_| {})
        .node(op, &["t", "w", "r", "b"], "h", move |node| {
            set_int(node, "hidden_size", UNITS as i64);
            if directions == 2 {
                text(node, "direction", "bidirectional");
            }
            edit(node);
        })
}

/// A classifier of the results of both directions, joined.
fn classified(builder: Builder, directions: usize) -> Model {
    builder
        .constant("w9", &some(14, &[directions * UNITS, 4], |at| unit(at[0] % UNITS)))
        .constant("b9", &some(15, &[4], |_| true))
        .constant("side", &integers(&[0, 0, -1]))
        .constant("flat", &integers(&[-1, (directions * UNITS) as i64]))
        .node("Transpose", &["h"], "ht", transpose([0, 2, 1, 3]))
        .node("Reshape", &["ht", "side"], "h3", |_| {})
        .node("Reshape", &["h3", "flat"], "h2", |_| {})
        .node("Gemm", &["h2", "w9", "b9"], "y", |_| {})
        .output("y")
        .model(17)
}

const TIMES: [&[usize]; 2] = [&[7, 2, 5], &[1, 2, 5]];

fn hidden(model: &Model) -> i64 {
    let node = model.nodes().iter().find(|n| n.output[0] == "h").unwrap();
    int(node, "hidden_size", 0)
}

#[test]
fn units_go_from_every_kind_of_recurrent_node() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for (directions, before) in [(1, 0), (2, 1)] {
            let built = recurrent(op, gates, directions, |node| {
                if op == "GRU" {
                    set_int(node, "linear_before_reset", before);
                }
            });
            let done = lossless(&classified(built, directions), TIMES);
            assert_eq!((hidden(&done.model), rows(&done.model, "a")), (4, 4), "{op}, {directions} directions");
            assert_eq!(reason(&done, "h"), "4 of 8 channels");
        }
    }
}

#[test]
fn units_go_with_states_of_zeros_and_constants() {
    let peepholes = some(16, &[1, 3 * UNITS], |_| true);
    let zeros = |node: &mut NodeProto| {
        node.input.extend(["", "h0", "c0", "p"].map(str::to_string));
    };
    let built = recurrent("LSTM", 4, 1, zeros)
        .constant("p", &peepholes)
        .constant("c0", &some(17, &[1, 2, UNITS], |_| true))
        .constant("one", &integers(&[1]))
        .constant("units", &integers(&[UNITS as i64]))
        .node("Shape", &["t"], "shape", |node| {
            set_int(node, "start", 1);
            set_int(node, "end", 2);
        })
        .node("Concat", &["one", "shape", "units"], "extents", |node| set_int(node, "axis", 0))
        .node("ConstantOfShape", &["extents"], "h1", |_| {})
        .node("Identity", &["h1"], "h0", |_| {});
    let done = lossless(&classified(built, 1), TIMES);
    assert_eq!(hidden(&done.model), 4);
}

#[test]
fn units_of_a_state_that_the_caller_keeps_stay() {
    let states = |node: &mut NodeProto| {
        node.input.extend(["", "h0"].map(str::to_string));
        node.output.push("hn".to_string());
    };
    let built = recurrent("GRU", 3, 1, states).input("h0", &[1, 2, UNITS as i64]).output("hn");
    let (options, mut random) = (options(), Random::new(3));
    let mut tensor = |shape: &[usize]| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| normal(&mut random)).collect();
        Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
    };
    let all = (0..24).map(|_| vec![tensor(TIMES[0]), tensor(&[1, 2, UNITS])]).collect();
    let samples = mcc_data::Samples::from_tensors(all);
    let recipe = Recipe { steps: vec![Step::Prune(half(0.5))], ..Recipe::default() };
    let done = compress(classified(built, 1), &recipe, &setting(&samples, &options)).unwrap();
    assert_eq!((hidden(&done.model), rows(&done.model, "a")), (UNITS as i64, 4));
    assert!(reason(&done, "h").contains("\"h0\""), "{}", reason(&done, "h"));
}

#[test]
fn what_is_left_of_recurrent_nodes_makes_up_for_what_goes() {
    // Of 8 units in each of two layers, all matter.
    let model = || {
        let rows = 4 * UNITS;
        let built = Builder::new(5)
            .input("x", &[-1, 2, 5])
            .weights("w", &[1, rows, 5])
            .weights("r", &[1, rows, UNITS])
            .weights("b", &[1, 2 * rows])
            .constant("axis", &integers(&[1]))
            .weights("w2", &[1, rows, UNITS])
            .weights("r2", &[1, rows, UNITS])
            .weights("b2", &[1, 2 * rows])
            .node("LSTM", &["x", "w", "r", "b"], "l", |node| set_int(node, "hidden_size", UNITS as i64))
            .node("Squeeze", &["l", "axis"], "s", |_| {})
            .node("LSTM", &["s", "w2", "r2", "b2"], "h", |node| set_int(node, "hidden_size", UNITS as i64));
        classified(built, 1)
    };
    let before = results(&model(), TIMES[0]);
    let distance = |step: Prune| -> f64 {
        let done = pruned(model(), TIMES[0], step).unwrap();
        assert_eq!(hidden(&done.model), 4);
        before.iter().zip(&results(&done.model, TIMES[0])).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let best = distance(half(0.5));
    for criterion in [Criterion::Error, Criterion::L2, Criterion::Activation] {
        let plain = distance(Prune { criterion, reconstruct: false, ..half(0.5) });
        assert!(best < plain, "{criterion:?}: {best} is no less than {plain}");
    }
}
