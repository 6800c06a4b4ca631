//! `mcc fit`: fits the cost model's figures ([`mcc_targets::figures`]) to times that `--tune` measured on a CPU.
//!
//! For each problem of the measured file, the loss is the time of the cost model's choice minus that of the fastest
//! candidate. Coordinate descent changes one figure at a time by a factor, and keeps a change that reduces the sum of all
//! losses and leads to no problem that was not measured. Nothing is timed here: models are compiled up to their programs,
//! which makes all choices.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mcc::ir::Graph;
use mcc::{Error, Options, Result, driver, kernel};
use mcc_targets::choices::{Choices, Knob, Record, Table};
use mcc_targets::figures::Figures;
use mcc_targets::machine::Machine;
use serde_json::json;

use super::choices::{File, Times};
use super::options::ModelOptions;
use super::say;
use super::tune::MAX_TIME_RATIO;

/// Factors by which a figure is changed, the coarse ones first.
const FACTORS: [f64; 4] = [0.75, 1.0 / 0.75, 0.9, 1.0 / 0.9];

#[derive(Args)]
pub struct FitArgs {
    /// The measured models, .onnx files
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// The file that `mcc bench MODEL --tune FILE` wrote for these models on the CPU
    #[arg(long, value_name = "FILE")]
    measured: PathBuf,
    /// Maximum passes over all figures; 0 only reports the losses of the present figures
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ModelOptions,
}

/// Fits the figures, and prints their losses before and after.
pub fn fit(args: &FitArgs) -> Result<()> {
    let measured = File::read(&args.measured)?;
    let mut models = Vec::new();
    for model in &args.models {
        let options = args.options.for_host(model, 1)?;
        let graph = driver::import(model, &options)?;
        models.push((graph, options));
    }
    let options = &models.first().ok_or_else(|| Error::usage("no model"))?.1;
    let (machine, cpu) = (*options.config.target.machine, options.config.target.cpu_name());
    let fit = Fit { models: &models, times: measured.times(&cpu), machine };
    let first = fit.losses(&machine.figures)?;
    if first.values().all(|loss| loss.problems == 0) {
        return Err(Error::usage(format!("{}: no choice for {cpu} belongs to these models", args.measured.display()))
            .help("mcc bench MODEL --tune FILE measures them; give the same --cpu"));
    }
    let (figures, last) = fit.descend(first.clone(), args.rounds)?;
    let report = Report { cpu, machine, figures, first, last };
    say(&if args.json { report.json() } else { report.text() })
}

/// The loss of one knob's choices.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Loss {
    /// Problems that were measured.
    problems: usize,
    /// Microseconds of the fastest candidates, once per problem.
    best_us: f64,
    /// Microseconds that the cost model's choices take longer.
    lost_us: f64,
}

type Losses = BTreeMap<Knob, Loss>;

/// Whether at least as many problems are measured as before: other figures may lead to problems that were not measured.
fn is_covered(changed: &Losses, before: &Losses) -> bool {
    before.iter().all(|(knob, loss)| changed.get(knob).is_some_and(|changed| changed.problems >= loss.problems))
}

fn total(losses: &Losses) -> f64 {
    losses.values().map(|loss| loss.lost_us).sum()
}

struct Fit<'a> {
    models: &'a [(Graph, Options)],
    times: BTreeMap<(String, Knob), Times>,
    machine: Machine,
}

impl Fit<'_> {
    /// The losses of the cost model's choices with some figures.
    fn losses(&self, figures: &Figures) -> Result<Losses> {
        // Targets refer to machines that live as long as the process; one per trial is a few hundred bytes.
        let machine: &'static Machine = Box::leak(Box::new(Machine { figures: *figures, ..self.machine }));
        let mut asked = Record::new();
        for (graph, options) in self.models {
            let mut options = options.clone();
            options.config.target.machine = machine;
            options.config.weights_machine = machine;
            options.config.choices = Choices::new(&Table::new());
            let graph = driver::optimise(graph.clone(), &options, &mut |_, _| {})?;
            kernel::lower(&graph, &options.config, &options.name)?;
            asked.extend(options.config.choices.record());
        }
        let mut losses = Losses::new();
        for (problem, asked) in &asked {
            let Some(loss) = self.times.get(problem).and_then(|times| loss(times, asked.default)) else { continue };
            let sum = losses.entry(problem.1).or_default();
            sum.problems += 1;
            sum.best_us += loss.best_us;
            sum.lost_us += loss.lost_us;
        }
        Ok(losses)
    }

    /// The figures after some rounds, and their losses.
    fn descend(&self, first: Losses, rounds: usize) -> Result<(Figures, Losses)> {
        let (mut figures, mut losses) = (self.machine.figures, first);
        let count = figures.all_mut().len();
        let bar = ProgressBar::new((rounds * count) as u64);
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        for _ in 0..rounds {
            let before = total(&losses);
            for n in 0..count {
                for factor in FACTORS {
                    let mut trial = figures;
                    let mut all = trial.all_mut();
                    *all[n].1 *= factor;
                    bar.set_message(all[n].0.clone());
                    let changed = self.losses(&trial)?;
                    if is_covered(&changed, &losses) && total(&changed) < total(&losses) {
                        (figures, losses) = (trial, changed);
                        break;
                    }
                }
                bar.inc(1);
            }
            if total(&losses) >= before {
                break;
            }
        }
        bar.finish_and_clear();
        Ok((figures, losses))
    }
}

