//! Pruning: zeros in layers whose shapes stay ([`masks`]), or whole channels ([`channels`]).
//!
//! Invariants: a weight that is zero before stays zero. The layers are worked on in the order in which they run, with data
//! of the model as it is by then, and every layer is fitted to the results that it has in the reference.

mod channels;
mod evidence;
pub(crate) mod fit;
mod gain;
mod masks;
mod product;
mod rank;
mod search;
mod zones;

use mcc_ir::{Error, Result};

use self::product::Product;
use crate::layers::Layer;
use crate::model::Model;
use crate::moments::by_gram_bytes;
use crate::observe::Setting;
use crate::recipe::{Pattern, Prune};
use crate::session::Session;

/// How often the calibration data runs at most; layers that share a run see data of the model as it is before them.
const PASSES: usize = 24;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The step.
    pub step: &'a Prune,
    /// Where random choices start.
    pub seed: u64,
    /// Whether the weights become bytes later.
    pub bytes: bool,
}

/// Prunes the layers that a step is for.
///
/// # Errors
/// When layers are quantized already or nothing can be pruned; when the model does not compile or run.
pub fn run(session: &mut Session, task: &Task, setting: &Setting) -> Result<()> {
    let step = task.step;
    let selected = session.selected(&step.selection(), |_| true)?;
    let quantized = |l: &Layer| session.codes.contains_key(&l.output);
    if let Some(layer) = selected.iter().find(|l| quantized(l)) {
        return Err(Error::usage(format!("\"{}\" is quantized by an earlier step", layer.name))
            .help("prune first, then quantize: zeros stay zero"));
    }
    match step.pattern {
        Pattern::Channels => channels::run(session, step, task.seed, setting),
        _ => masks::run(session, task, setting),
    }
}

/// What products are fitted to: the model given, as long as its products have the same shapes; else the model as it is.
fn reference(session: &Session, some: &[Product]) -> Model {
    let same = |p: &Product| p.again(&session.teacher).is_ok_and(|old| old.layer.shape == p.layer.shape);
    if some.iter().all(same) { session.teacher.clone() } else { session.model.clone() }
}

/// Products that share a run of the calibration data.
fn chunks(products: &[Product]) -> Vec<&[Product]> {
    let together = products.len().div_ceil(PASSES).max(1);
    let bytes = |p: &Product| p.layer.gram_bytes();
    by_gram_bytes(products, bytes).into_iter().flat_map(|some| some.chunks(together)).collect()
}
