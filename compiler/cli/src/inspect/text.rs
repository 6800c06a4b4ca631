//! The report of `mcc inspect` as text.

use serde_json::Value;

use super::short::Names;

/// The report as text.
pub fn text(report: &Value) -> String {
    let mut names = Names::new(report);
    let mut out = String::new();
    for side in ["inputs", "outputs"] {
        for port in report[side].as_array().into_iter().flatten() {
            let (name, ty) = (port["name"].as_str().unwrap_or(""), port["type"].as_str().unwrap_or(""));
            out += &format!("{} {name}: {ty}\n", side.trim_end_matches('s'));
        }
    }
    let cpus: Vec<&str> = report["cpus"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (richest, many) = (cpus.last().unwrap_or(&""), cpus.len() > 1);
    let which = if many { format!("; shown: {richest}") } else { String::new() };
    out += &format!("for {}: code for {}{which}\n", report["target"].as_str().unwrap_or(""), cpus.join(" and "));
    for (title, key) in [("as imported", "operations"), ("optimised", "optimised_operations")] {
        let counts: Vec<_> = report[key].as_object().into_iter().flatten().collect();
        let total: u64 = counts.iter().filter_map(|(_, n)| n.as_u64()).sum();
        let list: Vec<String> = counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
        out += &format!("{title}: {total} operations: {}\n", list.join(", "));
    }
    let steps = report["steps"].as_array().map_or(&[][..], Vec::as_slice);
    out += &format!("program: {} calls of {} kernels{}\n", steps.len(), report["kernels"], assumption(report));
    out += &step_table(steps);
    let layers = report["layers"].as_array().map_or(&[][..], Vec::as_slice);
    if !layers.is_empty() {
        out += &layer_table(layers, &mut names);
    }
    let [arena, work] = ["arena_bytes", "multiply_adds"].map(|key| amount_text(report, key));
    out += &format!(
        "{work} multiply-adds, code {} bytes, weights {} bytes, arena {arena} bytes\n",
        report["text_bytes"], report["weights_bytes"],
    );
    out + &names.legend()
}

/// An amount of the whole model: a number, or what it is for the assumed dimensions.
pub fn amount_text(report: &Value, key: &str) -> String {
    match report[key].is_number() {
        true => report[key].to_string(),
        false => format!("{} (for {} per free dimension)", report["assumed"][key], report["assumed_extent"]),
    }
}

/// What amounts are stated for, if dimensions are free.
pub fn assumption(report: &Value) -> String {
    if report["symbols"].as_array().is_none_or(Vec::is_empty) {
        return String::new();
    }
    let extent = &report["assumed_extent"];
    format!("; amounts are for {extent} in place of every free dimension (--dim NAME=N and --shape give others)")
}

/// A count of bytes or operations with at most four digits before its unit.
pub fn short_count(n: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", n / unit),
        None => format!("{n:.0} "),
    }
}

/// The cells of a step's row: kernel, node, weights, tensors, multiply-adds, predicted time, shapes.
pub fn step_cells(step: &Value) -> [String; 7] {
    let number = |value: &Value| short_count(value.as_f64().unwrap_or(0.0));
    let [kernel, node, shapes] = ["kernel", "node", "shapes"].map(|key| step[key].as_str().unwrap_or("").to_string());
    let [weights, bytes] = [&step["weights_bytes"], &step["assumed"]["bytes"]].map(|n| number(n) + "B");
    let work = number(&step["assumed"]["multiply_adds"]).trim_end().to_string();
    [kernel, node, weights, bytes, work, format!("{:.1}", step["predicted_us"].as_f64().unwrap_or(0.0)), shapes]
}

/// The titles of the columns of [`step_cells`].
pub const STEP_TITLES: [&str; 7] = ["kernel", "node", "weights", "tensors", "mul-adds", "us", "shapes"];

/// The calls of kernels, and their predicted time on one thread.
fn step_table(steps: &[Value]) -> String {
    let line = |[kernel, node, weights, bytes, work, us, _]: [String; 7]| {
        format!("  {kernel:<24} {weights:>9} {bytes:>9} {work:>9} {us:>9}  {node}").trim_end().to_string() + "\n"
    };
    let total: f64 = steps.iter().filter_map(|s| s["predicted_us"].as_f64()).sum();
    let rows: String = steps.iter().map(|step| line(step_cells(step))).collect();
    let head = line(STEP_TITLES.map(str::to_string));
    format!("{head}{rows}  predicted: {total:.1} us on one thread, roughly, from the rates of the target\n")
}

/// The decisions per layer; the layer's time is in `mcc bench --profile`, under the same name.
fn layer_table(layers: &[Value], names: &mut Names) -> String {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_string();
    let number = |value: &Value, show: fn(f64) -> String| value.as_f64().map_or_else(String::new, show);
    let line = |cells: [&str; 6], reason: &str| {
        let [layer, operator, subject, form, zeros, gain] = cells;
        format!("  {layer:<32} {operator:<14} {subject:<9} {zeros:>7} {gain:>6}  {form:<36} {reason}")
            .trim_end()
            .to_string()
            + "\n"
    };
    let mut out = line(["layer", "operator", "subject", "form", "zeros", "gain"], "why");
    for row in layers {
        let [layer, operator, subject, form, reason] =
            ["layer", "operator", "subject", "form", "reason"].map(|key| word(row, key));
        let zeros = number(&row["zeros"], |z| format!("{:.1} %", 100.0 * z));
        let gain = number(&row["predicted_gain"], |g| format!("{g:.2}x"));
        out += &line([&layer, &operator, &subject, &form, &zeros, &gain], &names.shorten(&reason));
    }
    out
}
