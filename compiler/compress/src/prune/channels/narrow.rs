//! A model without some of its channels.

use std::collections::BTreeSet;

use mcc::passes::prune::axes::pick;
use mcc_ir::{DType, Error, Result, Tensor};

use super::trace::Edit;
use crate::attribute;
use crate::model::Model;

/// Channels that go.
pub struct Narrow<'a> {
    /// Their numbers.
    pub gone: &'a BTreeSet<usize>,
}

impl Narrow<'_> {
    /// The places of the channels that stay.
    pub fn kept(&self, channels: &[usize]) -> Vec<usize> {
        (0..channels.len()).filter(|&n| !self.gone.contains(&channels[n])).collect()
    }

    /// Applies what a trace noted.
    ///
    /// # Errors
    /// When the model is not the one that was traced.
    pub fn apply(&self, model: &mut Model, edits: &[Edit]) -> Result<()> {
        for edit in edits {
            self.edit(model, edit)?;
        }
        model.edit(|proto| {
            // Extents that are wrong now; other engines find them again.
            proto.graph.get_or_insert_default().value_info.clear();
            Ok(())
        })
    }

    fn edit(&self, model: &mut Model, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Cut { node, input, axis, channels } => {
                let kept = self.kept(channels);
                if kept.len() < channels.len() {
                    let cut = pick(constant(model, *node, *input)?, *axis, &kept)?;
                    replace(model, *node, *input, cut);
                }
            }
            Edit::Count { place, channels } => {
                let kept = self.kept(channels).len();
                if kept < channels.len() {
                    self.set(model, place.node, place.input, &[(place.element, kept as i64)])?;
                }
            }
            Edit::Attribute { node, name, channels } => {
                let kept = self.kept(channels).len();
                if kept < channels.len() {
                    model.edit_node(*node, |n| attribute::set_int(n, name, kept as i64));
                }
            }
            Edit::Drop { node, input, channels } => {
                if self.kept(channels).len() < channels.len() {
                    model.set_input(*node, *input, "");
                }
            }
            Edit::Split { node, parts } => self.split(model, *node, parts)?,
            Edit::Slice { node, element, before, inside } => {
                let start = self.kept(before).len() as i64;
                let end = start + self.kept(inside).len() as i64;
                if model.nodes()[*node].input.len() > 1 {
                    self.set(model, *node, 1, &[(*element, start)])?;
                    self.set(model, *node, 2, &[(*element, end)])?;
                } else {
                    for (name, value) in [("starts", start), ("ends", end)] {
                        let mut list = attribute::ints(&model.nodes()[*node], name).unwrap_or_default();
                        list[*element] = value;
                        model.edit_node(*node, |n| attribute::set_ints(n, name, list));
                    }
                }
            }
            Edit::Gather { node, channels, indices } => {
                let kept = self.kept(channels);
                let place = |i: &usize| kept.iter().position(|k| k == i).map(|k| k as i64);
                let indices: Vec<i64> = indices.iter().filter_map(place).collect();
                let dtype = constant(model, *node, 1)?.dtype();
                let list = Tensor::from_i64s(dtype, vec![indices.len()], &indices)?;
                replace(model, *node, 1, list);
            }
        }
        Ok(())
    }

    /// Sets elements of a constant list.
    fn set(&self, model: &mut Model, node: usize, input: usize, elements: &[(usize, i64)]) -> Result<()> {
        let old = constant(model, node, input)?;
        let (dtype, shape, mut values) = (old.dtype(), old.shape().to_vec(), old.to_i64s());
        elements.iter().for_each(|&(at, value)| values[at] = value);
        replace(model, node, input, Tensor::from_i64s(dtype, shape, &values)?);
        Ok(())
    }

    fn split(&self, model: &mut Model, node: usize, parts: &[Vec<usize>]) -> Result<()> {
        let sizes: Vec<i64> = parts.iter().map(|part| self.kept(part).len() as i64).collect();
        if model.opset() < SPLIT_SIZES_AS_INPUT {
            model.edit_node(node, |n| attribute::set_ints(n, "split", sizes));
            return Ok(());
        }
        model.edit_node(node, |n| n.attribute.retain(|a| a.name != "num_outputs"));
        let list = Tensor::from_i64s(DType::I64, vec![sizes.len()], &sizes)?;
        replace(model, node, 1, list);
        Ok(())
    }
}

/// The least version of the standard operators whose `Split` reads its sizes.
const SPLIT_SIZES_AS_INPUT: i64 = 13;

fn constant(model: &Model, node: usize, input: usize) -> Result<&Tensor> {
    let name = model.nodes().get(node).and_then(|n| n.input.get(input));
    let tensor = name.and_then(|name| model.constant(name));
    tensor.ok_or_else(|| Error::internal(format!("input {input} of node {node} is no constant any more")))
}

fn replace(model: &mut Model, node: usize, input: usize, tensor: Tensor) {
    let old = model.nodes().get(node).and_then(|n| n.input.get(input)).filter(|name| !name.is_empty());
    let stem = old.cloned().unwrap_or_else(|| format!("{}_sizes", model.nodes()[node].output[0]));
    let name = model.add_constant(&stem, tensor);
    model.set_input(node, input, &name);
}
