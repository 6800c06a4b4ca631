//! The time that each layer takes, with what runs after it until the next layer.

use std::collections::BTreeMap;
use std::time::Duration;

use mcc::loader::{timing, trace};
use mcc_ir::{Result, Tensor};
use mcc_onnx::node::label;

use crate::model::Model;
use crate::search::problem::owners;

/// Milliseconds of each layer, by its result; the least of runs on one thread in `time`.
///
/// # Errors
/// When the model does not compile or run on the sample, which has a tensor for each input of the compiled model.
pub fn of_layers(
    model: &Model,
    outputs: &[String],
    sample: &[Tensor],
    options: &mcc::Options,
    time: Duration,
) -> Result<BTreeMap<String, f64>> {
    let traced = mcc::Options { traced: true, ..options.clone() };
    let compiled = mcc::compile(model.encode()?, &traced)?;
    let loaded = compiled.load()?;
    let inputs = compiled.with_weights(sample.to_vec())?;
    let mut session = [loaded.session(&inputs, None)?];
    let overhead = trace::overhead();
    let calls = timing::least_calls(&mut session, time)?.into_iter().next().unwrap_or_default();
    let numbers: BTreeMap<String, usize> = outputs.iter().cloned().enumerate().map(|(n, o)| (o, n)).collect();
    let by_label = by_label(model, &numbers);
    let mut times = vec![0.0; outputs.len()];
    let mut last = None;
    for (call, time) in compiled.program.calls().zip(calls) {
        last = by_label.get(call.label).copied().or(last);
        if let (Some(owner), Some(time)) = (last, time) {
            times[owner] += time.saturating_sub(overhead).as_secs_f64() * 1e3;
        }
    }
    Ok(outputs.iter().cloned().zip(times).collect())
}

/// For each label that a call may have (the name of a node, or of its result), the number of the layer that it belongs to,
/// given those of the layers' results.
pub fn by_label<'m>(model: &'m Model, numbers: &BTreeMap<String, usize>) -> BTreeMap<&'m str, usize> {
    let owners = owners(model, numbers);
    let mut by_label: BTreeMap<&str, usize> = BTreeMap::new();
    for node in model.nodes() {
        if let Some(&owner) = node.output.iter().find_map(|o| owners.get(o.as_str())) {
            by_label.extend(node.output.iter().map(|o| (o.as_str(), owner)));
            by_label.insert(label(node), owner);
        }
    }
    by_label
}
