//! `mcc compress --search` and `--sweep`: finds the recipe for a budget.

use std::path::PathBuf;

use clap::Args;
use mcc::{Error, Result};
use mcc_compress::model::Model;
use mcc_compress::observe::Setting;
use mcc_compress::recipe::Recipe;
use mcc_compress::search::bench::Kept;
use mcc_compress::search::machine::{Machine, Split};
use mcc_compress::search::option::{self, USUAL};
use mcc_compress::search::problem::Problem;
use mcc_compress::search::{Figures, Found, Goal, Search, search};
use mcc_compress::session;

use super::options::ModelOptions;

/// Budgets of a sweep.
const SWEEP: usize = 8;

#[derive(Args)]
pub struct SearchArgs {
    /// Find the recipe that loses least within --budget-ms or --budget-bytes, or is fastest within --max-loss. What each
    /// layer may become is measured on samples that are held out, whole candidates are compiled and measured, and the best
    /// one's recipe is written beside OUT
    #[arg(long, conflicts_with_all = ["recipe", "quantize", "prune", "pattern", "low_rank", "recover", "only", "except"])]
    search: bool,
    /// Machine to search for, such as aarch64-linux-android, with --cpu; times are then predicted, not measured
    /// [default: this one]
    #[arg(long, value_name = "TRIPLE", requires = "search")]
    target: Option<String>,
    /// Milliseconds that a run may take on one thread
    #[arg(long, value_name = "MS", requires = "search", group = "limit")]
    budget_ms: Option<f64>,
    /// Bytes of code and weights that the object may have
    #[arg(long, value_name = "BYTES", requires = "search", group = "limit")]
    budget_bytes: Option<f64>,
    /// The loss that is allowed: the outputs' relative distance from those of the model given; 0.01 is one percent
    #[arg(long, value_name = "LOSS", requires = "search", group = "limit")]
    max_loss: Option<f64>,
    /// What layers may become, separated by commas: int8, int8-weights, int4, codebook4, f16, 2:4, blocks, blocks+int8
    #[arg(long, value_name = "LIST", requires = "search", value_delimiter = ',')]
    allow: Vec<String>,
    /// Candidates to compile and measure at most
    #[arg(long, value_name = "N", requires = "search", default_value_t = 24)]
    candidates: usize,
    /// Search for a range of budgets too, and write the candidates that none beats in loss, time and bytes together
    #[arg(long, value_name = "FILE.json", requires = "search")]
    pub sweep: Option<PathBuf>,
}

impl SearchArgs {
    /// Whether a search is wanted.
    pub fn wanted(&self) -> bool {
        self.search
    }

    /// What is wanted.
    fn goal(&self) -> Result<Goal> {
        match (self.budget_ms, self.budget_bytes, self.max_loss) {
            (Some(ms), ..) => Ok(Goal::Ms(ms)),
            (_, Some(bytes), _) => Ok(Goal::Bytes(bytes)),
            (.., Some(loss)) => Ok(Goal::Loss(loss)),
            _ => Err(Error::usage("a search needs a limit").help("give --budget-ms, --budget-bytes or --max-loss")),
        }
    }

    /// How to compile for this machine: `--cpu` is that of the target, if there is one.
    pub fn here(&self, compile: &ModelOptions) -> ModelOptions {
        let cpu = if self.target.is_some() { None } else { compile.cpu.clone() };
        ModelOptions { cpu, ..compile.clone() }
    }

    /// Searches, with the seed and at most the number of samples of a recipe without steps.
    pub fn find(&self, model: &Model, compile: &ModelOptions, setting: &Setting, plain: &Recipe) -> Result<Found> {
        let goal = self.goal()?;
        let usual = || USUAL.iter().map(ToString::to_string).collect();
        let options = option::parse(&if self.allow.is_empty() { usual() } else { self.allow.clone() })?;
        let target = match &self.target {
            Some(triple) => Some(compile.for_targets(compile.targets(Some(triple))?, "model", 1)?),
            None => None,
        };
        let split = Split::new(setting.samples, plain)?;
        let session = session::compress(model.clone(), plain, setting)?;
        let problem = Problem::new(&session.model, options, setting.options)?;
        let machine = Machine::new(&problem, model.clone(), &split, setting, target.as_ref())?;
        let allowed = problem.options.iter().map(|o| o.name).collect::<Vec<_>>().join(",");
        let machines = format!("{:?}", target.as_ref().map(|t| (&t.config, &t.plainer)));
        let cache = setting.cache.within(&[allowed.as_bytes(), split.recipe.text()?.as_bytes(), machines.as_bytes()]);
        let mut bench = Kept { bench: machine, cache: &cache };
        let sweep = if self.sweep.is_some() { SWEEP } else { 0 };
        search(&problem, &mut bench, &Search { goal, candidates: self.candidates, sweep, plain: split.recipe })
    }

    /// What was found, in a few lines.
    pub fn report(&self, found: &Found) -> String {
        let times = if self.target.is_some() { "predicted" } else { "measured" };
        let row = |name: &str, f: &Figures| {
            let agreement =
                f.loss.agreement.map_or_else(String::new, |a| format!(", {:.2} % of best scores", 100.0 * a));
            let (ms, loss) = (f.ms, 100.0 * f.loss.relative);
            format!("{name}: {ms:.4} ms {times}, {} bytes, loss {loss:.4} %{agreement}\n", f.bytes)
        };
        let refused =
            found.refused.iter().map(|(name, e)| format!("no layer becomes {name}: {}\n", e.report().message));
        refused.collect::<String>()
            + &row("as it is", &found.float)
            + &row("found", &found.best.figures)
            + &format!("{} candidates; sensitivities: {}\n", found.tried.len(), found.sensitivity)
    }
}
