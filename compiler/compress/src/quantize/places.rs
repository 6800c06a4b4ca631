//! Where activations become bytes: as early as possible, so that what moves between layers is bytes.

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::{Result, TensorType};
use serde::{Deserialize, Serialize};

use crate::layers::Layer;
use crate::model::Model;

/// Operators that move or choose elements of their first input: bytes pass through them unchanged.
const MOVES: &[&str] = &[
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "MaxPool",
    "Dropout",
    "Slice",
    "DepthToSpace",
    "SpaceToDepth",
];

/// Activations that become bytes, and who reads the bytes.
pub type Places = BTreeMap<String, BTreeSet<Reader>>;

/// An input of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reader {
    /// The node's first result, by which it is found again after edits.
    pub output: String,
    /// The input's number.
    pub input: usize,
}

/// The places for some layers' data.
///
/// # Errors
/// When the model does not compile.
pub fn places(model: &Model, layers: &[Layer], options: &mcc::Options) -> Result<Places> {
    let mut readers: BTreeMap<String, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for layer in layers {
        let Some(node) = model.giver(&layer.output) else { continue };
        let (origin, reader) = origin(model, &layer.input, (node, layer.input_slot));
        readers.entry(origin).or_default().insert(reader);
    }
    let names: Vec<&str> = readers.keys().map(String::as_str).collect();
    let types = if names.is_empty() { Vec::new() } else { model.types(&names, options)? };
    let mut places = Places::new();
    for (name, ty) in names.into_iter().zip(&types) {
        // All readers of a feature map read bytes, also the sums of residual networks; a sequence's sums stay floats.
        let uses: BTreeSet<(usize, usize)> = if is_feature_map(ty) {
            model.users(name).iter().filter_map(|u| Some((u.node, u.input?))).collect()
        } else {
            readers[name].clone()
        };
        let reader = |(node, input): (usize, usize)| Reader { output: model.nodes()[node].output[0].clone(), input };
        places.insert(name.to_string(), uses.into_iter().map(reader).collect());
    }
    Ok(places)
}

fn is_feature_map(ty: &TensorType) -> bool {
    ty.rank() == 4
}

/// Follows moves upwards: the name whose elements `name` has, and who reads that one on the way to `reader`.
pub fn origin(model: &Model, name: &str, reader: (usize, usize)) -> (String, (usize, usize)) {
    let mut at = (name.to_string(), reader);
    while let Some(n) = model.giver(&at.0) {
        let node = &model.nodes()[n];
        let moves = MOVES.contains(&node.op_type.as_str()) && node.domain.is_empty() && node.output[0] == at.0;
        if !moves || model.is_output(&at.0) || node.input[0].is_empty() {
            break;
        }
        at = (node.input[0].clone(), (n, 0));
    }
    at
}
