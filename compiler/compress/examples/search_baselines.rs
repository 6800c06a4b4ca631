//! Compares the search with its baselines at equal budgets: int8 in all layers, and greedy, where the most sensitive layers
//! stay as they are.
//!
//!     cargo run --release -p mcc-compress --example search_baselines -- MODEL CALIB TEST DIR OPTION,... [TRIPLE]
//!
//! CALIB and TEST are data as `mcc compress --calib` takes it. Losses are of samples of TEST, which no search sees. The models
//! are written to DIR.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mcc::{Error, Options, Result, Target};
use mcc_compress::cache::NONE;
use mcc_compress::loss::Teacher;
use mcc_compress::model::Model;
use mcc_compress::observe::{Setting, Silent};
use mcc_compress::recipe::Recipe;
use mcc_compress::search::machine::{Machine, Split};
use mcc_compress::search::problem::Problem;
use mcc_compress::search::{Goal, Searcher, Tried, option};
use mcc_compress::session;
use mcc_data::Samples;

/// Test samples.
const TESTED: usize = 400;

/// Candidates for each budget at most.
const CANDIDATES: usize = 24;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [model, calib, test, folder, allowed, triple @ ..] = arguments else {
        return Err(Error::usage("give MODEL CALIB TEST DIR OPTION,... [TRIPLE]"));
    };
    let host = Target::host(Some("native")).map_err(|e| Error::usage(e.to_string()))?;
    let other = triple.first().map(|t| Target::new(t, None)).transpose().map_err(|e| Error::usage(e.to_string()))?;
    let here = Options::new(vec![host], "model")?;
    let there = other.map(|t| Options::new(vec![t], "model")).transpose()?;
    let model = Model::read(Path::new(model))?;
    let ports = model.ports(&here)?;
    let open = |path: &String| Samples::open(&[PathBuf::from(path)], &ports, None);
    let (samples, test) = (open(calib)?, open(test)?.take(TESTED, 0));
    let setting = Setting { samples: &samples, options: &here, progress: &Silent, cache: &NONE };
    let split = Split::new(&samples, &Recipe::default())?;
    let plain = session::compress(model.clone(), &split.recipe, &setting)?;
    let allowed: Vec<String> = allowed.split(',').map(str::to_string).collect();
    let problem = Problem::new(&plain.model, option::parse(&allowed)?, &here)?;
    let mut machine = Machine::new(&problem, model.clone(), &split, &setting, there.as_ref())?;
    let mut searcher = Searcher::new(&problem, &mut machine)?;
    searcher.find_sensitivities()?;
    let on_test = Setting { samples: &test, ..setting };
    let teacher = Teacher::new(&model, &on_test)?;
    let [float, int8] = [0, 1].map(|n| searcher.tried[n].figures);
    println!("{} sites, {} borders, {}", problem.sites.len(), problem.borders.len(), searcher.how());
    println!(
        "{:24} {:>10} {:>9} {:>9} {:>10} {:>8} {:>8} {:>7}",
        "", "limit", "ms", "kB", "arena kB", "loss %", "test %", "same %"
    );
    let show = |name: &str, goal: Goal, tried: Option<&Tried>| -> Result<()> {
        let Some(Tried { assignment, figures }) = tried else {
            println!("{name:24} {:>10} nothing is within the limit", goal.text(goal.limit()));
            return Ok(());
        };
        let recipe = problem.recipe(assignment, &split.recipe);
        let setting = Setting { samples: &split.calibration, ..on_test };
        let written = session::compress(model.clone(), &recipe, &setting)?.written()?;
        let loss = teacher.loss(&written, &on_test)?;
        println!(
            "{name:24} {:>10} {:9.4} {:9.1} {:>10.1} {:8.3} {:8.3} {:7.2}",
            goal.text(goal.limit()),
            figures.ms,
            figures.bytes as f64 / 1e3,
            figures.arena.unwrap_or(0) as f64 / 1e3,
            100.0 * figures.loss.relative,
            100.0 * loss.relative,
            100.0 * loss.agreement.unwrap_or(f64::NAN)
        );
        let file = Path::new(folder).join(format!("{}.onnx", name.replace(' ', "_")));
        std::fs::write(&file, written.encode()?).map_err(|e| Error::io(file.display(), &e))
    };
    let all = |n: usize| Tried { assignment: problem.uniform(n), figures: [float, int8][n] };
    show("as it is", Goal::Ms(float.ms), Some(&all(0)))?;
    show("int8", Goal::Ms(int8.ms), Some(&all(1)))?;
    // Of the way from int8 in all layers to the model as it is.
    let goals = [0.02, 0.15, 0.4].map(|share| {
        let between = |a: f64, b: f64| a + share * (b - a);
        let ms = Goal::Ms(between(int8.ms, float.ms));
        let bytes = Goal::Bytes(between(int8.bytes as f64, float.bytes as f64));
        [(format!("ms {share}"), ms), (format!("bytes {share}"), bytes)]
    });
    let goals = goals.concat();
    // No search sees greedy candidates.
    for (name, goal) in &goals {
        searcher.improve(*goal, CANDIDATES)?;
        show(&format!("search {name}"), *goal, searcher.best(*goal))?;
    }
    for (name, goal) in &goals {
        let greedy = searcher.greedy(*goal, 1)?;
        show(&format!("greedy {name}"), *goal, greedy.as_ref())?;
    }
    println!("{} candidates were measured", searcher.tried.len());
    Ok(())
}
