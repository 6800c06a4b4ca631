//! Element types and numbers of axes that follow from declared ones, as far as changes need them.

use mcc_proto::tensor_proto::DataType;
use mcc_proto::{AttributeProto, NodeProto, TensorProto, TypeProto, type_proto};

use super::context::is_standard;

/// What is known about a value.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Known {
    /// The element type.
    pub element: Option<DataType>,
    /// The number of axes.
    pub rank: Option<usize>,
}

impl Known {
    /// Of a declared type.
    pub fn declared(ty: &TypeProto) -> Known {
        match &ty.value {
            Some(type_proto::Value::TensorType(t)) => Known {
                element: Some(t.elem_type()).filter(|&t| t != DataType::Undefined),
                rank: t.shape.as_ref().map(|shape| shape.dim.len()),
            },
            _ => Known::default(),
        }
    }

    /// Of a constant.
    pub fn tensor(t: &TensorProto) -> Known {
        Known { element: DataType::try_from(t.data_type).ok(), rank: Some(t.dims.len()) }
    }

    /// What both know.
    pub fn or(self, other: Known) -> Known {
        Known { element: self.element.or(other.element), rank: self.rank.or(other.rank) }
    }
}

/// What a node's operands are.
pub trait Operands {
    /// What is known about a name.
    fn known(&self, name: &str) -> Known;
    /// The number of elements of a constant.
    fn length(&self, name: &str) -> Option<usize>;
}

/// What is known about a node's result `index`.
pub fn result(node: &NodeProto, index: usize, operands: &dyn Operands) -> Known {
    if !is_standard(&node.domain) {
        return Known::default();
    }
    let node = Node { node, operands };
    Known { element: node.element(index), rank: node.rank(index) }
}

struct Node<'a> {
    node: &'a NodeProto,
    operands: &'a dyn Operands,
}

/// Operators of several operands whose shapes are aligned at their last axes.
const BROADCASTING: &[&str] = &[
    "Add",
    "And",
    "BitShift",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators whose results have as many axes as their first operand.
const RANK_OF_FIRST: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MaxPool",
    "MeanVarianceNormalization",
    "Neg",
    "Not",
    "PRelu",
    "Pad",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Upsample",
];

impl Node<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name && a.ref_attr_name.is_empty())
    }

    fn operand(&self, n: usize) -> Known {
        self.node.input.get(n).map(|name| self.operands.known(name)).unwrap_or_default()
    }

    /// The number of elements of a list that is an attribute or, in newer versions, input `n`.
    fn length(&self, name: &str, n: usize) -> Option<usize> {
        match self.attribute(name) {
            Some(a) => Some(a.ints.len()),
            None => self.operands.length(self.node.input.get(n)?),
        }
    }

    fn rank(&self, index: usize) -> Option<usize> {
        let first = self.operand(0).rank;
        match self.node.op_type.as_str() {
            "Flatten" | "Gemm" => Some(2),
            "Shape" | "NonZero" => Some(if self.node.op_type == "Shape" { 1 } else { 2 }),
            "Size" => Some(0),
            "Constant" => self.attribute("value").and_then(|a| a.t.as_ref()).map(|t| t.dims.len()),
            "Reshape" => self.operands.length(self.node.input.get(1)?),
            "Transpose" => self.attribute("perm").map(|a| a.ints.len()).or(first),
            "Squeeze" => first?.checked_sub(self.length("axes", 1)?),
            "Unsqueeze" => Some(first? + self.length("axes", 1)?),
            "Gather" => (first? + self.operand(1).rank?).checked_sub(1),
            "MatMul" => match (first?, self.operand(1).rank?) {
                (1, other) | (other, 1) => other.checked_sub(1),
                (a, b) => Some(a.max(b)),
            },
            "ArgMax" | "ArgMin" => self.kept(first?, Some(1)),
            op if op.starts_with("Reduce") => self.kept(first?, self.length("axes", 1)),
            op if BROADCASTING.contains(&op) => {
                (0..self.node.input.len()).map(|n| self.operand(n).rank).try_fold(0, |max, rank| Some(max.max(rank?)))
            }
            "If" => declared_by(self.attribute("then_branch"), index).rank,
            op if RANK_OF_FIRST.contains(&op) => first,
            _ => None,
        }
    }

    /// The number of axes after some are reduced.
    fn kept(&self, rank: usize, reduced: Option<usize>) -> Option<usize> {
        let keep = self.attribute("keepdims").is_none_or(|a| a.i != Some(0));
        if keep { Some(rank) } else { rank.checked_sub(reduced.unwrap_or(rank)) }
    }

    fn named_type(&self, attribute: &str) -> Option<DataType> {
        DataType::try_from(i32::try_from(self.attribute(attribute)?.i?).ok()?).ok()
    }

    fn element(&self, index: usize) -> Option<DataType> {
        let of = |n: usize| self.operand(n).element;
        match (self.node.op_type.as_str(), index) {
            ("Cast", _) => self.named_type("to"),
            (
                "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual" | "Not",
                _,
            )
            | ("Or" | "Xor" | "OptionalHasElement", _)
            | ("Dropout", 1) => Some(DataType::Bool),
            ("ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero" | "SequenceLength" | "Shape" | "Size", _)
            | ("TopK" | "MaxPool", 1) => Some(DataType::Int64),
            ("ConvInteger" | "MatMulInteger", _) => Some(DataType::Int32),
            ("CastLike" | "DequantizeLinear" | "Where", _) => of(1),
            ("QuantizeLinear", _) if self.node.input.len() < 3 => None,
            ("OneHot" | "QuantizeLinear", _) => of(2),
            ("DynamicQuantizeLinear", 0 | 2) => Some(DataType::Uint8),
            ("DynamicQuantizeLinear", _) => Some(DataType::Float),
            ("QLinearConv" | "QLinearMatMul", _) => of(7),
            ("Constant", _) => constant_type(self.node),
            ("ConstantOfShape", _) => match self.attribute("value") {
                Some(a) => a.t.as_ref().map(|t| t.data_type()),
                None => Some(DataType::Float),
            },
            ("RandomNormal" | "RandomUniform", _) => self.named_type("dtype"),
            ("If", _) => declared_by(self.attribute("then_branch"), index).element,
            ("Loop", _) => declared_by(self.attribute("body"), index + 1).element,
            ("Scan", _) => declared_by(self.attribute("body"), index).element,
            // Results that are not tensors, or whose type an attribute or data determine.
            ("Bernoulli" | "EyeLike" | "Multinomial" | "RandomNormalLike" | "RandomUniformLike" | "SequenceAt", _)
            | ("SequenceConstruct" | "SequenceEmpty" | "SequenceErase" | "SequenceInsert" | "SequenceMap", _)
            | ("ConcatFromSequence" | "SplitToSequence" | "Optional" | "OptionalGetElement" | "StringSplit", _)
            | ("Unique", 1..) => None,
            _ => of(0),
        }
    }
}

fn constant_type(node: &NodeProto) -> Option<DataType> {
    let a = node.attribute.first()?;
    match a.name.as_str() {
        "value" => a.t.as_ref().map(|t| t.data_type()),
        "value_float" | "value_floats" => Some(DataType::Float),
        "value_int" | "value_ints" => Some(DataType::Int64),
        _ => None,
    }
}

fn declared_by(graph: Option<&AttributeProto>, output: usize) -> Known {
    let info = graph.and_then(|a| a.g.as_ref()?.output.get(output)?.r#type.as_ref());
    info.map(Known::declared).unwrap_or_default()
}
