//! What changed between versions of the standard operators, as far as a node must be rewritten.

use mcc_ir::Result;

use super::change::Change;
use super::{alignment, inputs, normalization, resize, scan, softmax};

/// A change of operators.
pub struct Row {
    /// The operators.
    pub operators: &'static [&'static str],
    /// The first version of the standard operators with the new form or meaning.
    pub version: i64,
    /// Turns a node of an older version into one of this version.
    pub rewrite: fn(&mut Change<'_, '_>) -> Result<()>,
}

const fn row(operators: &'static [&'static str], version: i64, rewrite: fn(&mut Change<'_, '_>) -> Result<()>) -> Row {
    Row { operators, version, rewrite }
}

/// The changes, by version.
pub const TABLE: &[Row] = &[
    row(&["Add", "Div", "Mul", "Pow", "Sub"], 7, alignment::broadcast),
    row(&["And", "Equal", "Greater", "Less", "Or", "Xor"], 7, alignment::broadcast),
    row(&["Gemm"], 7, alignment::gemm),
    row(&["PRelu"], 7, alignment::prelu),
    row(&["BatchNormalization", "Dropout"], 7, normalization::is_test),
    row(&["GRU", "LSTM", "RNN"], 7, inputs::output_sequence),
    row(&["BatchNormalization"], 9, normalization::spatial),
    row(&["Scan"], 9, scan::batch),
    row(&["Upsample"], 9, inputs::upsample),
    row(&["Dropout"], 10, inputs::dropout_mask),
    row(&["Slice"], 10, inputs::slice),
    row(&["TopK"], 10, inputs::top_k),
    row(&["Upsample"], 10, resize::upsample),
    row(&["Clip"], 11, inputs::clip),
    row(&["Pad"], 11, inputs::pad),
    row(&["Resize"], 11, resize::coordinates),
    row(&["Scatter"], 11, inputs::scatter),
    row(&["Dropout"], 12, inputs::dropout),
    row(&["Erf"], 13, inputs::no_integers),
    row(&["Hardmax", "LogSoftmax", "Softmax"], 13, softmax::axis),
    row(&["ReduceSum", "Squeeze", "Unsqueeze"], 13, inputs::axes),
    row(&["Resize"], 13, resize::absent),
    row(&["Split"], 13, inputs::split),
    row(&["BatchNormalization"], 14, normalization::training),
    row(&["RoiAlign"], 16, resize::roi_align),
    row(&["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"], 18, inputs::axes),
    row(&["ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"], 18, inputs::axes),
    row(&["Split"], 18, inputs::num_outputs),
    row(&["DFT"], 20, inputs::dft),
    row(&["GridSample"], 20, resize::grid_sample),
    row(&["GroupNormalization"], 21, normalization::group),
    row(&["ReduceLogSum", "ReduceLogSumExp"], 28, inputs::no_integers),
];

/// The first change of an operator after version `from`, up to `to`.
pub fn next(operator: &str, from: i64, to: i64) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.version > from && row.version <= to && row.operators.contains(&operator))
}
