//! Follows channels through a model, from the layers that make them to those that read them (the dependency groups of
//! Fang et al. 2023, DepGraph).
//!
//! A value's channels are known by numbers; operators join them, rearrange them, or need them all. What must change in
//! the model when channels go is noted along the way. Hidden units of recurrent nodes ([`super::recurrent`]) and heads of
//! attention ([`super::heads`]) are channels like others.

use std::collections::{BTreeMap, HashMap};

use mcc_ir::{Result, Tensor, TensorType};
use mcc_onnx::node::label;
use mcc_proto::NodeProto;

use super::lists::{Element, Place};
use super::sets::Sets;
use crate::layers::{self, Kind, Layer};
use crate::model::Model;
use crate::prune::product::{Product, Recurrent};

/// The channels of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Their axis.
    pub axis: usize,
    /// Their numbers.
    pub channels: Vec<usize>,
}

/// A change of the model where channels go.
#[derive(Debug, Clone)]
pub enum Edit {
    /// A constant input loses elements along an axis.
    Cut {
        /// Where it is read.
        node: usize,
        /// The node's input.
        input: usize,
        /// The axis of the constant.
        axis: usize,
        /// The channel of each index.
        channels: Vec<usize>,
    },
    /// An element of a constant list of integers counts channels.
    Count {
        /// The element.
        place: Place,
        /// The channels.
        channels: Vec<usize>,
    },
    /// An attribute counts channels: the groups of a convolution, the units of a recurrent node.
    Attribute {
        /// The node.
        node: usize,
        /// The attribute's name.
        name: &'static str,
        /// The channels.
        channels: Vec<usize>,
    },
    /// An input of zeros, of the extents that channels have, is left out; zeros are what the node takes without it.
    Drop {
        /// The node.
        node: usize,
        /// The node's input.
        input: usize,
        /// The channels.
        channels: Vec<usize>,
    },
    /// `Split` into parts.
    Split {
        /// The node.
        node: usize,
        /// The channels of each part.
        parts: Vec<Vec<usize>>,
    },
    /// `Slice` of neighbouring channels.
    Slice {
        /// The node.
        node: usize,
        /// The axis' place in the node's lists.
        element: usize,
        /// The channels before, and those inside.
        before: Vec<usize>,
        /// Those inside.
        inside: Vec<usize>,
    },
    /// `Gather` of channels by constant numbers.
    Gather {
        /// The node.
        node: usize,
        /// The channels of the operand.
        channels: Vec<usize>,
        /// The numbers.
        indices: Vec<usize>,
    },
}

/// A product with the channels that it reads and makes.
#[derive(Debug, Clone)]
pub struct Traced {
    /// The layer, or the part of a recurrent node.
    pub product: Product,
    /// What it reads, if that is followed.
    pub reads: Option<Vec<usize>>,
    /// What its rows make; a channel may have several.
    pub makes: Vec<usize>,
}

/// The channels of a model.
pub struct Trace<'m> {
    pub(super) model: &'m Model,
    pub(super) types: HashMap<String, TensorType>,
    pub(super) tracks: HashMap<String, Track>,
    /// Lists of integers of which some may count channels.
    pub(super) lists: HashMap<String, Vec<Element>>,
    /// The edits that change elements of lists.
    pub(super) counts: HashMap<Place, usize>,
    /// Elements of lists that something needs as they are, and what.
    fixed: HashMap<Place, String>,
    /// Which channels go together, and which stay.
    pub sets: Sets,
    /// What changes where channels go.
    pub edits: Vec<Edit>,
    /// The products, in the order in which they run.
    pub products: Vec<Traced>,
}

