//! Files of choices, written by `--tune` and read by `--choices`: JSON, one choice per line, in a fixed order:
//!
//! ```text
//! {"mcc": "0.1.0",
//!  "machine": "the processor's own name",
//!  "choices": [
//!   {"cpu": "x86-64-v3", "problem": "matmul(...) : ...", "knob": "tile_rows", "choice": 6, "default": 4, "us": {"4": 9.0, "6": 8.1}}]}
//! ```
//!
//! Compiling reads `cpu`, `problem`, `knob` and `choice`, `mcc fit` also the times in `us`; the rest records the measurement.

use std::collections::BTreeMap;
use std::path::Path;

use mcc::{Error, Result};
use mcc_targets::Config;
use mcc_targets::choices::{Asked, Choices, KNOBS, Knob, Table};
use serde_json::{Value, json};

use super::output;

/// The choices of a file, by CPU, problem and knob.
#[derive(Debug, Default)]
pub struct File {
    entries: BTreeMap<(String, String, Knob), Entry>,
}

/// Microseconds of each candidate of a choice.
pub type Times = BTreeMap<i64, f64>;

/// A choice and its measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The candidate to take.
    pub choice: i64,
    /// The cost model's choice.
    default: Option<i64>,
    /// Microseconds of each candidate.
    times: Times,
}

impl Entry {
    /// A measured choice.
    pub fn new(choice: i64, default: i64, times: Times) -> Entry {
        Entry { choice, default: Some(default), times }
    }
}

impl File {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<File> {
        let text = mcc::onnx::file::read_text(path)?;
        File::parse(&text).map_err(|e| e.within(format!("choices {}", path.display())))
    }

    fn parse(text: &str) -> Result<File> {
        let json: Value = serde_json::from_str(text).map_err(|e| Error::usage(format!("no JSON: {e}")))?;
        let list = json["choices"].as_array().ok_or_else(|| Error::usage("there is no list \"choices\""))?;
        let mut file = File::default();
        for (n, item) in list.iter().enumerate() {
            let malformed = |what: &str| Error::usage(format!("choice {n}: {what}: {item}"));
            let text = |key: &str| item[key].as_str().ok_or_else(|| malformed(&format!("{key:?} is not a string")));
            let name = text("knob")?;
            let knob = Knob::of_name(name).ok_or_else(|| {
                let names: Vec<&str> = KNOBS.iter().map(|p| p.1).collect();
                malformed(&format!("there is no knob {name:?}")).help(format!("knobs are {}", names.join(", ")))
            })?;
            let choice = item["choice"].as_i64().ok_or_else(|| malformed("\"choice\" is not an integer"))?;
            let none = serde_json::Map::new();
            let times = match &item["us"] {
                Value::Null => &none,
                us => us.as_object().ok_or_else(|| malformed("\"us\" is not an object"))?,
            };
            let time = |(candidate, us): (&String, &Value)| {
                let us = us.as_f64().filter(|us| (0.0..1e12).contains(us));
                let pair = candidate.parse().ok().zip(us);
                pair.ok_or_else(|| malformed("\"us\" is not a list of candidates with their microseconds"))
            };
            let times = times.iter().map(time).collect::<Result<Times>>()?;
            let entry = Entry { choice, default: item["default"].as_i64(), times };
            let key = (text("cpu")?.to_string(), text("problem")?.to_string(), knob);
            if file.entries.insert(key, entry).is_some_and(|other| other.choice != choice) {
                return Err(malformed("contradicts an earlier choice"));
            }
        }
        Ok(file)
    }

    /// Writes a file.
    pub fn write(&self, path: &Path) -> Result<()> {
        output::write(path, self.text().as_bytes())
    }

    fn text(&self) -> String {
        let line = |((cpu, problem, knob), entry): (&(String, String, Knob), &Entry)| {
            let mut times: Vec<(&i64, &f64)> = entry.times.iter().collect();
            times.sort_by_key(|t| *t.0);
            let times: Vec<String> = times.iter().map(|(k, us)| format!("\"{k}\": {us:.2}")).collect();
            let default = entry.default.map_or_else(String::new, |d| format!(", \"default\": {d}"));
            format!(
                "  {{\"cpu\": {}, \"problem\": {}, \"knob\": \"{}\", \"choice\": {}{default}, \"us\": {{{}}}}}",
                json!(cpu),
                json!(problem),
                knob.name(),
                entry.choice,
                times.join(", ")
            )
        };
        let lines: Vec<String> = self.entries.iter().map(line).collect();
        let (version, machine) = (json!(env!("CARGO_PKG_VERSION")), json!(machine()));
        format!("{{\"mcc\": {version},\n \"machine\": {machine},\n \"choices\": [\n{}]}}\n", lines.join(",\n"))
    }

