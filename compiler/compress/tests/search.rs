//! A search with real candidates. Times are those that are predicted for another machine, so every run takes the same way.

mod common;

use std::path::Path;

use mcc::{Options, Target};
use mcc_compress::cache::NONE;
use mcc_compress::model::Model;
use mcc_compress::observe::{Setting, Silent};
use mcc_compress::recipe::Recipe;
use mcc_compress::search::machine::{Machine, Split};
use mcc_compress::search::option;
use mcc_compress::search::problem::Problem;
use mcc_compress::search::{Found, Goal, Search, search};
use mcc_compress::session;
use mcc_data::Samples;
use mcc_ir::{DType, Random, Result, Tensor};

fn samples(count: usize) -> Samples {
    let mut random = Random::new(5);
    let mut image = || {
        let pixels: Vec<f64> = (0..64).map(|_| random.below(17) as f64).collect();
        vec![Tensor::from_f64s(DType::F32, vec![1, 1, 8, 8], &pixels).unwrap()]
    };
    Samples::from_tensors((0..count).map(|_| image()).collect())
}

struct World {
    model: Model,
    samples: Samples,
    here: Options,
    phone: Options,
}

impl World {
    fn new() -> World {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/digits.onnx");
        let target = Target::new("aarch64-linux-android", Some("cortex-a76")).unwrap();
        World {
            model: Model::read(&path).unwrap(),
            samples: samples(24),
            here: Options::new(vec![Target::host(Some("native")).unwrap()], "model").unwrap(),
            phone: Options::new(vec![target], "model").unwrap(),
        }
    }

    fn setting(&self) -> Setting<'_> {
        Setting { samples: &self.samples, options: &self.here, progress: &Silent, cache: &NONE }
    }

    fn search(&self, goal: Goal, target: Option<&Options>) -> Result<Found> {
        self.search_among(&["int8"], goal, target)
    }

    fn search_among(&self, allowed: &[&str], goal: Goal, target: Option<&Options>) -> Result<Found> {
        let plain = Recipe::default();
        let split = Split::new(&self.samples, &plain)?;
        let session = session::compress(self.model.clone(), &plain, &self.setting())?;
        let options = option::parse(&allowed.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let problem = Problem::new(&session.model, options, &self.here)?;
        let mut machine = Machine::new(&problem, self.model.clone(), &split, &self.setting(), target)?;
        search(&problem, &mut machine, &Search { goal, candidates: 8, sweep: 0, plain: split.recipe })
    }

    /// The file that a recipe gives.
    fn file(&self, recipe: &Recipe) -> Vec<u8> {
        let samples = self.samples.take(recipe.samples, recipe.seed);
        let setting = Setting { samples: &samples, ..self.setting() };
        session::compress(self.model.clone(), recipe, &setting).unwrap().written().unwrap().encode().unwrap().to_vec()
    }
}

#[test]
fn a_recipe_is_found_that_gives_the_same_file_when_it_is_run_again() {
    let world = World::new();
    let all = world.search(Goal::Loss(0.5), Some(&world.phone)).unwrap();
    let (float, fastest) = (all.float, all.best.figures);
    assert!(fastest.ms < float.ms && fastest.bytes < float.bytes && fastest.loss.relative > 0.0, "{all:?}");
    assert!(float.loss.relative < 1e-5 && float.loss.agreement == Some(1.0), "{float:?}");
    let goal = Goal::Ms((float.ms + fastest.ms) / 2.0);
    let found = world.search(goal, Some(&world.phone)).unwrap();
    let again = world.search(goal, Some(&world.phone)).unwrap();
    assert!(found.best.figures.ms <= goal.limit() && found.best.figures.loss.relative < fastest.loss.relative);
    assert_eq!((&found.recipe, &found.reasons, &found.tried), (&again.recipe, &again.reasons, &again.tried));
    let recipe = Recipe::parse(&found.recipe.text().unwrap()).unwrap();
    assert_eq!(world.file(&recipe), world.file(&found.recipe));
    let told = world.search(Goal::Ms(0.1 * fastest.ms), Some(&world.phone)).unwrap_err().to_string();
    assert!(told.contains("cannot be reached: the least is"), "{told}");
}

#[test]
fn bytes_are_those_of_the_object() {
    let world = World::new();
    let all = world.search(Goal::Loss(0.5), None).unwrap();
    assert!(all.float.ms > 0.0 && all.float.arena.is_some());
    let limit = (all.float.bytes + all.tried[1].figures.bytes) / 2;
    let found = world.search(Goal::Bytes(limit as f64), None).unwrap();
    let compiled = mcc::compile(mcc_bytes(&world.file(&found.recipe)), &world.here).unwrap();
    assert_eq!((compiled.code.text_bytes + compiled.code.weights_bytes) as u64, found.best.figures.bytes);
    assert!(found.best.figures.bytes <= limit);
}

#[test]
fn shapes_and_codes_are_searched_together() {
    let model = common::Builder::new(4)
        .input("x", &[8, 96])
        .weights("w0", &[96, 192])
        .weights("w1", &[192, 96])
        .weights("w2", &[96, 16])
        .node("MatMul", &["x", "w0"], "a", |_| {})
        .node("Relu", &["a"], "b", |_| {})
        .node("MatMul", &["b", "w1"], "c", |_| {})
        .node("Relu", &["c"], "d", |_| {})
        .node("MatMul", &["d", "w2"], "y", |_| {})
        .output("y")
        .model(17);
    let world = World { model, samples: common::samples(&[8, 96], 24), ..World::new() };
    let all = ["int8-weights", "int4", "low-rank", "2:4", "blocks"];
    let search = |goal: Goal| world.search_among(&all, goal, Some(&world.phone)).unwrap();
    let least = search(Goal::Loss(10.0));
    let goal = Goal::Ms((least.float.ms + 3.0 * least.best.figures.ms) / 4.0);
    let found = search(goal);
    assert!(found.refused.is_empty(), "{:?}", found.refused);
    assert!(found.best.figures.ms <= goal.limit() && found.best.figures.loss.relative > 0.0);
    assert!(found.tried.iter().any(|t| t.assignment.contains(&3)), "low rank is tried");
    let recipe = Recipe::parse(&found.recipe.text().unwrap()).unwrap();
    assert_eq!(world.file(&recipe), world.file(&found.recipe));
}

fn mcc_bytes(file: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(file)
}

#[test]
fn one_sample_is_too_few() {
    let told = Split::new(&samples(1), &Recipe::default()).unwrap_err().to_string();
    assert!(told.contains("one sample is too few"), "{told}");
    let split = Split::new(&samples(2), &Recipe::default()).unwrap();
    assert_eq!((split.calibration.len(), split.held.len(), split.recipe.samples), (1, 1, 1));
}
