//! A cache: a run that was interrupted anywhere gives the bytes of one that was not, and what is done is not done again.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{network, options, samples};
use mcc_compress::cache::{Cache, NONE};
use mcc_compress::observe::{Progress, Setting};
use mcc_compress::recipe::Recipe;
use mcc_compress::session::compress;

/// Counts samples that run.
#[derive(Default)]
struct Count(AtomicUsize);

impl Progress for Count {
    fn begin(&self, _: &str, _: usize) {}

    fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The compressed model's bytes, and how many samples ran.
fn run(dir: Option<&Path>, recipe: &str) -> (Vec<u8>, usize) {
    let (samples, options, progress) = (samples(&[2, 3, 8, 8], 12), options(), Count::default());
    let recipe = Recipe::parse(recipe).unwrap();
    let cache = dir.map_or(NONE.clone(), |dir| Cache::open(dir, &[b"network"], &samples).unwrap());
    let setting = Setting { samples: &samples, options: &options, progress: &progress, cache: &cache };
    let done = compress(network().model(17), &recipe, &setting).unwrap();
    (done.written().unwrap().encode().unwrap().to_vec(), progress.0.load(Ordering::Relaxed))
}

const PRUNE: &str = "[[steps]]\nmethod = \"prune\"\nshare = 0.5\nscope = \"global\"\neverywhere = true\n";
const CHANNELS: &str = "[[steps]]\nmethod = \"prune\"\nshare = 0.5\npattern = \"channels\"\n";
const RECOVER: &str = "[[steps]]\nmethod = \"recover\"\neffort = 1e-4\n";
const QUANTIZE: &str = "[[steps]]\nmethod = \"quantize\"\n";

#[test]
fn whatever_is_lost_is_done_again() {
    for recipe in [[PRUNE, QUANTIZE].concat(), [CHANNELS, RECOVER].concat()] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, all) = run(None, &recipe);
        for ran in [all, 0] {
            let (bytes, samples) = run(Some(folder.path()), &recipe);
            assert!(bytes == whole && samples == ran, "{samples} of {ran} samples ran");
        }
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()).collect();
        assert!(files.len() > 3, "{files:?}");
        for lost in &files {
            std::fs::remove_file(lost).unwrap();
            let (bytes, samples) = run(Some(folder.path()), &recipe);
            assert!(bytes == whole && samples < all, "{samples} of {all} samples ran");
        }
    }
}

#[test]
fn more_steps_repeat_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_, first) = run(Some(folder.path()), PRUNE);
    let both = [PRUNE, &PRUNE.replace("0.5", "0.8")].concat();
    let (bytes, more) = run(Some(folder.path()), &both);
    let (whole, all) = run(None, &both);
    assert!(bytes == whole && first > 0 && more > 0 && first + more == all, "{first} + {more}, {all}");
}
