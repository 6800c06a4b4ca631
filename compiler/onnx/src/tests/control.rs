//! If: what decides a branch, and what both must have in common.

use super::{AttributeProto, AttributeType, Options, graph, imported, ints, model};
use mcc_ir::{DType, Tensor};
use mcc_proto::ModelProto;

/// `y` is one of two functions of `x: f32[n, 3]`, as `c` says; `two` is `[2]`, and so on.
fn choice(then_branch: &str, else_branch: &str) -> ModelProto {
    let branch = |name: &str, node: &str| AttributeProto {
        name: name.to_string(),
        g: Some(graph(&[], &[node], &["r"])),
        r#type: AttributeType::Graph as i32,
        ..Default::default()
    };
    let mut g = graph(&["x: f32[n, 3]", "c: bool[]"], &["y = If(c)"], &["y"]);
    g.initializer = vec![ints("zero", &[0]), ints("one", &[1]), ints("flat", &[-1])];
    g.node[0].attribute.extend([branch("then_branch", then_branch), branch("else_branch", else_branch)]);
    model(g)
}

#[test]
fn branches_of_one_shape_are_selected() {
    let g = imported(&choice("r = Relu(x)", "r = Neg(x)"), &Options::default()).expect("valid");
    assert_eq!(g.ty(g.outputs[0].value).to_string(), "f32[n, 3]");
}

#[test]
fn branches_of_different_shapes_are_refused_unless_the_condition_is_pinned() {
    for (branch, shape) in [("r = Slice(x, zero, one)", "f32[min(1,n), 3]"), ("r = Reshape(x, flat)", "f32[3*n]")] {
        let model = choice(branch, "r = Relu(x)");
        let error = imported(&model, &Options::default()).expect_err("different shapes").to_string();
        for part in [shape, "f32[n, 3]", "(If)", "--value c=FILE.npy"] {
            assert!(error.contains(part), "{error}");
        }
        for (c, taken) in [(1, shape), (0, "f32[n, 3]")] {
            let values = vec![("c".to_string(), Tensor::scalar_i64(DType::Bool, c))];
            let g = imported(&model, &Options { values, ..Default::default() }).expect("pinned");
            assert_eq!(g.ty(g.outputs[0].value).to_string(), taken);
        }
    }
}
