//! `mcc report`: prints the JSON of a runner (`--emit runner`) as `mcc bench` prints its own measurements.

use std::path::PathBuf;

use clap::Args;
use mcc::ir::{Dim, Sym};
use mcc::{Error, Result};
use serde_json::{Value, json};

use super::profile::{Context, Profile, Row};
use super::say;

#[derive(Args)]
pub struct ReportArgs {
    /// What a runner wrote with --json FILE
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// Print one JSON object per measurement; that of a profile is as of mcc bench --profile --json
    #[arg(long)]
    json: bool,
}

/// The version of the format, in `mcc_runner`.
const VERSION: u64 = 1;

/// Prints the report.
pub fn report(args: &ReportArgs) -> Result<()> {
    let named = |e: Error| e.within(args.file.display().to_string());
    let text = std::fs::read_to_string(&args.file).map_err(|e| Error::io(args.file.display(), &e))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|e| Error::invalid(format!("not JSON: {e}")).help("it may be cut off: run the runner again"))
        .map_err(named)?;
    if report["mcc_runner"] != json!(VERSION) {
        let error = Error::invalid("not a report of this version's runner");
        return Err(named(error.help("mcc MODEL --emit runner writes a runner; its --json FILE writes a report")));
    }
    let measurements = report["measurements"].as_array().map_or(&[][..], Vec::as_slice);
    if !args.json {
        say(&machine(&report))?;
    }
    for measurement in measurements {
        let profile = profile(&report, measurement).map_err(named)?;
        say(&if args.json {
            format!("{}\n", profile.map_or_else(|| measurement.clone(), |p| p.json()))
        } else {
            times(measurement) + &profile.map_or_else(String::new, |p| p.text())
        })?;
    }
    Ok(())
}

/// Cores of 64-bit Arm by implementer and part, as in the register MIDR_EL1 (Arm's technical reference manuals).
const CORES: &[(u64, u64, &str)] = &[
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd04, "Cortex-A35"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd07, "Cortex-A57"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd09, "Cortex-A73"),
    (0x41, 0xd0a, "Cortex-A75"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0c, "Neoverse-N1"),
    (0x41, 0xd0d, "Cortex-A77"),
    (0x41, 0xd40, "Neoverse-V1"),
    (0x41, 0xd41, "Cortex-A78"),
    (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd46, "Cortex-A510"),
    (0x41, 0xd47, "Cortex-A710"),
    (0x41, 0xd48, "Cortex-X2"),
    (0x41, 0xd49, "Neoverse-N2"),
    (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd4e, "Cortex-X3"),
    (0x41, 0xd4f, "Neoverse-V2"),
    (0x41, 0xd80, "Cortex-A520"),
    (0x41, 0xd81, "Cortex-A720"),
    (0x41, 0xd82, "Cortex-X4"),
];

