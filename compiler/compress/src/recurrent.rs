//! Recurrent layers: `LSTM`, `GRU` and `RNN` nodes are two layers each, `W` that multiplies the data and `R` that multiplies
//! the states of the step before.
//!
//! Contract: both have a row per direction and unit of a gate. The results by which layers are found are the node's first
//! for `W` and its second for `R`, which [`name_results`] provides. What `R` multiplies is seen in the first result, the
//! states of all steps: those of a step are multiplied by the next one, and those of the last by the caller's next run.

use mcc_ir::{DType, Result, Tensor};
use mcc_onnx::node::label;

use crate::model::Model;

/// The operators.
pub const OPERATORS: &[&str] = &["LSTM", "GRU", "RNN"];

/// The node's input for biases: `[directions, 2 * gates * hidden]`, those of `W` before those of `R`.
pub const BIAS: usize = 3;

/// One of the weights of a recurrent node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// Which one.
    pub part: Part,
    /// Directions in which it runs.
    pub directions: usize,
    /// Rows of a direction: gates times hidden units.
    pub width: usize,
    /// Whether the batch comes before the steps (`layout` 1).
    pub batch_first: bool,
}

/// Which weights of a recurrent node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `W`, which multiplies the data: the same for both directions.
    Data,
    /// `R`, which multiplies the states: those of its own direction.
    States,
}

impl Part {
    /// The node's input and ONNX's name of it.
    pub fn slot(self) -> (usize, &'static str) {
        match self {
            Part::Data => (1, "W"),
            Part::States => (2, "R"),
        }
    }
}

/// Gives the first two results of every recurrent node a name, if they have none.
pub fn name_results(model: &mut Model) {
    for n in 0..model.nodes().len() {
        let node = &model.nodes()[n];
        if !OPERATORS.contains(&node.op_type.as_str()) || !node.domain.is_empty() {
            continue;
        }
        let mut output = node.output.clone();
        output.resize(output.len().max(2), String::new());
        let stem = label(node).to_string();
        for (name, what) in output.iter_mut().zip(["Y", "Y_h"]).filter(|(name, _)| name.is_empty()) {
            *name = model.fresh(&format!("{stem}_{what}"));
        }
        model.edit_node(n, |node| node.output = output);
    }
}

impl Recurrence {
    /// ONNX's name of the weights.
    pub fn symbol(&self) -> &'static str {
        self.part.slot().1
    }

    /// Groups of rows that multiply different data.
    pub fn groups(&self) -> usize {
        if self.part == Part::States { self.directions } else { 1 }
    }

    /// Where a direction's own part of the node's biases is.
    fn place(&self, direction: usize) -> std::ops::Range<usize> {
        let first = direction * 2 * self.width + if self.part == Part::States { self.width } else { 0 };
        first..first + self.width
    }

    /// A bias per row, of the node's.
    pub fn bias(&self, all: &[f32]) -> Vec<f32> {
        (0..self.directions).flat_map(|d| all[self.place(d)].iter().copied()).collect()
    }

    /// The node's biases with others for these rows; those of the other weights stay, and are zero if there are none.
    ///
    /// # Errors
    /// When there are not as many as rows.
    pub fn with_bias(&self, all: Option<Vec<f32>>, own: &[f32]) -> Result<Tensor> {
        let mut all = all.unwrap_or_else(|| vec![0.0; self.directions * 2 * self.width]);
        for (d, own) in own.chunks(self.width.max(1)).enumerate() {
            all[self.place(d)].copy_from_slice(own);
        }
        let all: Vec<f64> = all.into_iter().map(f64::from).collect();
        Tensor::from_f64s(DType::F32, vec![self.directions, 2 * self.width], &all)
    }

    /// Neighbouring rows of states of a direction, in a tensor of the states of all steps: `[steps, directions, batch,
    /// hidden]`, or `[batch, steps, directions, hidden]`.
    pub fn run_of_states(&self, shape: &[usize]) -> usize {
        if self.batch_first { 1 } else { shape.get(2).copied().unwrap_or(1) }
    }
}