/// The loss of a choice against the fastest candidate. Differences that may be noise count as 0.
fn loss(times: &Times, choice: i64) -> Option<Loss> {
    let best_us = times.values().copied().min_by(f64::total_cmp)?;
    // A candidate that was not measured is not known to be good.
    let chosen = times.get(&choice).copied().or_else(|| times.values().copied().max_by(f64::total_cmp))?;
    let lost_us = if best_us < MAX_TIME_RATIO * chosen { chosen - best_us } else { 0.0 };
    Some(Loss { problems: 1, best_us, lost_us })
}

struct Report {
    cpu: String,
    machine: Machine,
    figures: Figures,
    first: Losses,
    last: Losses,
}

impl Report {
    /// Figures that changed: name, before, after.
    fn changed(&self) -> Vec<(String, f64, f64)> {
        let (mut before, mut after) = (self.machine.figures, self.figures);
        let pairs = before.all_mut().into_iter().zip(after.all_mut()).map(|((name, a), (_, z))| (name, *a, *z));
        pairs.filter(|(_, a, z)| a != z).collect()
    }

    fn text(&self) -> String {
        let mut text = format!("{}, figures of {}\n\n", self.cpu, self.machine.name);
        text += "knob               problems  fastest, us  lost before  lost after\n";
        let row = |name: &str, first: Loss, last: Loss| {
            let (problems, best) = (first.problems, first.best_us);
            format!("{name:18} {problems:8} {best:12.0} {:12.1} {:11.1}\n", first.lost_us, last.lost_us)
        };
        for (knob, first) in &self.first {
            text += &row(knob.name(), *first, self.last.get(knob).copied().unwrap_or_default());
        }
        let changed = self.changed();
        text += "\n";
        for (name, before, after) in &changed {
            text += &format!("{name}: {before} -> {after:.3}\n");
        }
        text += match changed.is_empty() {
            true => "No figure changed.\n",
            false => "These figures are values for the machine in targets/src/figures.rs.\n",
        };
        text
    }

    fn json(&self) -> String {
        let losses = |losses: &Losses| {
            let row = |(knob, loss): (&Knob, &Loss)| json!({"knob": knob.name(), "problems": loss.problems, "fastest_us": loss.best_us, "lost_us": loss.lost_us});
            losses.iter().map(row).collect::<Vec<_>>()
        };
        let changed: Vec<_> =
            self.changed().into_iter().map(|(name, a, z)| json!({"figure": name, "before": a, "after": z})).collect();
        let report = json!({"cpu": self.cpu, "machine": self.machine.name, "before": losses(&self.first),
            "after": losses(&self.last), "figures": changed});
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_must_be_measured() {
        let of = |problems| Losses::from([(Knob::Sparse, Loss { problems, best_us: 1.0, lost_us: 0.0 })]);
        assert!(is_covered(&of(3), &of(3)) && !is_covered(&of(2), &of(3)) && !is_covered(&Losses::new(), &of(3)));
    }

    #[test]
    fn choices_lose_what_they_take_longer() {
        let times = Times::from([(0, 10.0), (4, 8.0), (6, 8.1)]);
        assert_eq!(loss(&times, 4).map(|l| l.lost_us), Some(0.0));
        assert_eq!(loss(&times, 6).map(|l| l.lost_us), Some(0.0), "noise");
        assert_eq!(loss(&times, 0).map(|l| l.lost_us), Some(2.0));
        assert_eq!(loss(&times, 2).map(|l| l.lost_us), Some(2.0), "not measured");
        assert_eq!(loss(&Times::new(), 0), None);
    }
}
