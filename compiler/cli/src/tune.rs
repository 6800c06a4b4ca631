//! `--tune FILE`: finds the fastest candidates of the cost model's choices on this machine.
//!
//! All layers are tuned at once: in each variant of the model every problem takes its next candidate for one knob, so
//! there are as many variants as the longest list has candidates, however many layers there are. All variants of a knob
//! are loaded and run in turns; a layer's time is the sum of the minimum times of its steps, which are found by the
//! layer's label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mcc::driver::{self, Compiled, Options};
use mcc::ir::{Graph, Tensor};
use mcc::loader::{Model, timing, trace};
use mcc::{Error, Result};
use mcc_runtime::Pool;
use mcc_targets::Config;
use mcc_targets::choices::{Asked, Choices, KNOBS, Record, Table};

use super::choices::{Entry, File};

/// Share of a model's time from which a layer is tuned.
const MIN_TIME_SHARE: f64 = 0.005;

/// A candidate must take at most this share of the default's time; smaller gains are noise.
pub const MAX_TIME_RATIO: f64 = 0.97;

/// Seconds per layer, by its label.
type Times = BTreeMap<String, f64>;

/// Tunes a model for every CPU of `options`, which this machine must support, and adds the choices to a file.
pub fn tune(
    model: &Path,
    options: &mut Options,
    inputs: &dyn Fn(&Compiled) -> Result<Vec<Tensor>>,
    pool: Option<&Pool>,
    seconds: f64,
    path: &Path,
) -> Result<()> {
    let mut file = if path.exists() { File::read(path)? } else { File::default() };
    let imported = driver::import(model, options)?;
    let configs: Vec<Config> = options.plainer.iter().chain([&options.config]).cloned().collect();
    let bar = ProgressBar::new((configs.len() * KNOBS.len()) as u64);
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for config in &configs {
        if !config.target.runs_here() {
            let message = format!("--tune: this machine cannot run code for {}", config.target.cpu_name());
            return Err(Error::usage(message).help("give --cpu native"));
        }
        let bench = Bench { imported: &imported, options, config, inputs, pool, seconds };
        bench.tune(&mut file, &bar)?;
    }
    bar.finish_and_clear();
    file.write(path)?;
    file.apply(options.configs_mut());
    Ok(())
}

/// A model for one CPU.
struct Bench<'a> {
    imported: &'a Graph,
    options: &'a Options,
    config: &'a Config,
    inputs: &'a dyn Fn(&Compiled) -> Result<Vec<Tensor>>,
    pool: Option<&'a Pool>,
    seconds: f64,
}

impl Bench<'_> {
    fn tune(&self, file: &mut File, bar: &ProgressBar) -> Result<()> {
        let cpu = self.config.target.cpu_name();
        let mut table = file.table(&cpu);
        let (compiled, _) = self.compile(&table)?;
        let inputs = (self.inputs)(&compiled)?;
        let hot = self.hot(compiled, &inputs)?;
        for (knob, name) in KNOBS {
            bar.set_message(format!("tuning {name} for {cpu}"));
            // Which knobs a form of computation has is known only once it is chosen.
            let (_, record) = self.compile(&table)?;
            let asked = record.into_iter().filter(|(key, asked)| key.1 == *knob && !asked.layers.is_disjoint(&hot));
            let asked: Record = asked.collect();
            let variants = variants(&table, &asked);
            if variants.len() > 1 {
                let compiled: Result<Vec<Compiled>> = variants.iter().map(|t| Ok(self.compile(t)?.0)).collect();
                let times = self.measure(&compiled?, &inputs)?;
                for ((problem, knob), asked) in asked {
                    let entry = fastest(&asked, &times);
                    table.insert((problem.clone(), knob), entry.choice);
                    file.insert(&cpu, problem, knob, entry);
                }
            }
            bar.inc(1);
        }
        Ok(())
    }

    fn compile(&self, table: &Table) -> Result<(Compiled, Record)> {
        let config = Config { choices: Choices::new(table), ..self.config.clone() };
        let options =
            Options { config, plainer: Vec::new(), traced: true, separate_weights: false, ..self.options.clone() };
        let compiled = driver::compile_graph(self.imported.clone(), &options)?;
        Ok((compiled, options.config.choices.record()))
    }

    /// Labels of the layers that take a relevant share of the time.
    fn hot(&self, compiled: Compiled, inputs: &[Tensor]) -> Result<BTreeSet<String>> {
        let times = self.measure(&[compiled], inputs)?.swap_remove(0);
        let total: f64 = times.values().sum();
        Ok(times.into_iter().filter(|(_, t)| *t >= MIN_TIME_SHARE * total).map(|(label, _)| label).collect())
    }

    /// The time of every layer in each variant; the variants run in turns.
    fn measure(&self, variants: &[Compiled], inputs: &[Tensor]) -> Result<Vec<Times>> {
        let models: Result<Vec<Model>> = variants.iter().map(|v| Model::load(&v.code.object)).collect();
        let models = models?;
        let inputs: Result<Vec<_>> = variants.iter().map(|v| v.with_weights(inputs.to_vec())).collect();
        let sessions: Result<Vec<_>> = models.iter().zip(inputs?).map(|(m, own)| m.session(&own, self.pool)).collect();
        let mut sessions = sessions?;
        let least = timing::least_calls(&mut sessions, Duration::from_secs_f64(self.seconds))?;
        let by_label = |(variant, least): (&Compiled, trace::Times)| {
            let happened = variant.program.calls().zip(least).filter_map(|(call, time)| Some((call.label, time?)));
            let mut times = Times::new();
            for (label, time) in happened.filter(|(label, _)| !label.is_empty()) {
                *times.entry(label.to_string()).or_default() += time.as_secs_f64();
            }
            times
        };
        Ok(variants.iter().zip(least).map(by_label).collect())
    }
}

