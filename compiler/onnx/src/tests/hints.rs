//! What a file declares of results gives way to what its nodes say.

use super::*;

fn warnings(inputs: &[&str], nodes: &[&str], output: &str, declared: &[&str]) -> (String, Vec<String>) {
    let mut g = graph(inputs, nodes, &[]);
    g.output = vec![info(output)];
    g.value_info = declared.iter().map(|d| info(d)).collect();
    let g = imported(&model(g), &Options::default()).expect("valid");
    assert_eq!(required(&g), [] as [&str; 0]);
    (g.ty(g.outputs[0].value).to_string(), g.warnings)
}

#[test]
fn inference_is_believed() {
    let of = |output: &str| warnings(&["a: f32[n, 3]"], &["y = Relu(a)"], output, &[]);
    let quiet = (String::from("f32[n, 3]"), Vec::new());
    for agrees in ["y: f32[n, 3]", "y: f32[rows, columns]", "y: f32[?, 3]"] {
        assert_eq!(of(agrees), quiet, "{agrees}");
    }
    for contradicts in ["f32[1, 3]", "f32[n, 4]", "f32[n]", "i64[n, 3]"] {
        let (ty, reported) = of(&format!("y: {contradicts}"));
        assert_eq!(ty, quiet.0);
        assert_eq!(reported, [format!("\"y\" is declared as {contradicts}, but its nodes give f32[n, 3]")]);
    }
}

#[test]
fn warnings_beyond_the_first_are_counted() {
    let nodes: Vec<String> = (0..9).map(|n| format!("v{} = Relu(v{n})", n + 1)).collect();
    let declared: Vec<String> = (1..9).map(|n| format!("v{n}: f32[7]")).collect();
    let [nodes, declared] = [&nodes, &declared].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, reported) = warnings(&["v0: f32[2]"], &nodes, "v9: f32[2]", &declared);
    assert!(reported.len() == 6 && reported[0].contains("\"v1\"") && reported[5].starts_with("3 more"), "{reported:?}");
}

#[test]
fn what_a_run_finds_is_not_contradicted() {
    let (_, reported) = warnings(&["x: f32[4]"], &["i = NonZero(x)", "y = Transpose(i)"], "y: i64[2, 1]", &[]);
    assert_eq!(reported, [] as [&str; 0]);
}

/// The model's inputs, what it requires, and its warnings.
fn shared(inputs: &[&str], nodes: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let g = imported(&model(graph(inputs, nodes, &["y"])), &Options::default()).expect("valid");
    let types = g.inputs().iter().map(|&i| g.ty(i.into()).to_string()).collect();
    let own = g.topological().into_iter().flat_map(|n| g.required_by(n).to_vec());
    let equal = |c: &mcc_ir::Condition| matches!(c, mcc_ir::Condition::Equal(..));
    let conditions = g.requires.iter().cloned().chain(own).map(|r| r.condition).filter(equal);
    let mut conditions: Vec<String> = conditions.map(|c| c.to_string()).collect();
    conditions.dedup();
    (types, conditions, g.warnings)
}

#[test]
fn dimensions_of_one_name_are_one_where_a_node_needs_it() {
    // Needed by a sum, a product, and by way of others.
    for (inputs, nodes) in [
        (&["a: f32[n, k]", "b: f32[n, k]"][..], &["y = Add(a, b)"][..]),
        (&["a: f32[n, k]", "b: f32[k, m]"], &["y = MatMul(a, b)"]),
        (&["a: f32[n, 4]", "b: f32[n, 4]", "c: f32[n, 4]"], &["d = Add(a, b)", "y = Mul(d, c)"]),
        (&["a: f32[n, 4]"], &["y = Relu(a)"]),
    ] {
        let (types, conditions, reported) = shared(inputs, nodes);
        assert!(types.iter().all(|t| !t.contains('.')), "{types:?}");
        assert!(conditions.is_empty() && reported.is_empty(), "{conditions:?} {reported:?}");
    }
    let (types, conditions, reported) = shared(&["a: f32[batch, k]", "b: f32[k, batch]"], &["y = MatMul(a, b)"]);
    assert_eq!(types, ["f32[batch, k]", "f32[k, batch.2]"]);
    assert!(conditions.is_empty(), "{conditions:?}");
    let want = "dimension \"batch\" is treated as several, since no node requires them to be equal: axis 0 of input \"a\" is batch, axis 1 of input \"b\" is batch.2";
    assert_eq!(reported, [want]);
}

#[test]
fn a_pinned_name_pins_all_its_uses() {
    let m = model(graph(&["a: f32[batch, k]", "b: f32[k, batch]"], &["y = MatMul(a, b)"], &["y"]));
    let pinned = |name: &str| {
        let g = imported(&m, &Options { dims: vec![(name.to_string(), 3)], ..Default::default() }).expect("valid");
        (g.ty(g.outputs[0].value).to_string(), g.warnings.len())
    };
    assert_eq!(pinned("batch"), ("f32[3, 3]".to_string(), 0));
}
