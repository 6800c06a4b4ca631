//! Tables that are looked up by index (embeddings): rows of codes, each row with its scale.
//!
//! The codes are looked up, not the numbers, so that no other row is ever converted.

use mcc_ir::{DType, Result, Tensor};
use mcc_onnx::node::label;
use mcc_proto::NodeProto;
use mcc_proto::tensor_proto::DataType;

use super::grid::Grid;
use crate::attribute;
use crate::matrix::Matrix;
use crate::model::Model;

/// Rows below which a table is too small to gain anything.
const LEAST_ROWS: usize = 16;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The node's name.
    pub name: String,
    /// Its result.
    pub output: String,
    /// The table.
    pub weights: String,
    /// The indices.
    pub indices: String,
}

/// The tables of a model.
pub fn find(model: &Model) -> Vec<Table> {
    model.nodes().iter().filter_map(|node| table(model, node)).collect()
}

fn table(model: &Model, node: &NodeProto) -> Option<Table> {
    let weights = node.input.first()?;
    let tensor = model.constant(weights)?;
    let fits = node.op_type == "Gather"
        && node.domain.is_empty()
        && attribute::int(node, "axis", 0) == 0
        && matches!(*tensor.shape(), [rows, _] if rows >= LEAST_ROWS)
        && tensor.dtype() == DType::F32
        && model.constant(&node.input[1]).is_none();
    fits.then(|| Table {
        name: label(node).to_string(),
        output: node.output[0].clone(),
        weights: weights.clone(),
        indices: node.input[1].clone(),
    })
}

/// Replaces a table by 8-bit codes, and gives the relative error of its elements.
///
/// # Errors
/// When the model contradicts itself.
pub fn encode(model: &mut Model, table: &Table) -> Result<f64> {
    let (Some(tensor), Some(node)) = (model.constant(&table.weights).cloned(), model.giver(&table.output)) else {
        return Ok(0.0);
    };
    let (rows, columns) = (tensor.shape()[0], tensor.shape()[1]);
    let matrix = Matrix { rows, columns, data: tensor.to_f32s().unwrap_or_default() };
    let (grid, codes) = Grid::by_row(&matrix, 8);
    let error = matrix.distance(&grid.weights(&codes, rows, columns));
    let integers: Vec<i64> = codes.into_iter().map(i64::from).collect();
    let stem = table.weights.as_str();
    let codes =
        model.add_constant(&format!("{stem}_codes"), Tensor::from_i64s(DType::I8, vec![rows, columns], &integers)?);
    let scales = Tensor::from_f64s(DType::F32, vec![rows, 1], &grid.scales)?;
    let scales = model.add_constant(&format!("{stem}_scale"), scales);
    let stem = table.output.as_str();
    let names = ["codes", "number", "scale"].map(|what| format!("{stem}_{what}"));
    let [found, number, scale] = names.map(|name| model.fresh(&name));
    let node_of = |op: &str, input: [&str; 2], output: &str| NodeProto {
        op_type: op.to_string(),
        name: output.to_string(),
        input: input.iter().filter(|i| !i.is_empty()).map(|i| (*i).to_string()).collect(),
        output: vec![output.to_string()],
        ..Default::default()
    };
    let mut cast = node_of("Cast", [&found, ""], &number);
    attribute::set_int(&mut cast, "to", DataType::Float as i64);
    let product = node_of("Mul", [&number, &scale], &table.output);
    model.edit_node(node, |node| node.output.clear());
    model.add_nodes([
        node_of("Gather", [&codes, &table.indices], &found),
        cast,
        node_of("Gather", [&scales, &table.indices], &scale),
        NodeProto { name: table.name.clone(), ..product },
    ]);
    model.tidy()?;
    Ok(error)
}
