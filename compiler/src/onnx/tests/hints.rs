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
        let (ty, told) = of(&format!("y: {contradicts}"));
        assert_eq!(ty, quiet.0);
        assert_eq!(told, [format!("\"y\" is declared as {contradicts}, but its nodes give f32[n, 3]")]);
    }
}

#[test]
fn few_of_many_are_told() {
    let nodes: Vec<String> = (0..9).map(|n| format!("v{} = Relu(v{n})", n + 1)).collect();
    let declared: Vec<String> = (1..9).map(|n| format!("v{n}: f32[7]")).collect();
    let [nodes, declared] = [&nodes, &declared].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, told) = warnings(&["v0: f32[2]"], &nodes, "v9: f32[2]", &declared);
    assert!(told.len() == 6 && told[0].contains("\"v1\"") && told[5].starts_with("3 more"), "{told:?}");
}

#[test]
fn what_a_run_finds_is_not_contradicted() {
    let (_, told) = warnings(&["x: f32[4]"], &["i = NonZero(x)", "y = Transpose(i)"], "y: i64[2, 1]", &[]);
    assert_eq!(told, [] as [&str; 0]);
}