    /// Adds a choice, or replaces an earlier one.
    pub fn insert(&mut self, cpu: &str, problem: String, knob: Knob, entry: Entry) {
        self.entries.insert((cpu.to_string(), problem, knob), entry);
    }

    /// The choices for a CPU.
    pub fn table(&self, cpu: &str) -> Table {
        let own = self.entries.iter().filter(|(key, _)| key.0 == cpu);
        own.map(|((_, problem, knob), entry)| ((problem.clone(), *knob), entry.choice)).collect()
    }

    /// What was measured on a CPU, by problem and knob.
    pub fn times(&self, cpu: &str) -> BTreeMap<(String, Knob), Times> {
        let own = self.entries.iter().filter(|(key, entry)| key.0 == cpu && !entry.times.is_empty());
        own.map(|((_, problem, knob), entry)| ((problem.clone(), *knob), entry.times.clone())).collect()
    }

    /// Gives configurations their choices.
    pub fn apply<'c>(&self, configs: impl Iterator<Item = &'c mut Config>) {
        for config in configs {
            config.choices = Choices::new(&self.table(&config.target.cpu_name()));
        }
    }
}

/// Lines about choices that had no effect on anything that was compiled with the configurations.
pub fn unused<'c>(configs: impl Iterator<Item = &'c Config>) -> Vec<String> {
    let mut lines = Vec::new();
    for config in configs {
        let (table, record, cpu) = (config.choices.table(), config.choices.record(), config.target.cpu_name());
        for ((problem, knob), Asked { refused, taken, candidates, .. }) in &record {
            let Some(refused) = refused else { continue };
            let knob = knob.name();
            lines.push(format!(
                "{knob} of {problem} for {cpu} is {taken}: {refused} is not among the candidates {candidates:?}"
            ));
        }
        let unknown = table.keys().filter(|key| !record.contains_key(key)).count();
        if unknown > 0 {
            let all = table.len();
            lines.push(format!("{unknown} of {all} choices for {cpu} are about layers that this model does not have"));
        }
    }
    lines
}

/// The processor's name, if the system reports it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|p| p.1.trim()));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        let mut file = File::default();
        let times = BTreeMap::from([(4, 1.5), (12, 1.25), (-1, 2.0)]);
        file.insert("x86-64-v3", "a \"b\"".to_string(), Knob::TileRows, Entry::new(12, 4, times));
        file.insert("x86-64-v4", "a".to_string(), Knob::FetchAhead, Entry::new(0, 1, BTreeMap::new()));
        let text = file.text();
        let again = File::parse(&text).unwrap();
        assert_eq!((again.text(), again.entries), (text, file.entries.clone()));
        assert_eq!(file.table("x86-64-v4"), Table::from([(("a".to_string(), Knob::FetchAhead), 0)]));
    }

    #[test]
    fn mistakes_are_reported() {
        let of = |items: &str| File::parse(&format!("{{\"choices\": [{items}]}}")).map(|f| f.entries.len());
        let item = |knob: &str, choice: &str| {
            format!("{{\"cpu\": \"c\", \"problem\": \"p\", \"knob\": \"{knob}\", \"choice\": {choice}}}")
        };
        assert_eq!(of(&item("ahead", "0")).unwrap(), 1);
        let (one, other) = (item("ahead", "0"), item("ahead", "1"));
        let wrong = [
            (item("aheat", "0"), "no knob \"aheat\""),
            (item("ahead", "\"x\""), "\"choice\" is not an integer"),
            (format!("{one}, {other}"), "contradicts"),
            ("{}".to_string(), "is not a string"),
            (item("ahead", "0, \"us\": [1]"), "is not an object"),
            (item("ahead", "0, \"us\": {\"0\": -1}"), "microseconds"),
            (item("ahead", "0, \"us\": {\"0\": 1e308}"), "microseconds"),
            (item("ahead", "0, \"us\": {\"x\": 1}"), "microseconds"),
        ];
        for (items, message) in wrong {
            let error = of(&items).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(File::parse("[").is_err() && File::parse("{}").is_err());
    }
}