impl<'m> Trace<'m> {
    /// Follows the channels of a model.
    ///
    /// # Errors
    /// When the model does not compile.
    pub fn of(model: &'m Model, options: &mcc::Options) -> Result<Trace<'m>> {
        let outputs = model.nodes().iter().flat_map(|n| &n.output).filter(|o| !o.is_empty());
        let names: Vec<&str> = outputs.map(String::as_str).filter(|name| model.constant(name).is_none()).collect();
        let mut types: HashMap<String, TensorType> =
            names.iter().map(|n| n.to_string()).zip(model.types(&names, options)?).collect();
        types.extend(model.ports(options)?.into_iter().map(|port| (port.name, port.ty)));
        let mut trace = Trace {
            model,
            types,
            tracks: HashMap::new(),
            lists: HashMap::new(),
            counts: HashMap::new(),
            fixed: HashMap::new(),
            sets: Sets::default(),
            edits: Vec::new(),
            products: Vec::new(),
        };
        // Weights that are codes stay codes; recurrent nodes have rules of their own.
        let found = layers::find(model).into_iter().filter(|l| !l.is_coded && l.recurrence().is_none());
        let found: BTreeMap<String, Layer> = found.map(|layer| (layer.output.clone(), layer)).collect();
        for (n, node) in model.nodes().iter().enumerate() {
            let layer = node.output.first().and_then(|o| found.get(o));
            let followed = match (Recurrent::of(model, n), layer) {
                (Some(recurrent), _) => super::recurrent::follow(&mut trace, n, &recurrent),
                (None, Some(layer)) => trace.layer(n, layer),
                (None, None) => trace.follow(n, node),
            };
            for (input, name) in node.input.iter().enumerate() {
                if !followed.contains(&input) {
                    trace.need(name, &format!("they reach {} \"{}\"", node.op_type, label(node)));
                }
            }
        }
        for output in &model.graph().output {
            trace.need(&output.name, &format!("they are in the output \"{}\"", output.name));
        }
        for name in trace.tracks.keys().cloned().collect::<Vec<_>>() {
            if model.users(&name).iter().any(|place| place.input.is_none()) {
                trace.need(&name, "an inner graph reads them");
            }
        }
        for (place, reason) in std::mem::take(&mut trace.fixed) {
            if let Some(Edit::Count { channels, .. }) = trace.counts.get(&place).map(|&n| trace.edits[n].clone()) {
                channels.iter().for_each(|&channel| trace.sets.need(channel, &reason));
            }
        }
        Ok(trace)
    }

    /// All channels of a value stay.
    pub(super) fn need(&mut self, name: &str, reason: &str) {
        let counted = self.lists.get(name).into_iter().flatten().filter_map(|element| match element {
            Element::Count(channels) => Some(channels),
            _ => None,
        });
        let channels = self.tracks.get(name).map(|t| &t.channels).into_iter().chain(counted);
        channels.flatten().for_each(|&channel| self.sets.need(channel, reason));
        let elements = self.lists.get(name).into_iter().flatten();
        let fixed: Vec<Place> = elements.filter_map(Element::place).collect();
        fixed.into_iter().for_each(|place| self.fix(place, reason));
    }

    /// An element of a constant list stays as it is.
    pub(super) fn fix(&mut self, place: Place, reason: &str) {
        self.fixed.entry(place).or_insert_with(|| reason.to_string());
    }

    /// A value's type; that of a constant, too.
    pub(super) fn ty(&self, name: &str) -> Option<TensorType> {
        self.types.get(name).cloned().or_else(|| self.model.constant(name).map(Tensor::ty))
    }

    /// Lets a result have channels.
    pub(super) fn track(&mut self, name: &str, axis: usize, channels: Vec<usize>) {
        self.tracks.insert(name.to_string(), Track { axis, channels });
    }

    /// Joins channels pairwise.
    pub(super) fn join(&mut self, a: &[usize], b: &[usize]) {
        a.iter().zip(b).for_each(|(&a, &b)| self.sets.join(a, b));
    }

    /// A layer; gives the inputs that need no more.
    fn layer(&mut self, n: usize, layer: &Layer) -> Vec<usize> {
        let (Some(from), Some(to)) = (self.ty(&layer.input), self.ty(&layer.output)) else { return Vec::new() };
        let product = matches!(layer.kind, Kind::Product { .. });
        let [inward, outward] = [&from, &to].map(|ty| if product { ty.rank() - 1 } else { 1 });
        let groups = layer.kind.groups();
        let reads = self.tracks.get(&layer.input).filter(|t| t.axis == inward).map(|t| t.channels.clone());
        let makes = self.sets.add(layer.rows());
        self.track(&layer.output, outward, makes.clone());
        let mut followed = vec![layer.weights_slot];
        let node = &self.model.nodes()[n];
        let (rows, columns) = (layer.kind.row_axis(), 1 - layer.kind.row_axis());
        let cut = |axis: usize, channels: &[usize]| Edit::Cut {
            node: n,
            input: layer.weights_slot,
            axis,
            channels: channels.to_vec(),
        };
        match (&reads, groups) {
            (_, 1) => {
                if let Some(reads) = &reads {
                    self.edits.push(cut(columns, reads));
                    followed.push(layer.input_slot);
                }
                self.edits.push(cut(rows, &makes));
            }
            (Some(reads), _) => {
                self.grouped(n, layer, reads, &makes);
                followed.push(layer.input_slot);
            }
            (None, _) => makes.iter().for_each(|&c| self.sets.need(c, "its groups read what is not followed")),
        }
        if let Some(bias) = layer.own_bias().filter(|b| b.name.is_some()) {
            self.edits.push(Edit::Cut { node: n, input: bias.slot, axis: 0, channels: makes.clone() });
        } else if node.input.get(2).is_some_and(|name| !name.is_empty()) {
            // A bias of another shape, or one that is computed.
            makes.iter().for_each(|&c| self.sets.need(c, "its bias is no list of constants"));
        }
        self.products.push(Traced { product: layer.clone().into(), reads, makes });
        followed
    }

    /// A convolution in groups: whole groups go if each reads one channel, else the same channels of all groups.
    fn grouped(&mut self, n: usize, layer: &Layer, reads: &[usize], makes: &[usize]) {
        let groups = layer.kind.groups();
        let (ins, outs) = (reads.len() / groups, makes.len() / groups);
        let (input, transposed) = (layer.weights_slot, matches!(layer.kind, Kind::ConvTranspose(_)));
        let cut = |axis: usize, channels: &[usize]| Edit::Cut { node: n, input, axis, channels: channels.to_vec() };
        if ins == 1 {
            for (group, &read) in reads.iter().enumerate() {
                makes[group * outs..][..outs].iter().for_each(|&made| self.sets.join(read, made));
            }
            self.edits.push(cut(0, if transposed { reads } else { makes }));
            self.edits.push(Edit::Attribute { node: n, name: "group", channels: reads.to_vec() });
            return;
        }
        for group in 1..groups {
            self.join(&reads[..ins], &reads[group * ins..][..ins]);
            self.join(&makes[..outs], &makes[group * outs..][..outs]);
        }
        if transposed {
            self.edits.extend([cut(0, reads), cut(1, &makes[..outs])]);
        } else {
            self.edits.extend([cut(0, makes), cut(1, &reads[..ins])]);
        }
    }

    /// Another node; gives the inputs that need no more.
    fn follow(&mut self, n: usize, node: &NodeProto) -> Vec<usize> {
        let followed = match node.domain.as_str() {
            "" | "ai.onnx" => super::ops::follow(self, n, node),
            "com.microsoft" if node.op_type == "MultiHeadAttention" => super::heads::attention(self, n, node),
            _ => None,
        };
        followed.unwrap_or_default()
    }
}