/// The machine that measured, and the model.
fn machine(report: &Value) -> String {
    let model = &report["model"];
    let mut out = format!("{} on {}\n", text(&model["name"]), text(&report["system"]));
    for group in report["cpu_groups"].as_array().into_iter().flatten() {
        let midr = u64::from_str_radix(text(&group["midr"]).trim_start_matches("0x"), 16).unwrap_or(0);
        let core =
            CORES.iter().find(|(implementer, part, _)| midr >> 24 & 0xff == *implementer && midr >> 4 & 0xfff == *part);
        let mut about: Vec<String> = core.map(|(_, _, name)| (*name).to_string()).into_iter().collect();
        if let Some(khz) = group["max_khz"].as_u64().filter(|khz| *khz > 0) {
            about.push(format!("up to {} MHz", khz / 1000));
        }
        if let Some(capacity) = group["capacity"].as_u64().filter(|c| *c > 0) {
            about.push(format!("capacity {capacity}"));
        }
        if !about.is_empty() {
            out += &format!("cpus {}: {}\n", text(&group["cpus"]), about.join(", "));
        }
    }
    for input in report["inputs"].as_array().into_iter().flatten() {
        out += &format!("input {}: {}\n", text(&input["name"]), input["dims"]);
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The times of a measurement.
fn times(m: &Value) -> String {
    let ms = |key: &str| m[key].as_f64().unwrap_or(0.0);
    let mut out = format!(
        "\ncpus {}, threads {}: {:.4} ms minimum, {:.4} median, {:.4} 90th and {:.4} 99th percentile of {} runs\n",
        text(&m["cpus"]),
        m["threads"],
        ms("min_ms"),
        ms("median_ms"),
        ms("p90_ms"),
        ms("p99_ms"),
        m["runs"],
    );
    let parts: Vec<String> = m["part_medians_ms"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .map(|v| format!("{v:.3}"))
        .collect();
    out += &format!(
        "drift {:.3}: medians of tenths of the {:.1} s, ms: {}\n",
        ms("drift"),
        ms("seconds"),
        parts.join(" ")
    );
    if let (Some(before @ 1..), Some(after @ 1..)) = (m["khz_before"].as_u64(), m["khz_after"].as_u64()) {
        out += &format!("frequency {} MHz before, {} MHz after\n", before / 1000, after / 1000);
    }
    out
}

/// The profile in a measurement, if it is one.
fn profile(report: &Value, measurement: &Value) -> Result<Option<Profile>> {
    let Some(times) = measurement["step_ms"].as_array() else { return Ok(None) };
    let broken = |what: &str| Error::invalid(format!("the report has no {what}"));
    let levels = report["model"]["levels"].as_array().ok_or_else(|| broken("levels"))?;
    let steps = levels.iter().flat_map(|level| level["steps"].as_array().into_iter().flatten());
    let steps: Vec<&Value> = steps.collect();
    if steps.len() != times.len() {
        return Err(broken("time for every step"));
    }
    // Steps of other levels, and of a branch that was not taken, have no time.
    let happened = steps.iter().zip(times).filter_map(|(step, time)| Some((step, time.as_f64()?)));
    let rows = happened.map(|(step, ms)| {
        let mut row = Row { calls: 1, ms, bytes: amount(report, &step["bytes"]), ..Row::default() };
        for (field, key) in [(&mut row.node, "node"), (&mut row.kernel, "kernel"), (&mut row.shapes, "shapes")] {
            *field = text(&step[key]).to_string();
        }
        row.multiply_adds[usize::from(step["integers"] == json!(true))] = amount(report, &step["multiply_adds"]);
        row
    });
    let peak = |key: &str| measurement[key].as_f64().filter(|p| *p > 0.0);
    let count = |value: &Value| value.as_u64().unwrap_or(0) as usize;
    let context = Context {
        f32_gflops: peak("peak_gflops"),
        int8_gops: peak("peak_int8_gops"),
        runs: count(&measurement["runs"]),
        text_bytes: count(&report["model"]["text_bytes"]),
    };
    Ok(Some(Profile::new(rows.collect(), context)))
}

/// An amount: a number, or an expression over the dimensions and values of the report's inputs; 0 where these do not
/// decide it.
fn amount(report: &Value, amount: &Value) -> f64 {
    let symbols = report["model"]["symbols"].as_array().map_or(&[][..], Vec::as_slice);
    let value = |name: &Sym| {
        let symbol = symbols.iter().find(|s| text(&s["name"]) == &*name.0)?;
        let input = &report["inputs"][symbol["input"].as_u64()? as usize];
        let of = |key: &str, list: &str| input[list][symbol[key].as_u64()? as usize].as_i64();
        of("axis", "dims").or_else(|| of("element", "values"))
    };
    let evaluated = || amount.as_str()?.parse::<Dim>().ok()?.eval(&value);
    amount.as_i64().or_else(evaluated).unwrap_or(0) as f64
}