/// A table with every problem's first candidate, one with the second candidates, and so on; shorter lists start over.
fn variants(table: &Table, asked: &Record) -> Vec<Table> {
    let count = asked.values().map(|a| a.candidates.len()).max().unwrap_or(0);
    let variant = |n: usize| {
        let choices = asked.iter().map(|(key, a)| (key.clone(), nth(a, n)));
        table.clone().into_iter().chain(choices).collect()
    };
    (0..count).map(variant).collect()
}

/// The candidate of a problem in a variant.
fn nth(asked: &Asked, n: usize) -> i64 {
    asked.candidates.iter().nth(n % asked.candidates.len()).copied().unwrap_or(asked.default)
}

/// The candidate with the shortest time, or the default if none is clearly faster.
fn fastest(asked: &Asked, variants: &[Times]) -> Entry {
    let mut times: BTreeMap<i64, f64> = BTreeMap::new();
    for (n, variant) in variants.iter().enumerate() {
        let time: f64 = asked.layers.iter().filter_map(|layer| variant.get(layer)).sum();
        let least = times.entry(nth(asked, n)).or_insert(f64::INFINITY);
        *least = least.min(time * 1e6);
    }
    let default = times.get(&asked.default).copied().unwrap_or(f64::INFINITY);
    let best = times.iter().min_by(|a, b| a.1.total_cmp(b.1)).filter(|best| *best.1 < MAX_TIME_RATIO * default);
    Entry::new(best.map_or(asked.default, |best| *best.0), asked.default, times)
}

#[cfg(test)]
mod tests {
    use mcc_targets::choices::Knob;

    use super::*;

    fn asked(candidates: &[i64], layer: &str) -> Asked {
        let layers = BTreeSet::from([layer.to_string()]);
        Asked { default: candidates[0], candidates: candidates.iter().copied().collect(), layers, ..Asked::default() }
    }

    #[test]
    fn a_variant_changes_all_problems() {
        let key = |name: &str| (name.to_string(), Knob::TileRows);
        let record = Record::from([(key("a"), asked(&[1, 2, 3], "a")), (key("b"), asked(&[7, 8], "b"))]);
        let kept = (("c".to_string(), Knob::FetchAhead), 0);
        let variants = variants(&Table::from([kept.clone()]), &record);
        let taken: Vec<_> = variants.iter().map(|v| (v[&key("a")], v[&key("b")], v[&kept.0])).collect();
        assert_eq!(taken, [(1, 7, 0), (2, 8, 0), (3, 7, 0)]);
    }

    #[test]
    fn the_fastest_must_be_clearly_faster() {
        let times = |a: f64| Times::from([("a".to_string(), a), ("b".to_string(), 5.0)]);
        let asked = asked(&[4, 6, 8], "a");
        assert_eq!(fastest(&asked, &[times(1.0), times(0.99), times(0.5)]).choice, 8);
        assert_eq!(fastest(&asked, &[times(1.0), times(0.99), times(1.5)]).choice, 4);
    }
}
