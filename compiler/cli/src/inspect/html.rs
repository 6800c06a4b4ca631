//! The report of `mcc inspect` as a page that loads nothing from elsewhere.

use serde_json::Value;

use super::short::Names;
use super::text::{STEP_TITLES, amount_text, assumption, short_count, step_cells};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;padding:0 1em;max-width:110em;color:#222}\
h2{margin-top:1.6em}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}\
th,td{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd;white-space:nowrap}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bar{background:#4a90d9;height:.7em}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,td{border-color:#444}}";

/// The page.
pub fn page(report: &Value) -> String {
    let mut names = Names::new(report);
    let list = |key: &str| report[key].as_array().map_or(&[][..], Vec::as_slice);
    let word = |value: &Value| escape(value.as_str().unwrap_or(""));
    let cpus: Vec<String> = list("cpus").iter().map(word).collect();
    let title = format!("{}: code for {}", word(&report["target"]), cpus.join(" and "));
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>\n<table>"
    );
    for (side, port) in ["inputs", "outputs"].iter().flat_map(|side| list(side).iter().map(move |port| (side, port))) {
        let side = side.trim_end_matches('s');
        out += &format!("<tr><td>{side}<td>{}<td>{}\n", word(&port["name"]), word(&port["type"]));
    }
    let [work, arena] = ["multiply_adds", "arena_bytes"].map(|key| amount_text(report, key));
    let [code, weights] = ["text_bytes", "weights_bytes"].map(|key| short_count(report[key].as_f64().unwrap_or(0.0)));
    out += &format!("</table><p>{work} multiply-adds, code {code}B, weights {weights}B, arena {arena} bytes</p>\n");
    let steps = list("steps");
    out +=
        &format!("<h2>Steps</h2><p>{} calls of {} kernels{}</p>", steps.len(), report["kernels"], assumption(report));
    out += &step_table(steps);
    let keys = ["layer", "operator", "subject", "form", "reason"];
    if !list("layers").is_empty() {
        let head: String = keys.iter().map(|key| format!("<th>{key}")).collect();
        out +=
            &format!("<h2>Choices per layer</h2><div class=wide><table><tr>{head}<th class=n>zeros<th class=n>gain\n");
    }
    for layer in list("layers") {
        let cells = keys.map(|key| format!("<td>{}", escape(&names.shorten(layer[key].as_str().unwrap_or("")))));
        let number = |key: &str, scale: f64, unit: &str| {
            layer[key].as_f64().map_or_else(String::new, |n| format!("{:.2}{unit}", n * scale))
        };
        let (zeros, gain) = (number("zeros", 100.0, " %"), number("predicted_gain", 1.0, "x"));
        out += &format!("<tr>{}<td class=n>{zeros}<td class=n>{gain}\n", cells.concat());
    }
    out += if list("layers").is_empty() { "" } else { "</table></div>\n" };
    let legend = names.legend();
    if legend.is_empty() { out } else { out + &format!("<h2>Short names</h2><pre>{}</pre>\n", escape(&legend)) }
}

fn step_table(steps: &[Value]) -> String {
    let us = |step: &Value| step["predicted_us"].as_f64().unwrap_or(0.0);
    let (total, most) = (steps.iter().map(us).sum::<f64>(), steps.iter().map(us).fold(1e-9, f64::max));
    let class = |n: usize| if (2..6).contains(&n) { " class=n" } else { "" };
    let head: String = STEP_TITLES.iter().enumerate().map(|(n, title)| format!("<th{}>{title}", class(n))).collect();
    let mut out = format!("<div class=wide><table><tr>{head}<th>share of the predicted {total:.1} us\n");
    for step in steps {
        let cells = step_cells(step);
        let cells = cells.iter().enumerate().map(|(n, cell)| format!("<td{}>{}", class(n), escape(cell)));
        let bar = 12.0 * us(step) / most;
        out += &format!("<tr>{}<td><div class=bar style=\"width:{bar:.2}em\"></div>\n", cells.collect::<String>());
    }
    out + "</table></div>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
