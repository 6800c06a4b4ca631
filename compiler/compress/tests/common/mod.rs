//! Small models with seeded weights, and samples for them.
#![allow(dead_code)]

use std::collections::BTreeMap;

use mcc::{Options, Target};
use mcc_compress::attribute;
use mcc_compress::cache::NONE;
use mcc_compress::layers;
use mcc_compress::model::Model;
use mcc_compress::observe::{Setting, Silent};
use mcc_compress::recipe::Recover;
use mcc_compress::recover::{Student, recover};
use mcc_data::Samples;
use mcc_ir::{DType, Random, Tensor};
use mcc_onnx::tensor;
use mcc_proto::tensor_shape_proto::{Dimension, DimensionValue};
use mcc_proto::type_proto;
use mcc_proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto};

/// A model under construction.
pub struct Builder {
    pub graph: GraphProto,
    random: Random,
}

impl Builder {
    pub fn new(seed: u64) -> Builder {
        Builder { graph: GraphProto::default(), random: Random::new(seed) }
    }

    /// An `f32` input; a negative extent has the name `N`.
    pub fn input(mut self, name: &str, shape: &[i64]) -> Builder {
        self.graph.input.push(port(name, shape));
        self
    }

    pub fn output(mut self, name: &str) -> Builder {
        self.graph.output.push(ValueInfoProto { name: name.to_string(), ..Default::default() });
        self
    }

    /// Weights like trained ones: roughly normal, with a mean square of one over the inputs of a sum.
    pub fn weights(mut self, name: &str, shape: &[usize]) -> Builder {
        let inputs: usize = shape.iter().skip(1).product::<usize>().max(1);
        let scale = (inputs as f64).sqrt().recip();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| normal(&mut self.random) * scale).collect();
        let made = Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap();
        self.graph.initializer.push(tensor::proto(name, &made));
        self
    }

    pub fn constant(mut self, name: &str, made: &Tensor) -> Builder {
        self.graph.initializer.push(tensor::proto(name, made));
        self
    }

    pub fn node(mut self, op: &str, inputs: &[&str], output: &str, edit: impl FnOnce(&mut NodeProto)) -> Builder {
        let mut node = NodeProto {
            op_type: op.to_string(),
            input: inputs.iter().map(|i| (*i).to_string()).collect(),
            output: vec![output.to_string()],
            ..Default::default()
        };
        edit(&mut node);
        self.graph.node.push(node);
        self
    }

    pub fn proto(self, opset: i64) -> ModelProto {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }

    pub fn model(self, opset: i64) -> Model {
        Model::new(self.proto(opset), None).unwrap()
    }
}

fn port(name: &str, shape: &[i64]) -> ValueInfoProto {
    let extent = |&d: &i64| Dimension {
        value: Some(if d < 0 { DimensionValue::DimParam("N".to_string()) } else { DimensionValue::DimValue(d) }),
        ..Default::default()
    };
    let tensor =
        type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim: shape.iter().map(extent).collect() }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.to_string(), r#type: Some(ty), ..Default::default() }
}

/// A convolutional network with what real ones have: a batch norm, a depthwise convolution, a residual sum, a
/// convolution with two users, pooling and a classifier.
pub fn network() -> Builder {
    let pads = |node: &mut NodeProto| attribute::set_ints(node, "pads", vec![1; 4]);
    let depthwise = |node: &mut NodeProto| {
        pads(node);
        attribute::set_int(node, "group", 8);
    };
    let ones = Tensor::from_f64s(DType::F32, vec![8], &[1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.0, 0.7]).unwrap();
    Builder::new(1)
        .input("x", &[-1, 3, 8, 8])
        .weights("w1", &[8, 3, 3, 3])
        .constant("gamma", &ones)
        .weights("beta", &[8])
        .weights("mean", &[8])
        .constant("variance", &ones)
        .weights("w2", &[8, 1, 3, 3])
        .weights("b2", &[8])
        .weights("w3", &[8, 8, 1, 1])
        .weights("w4", &[10, 8])
        .weights("b4", &[10])
        .node("Conv", &["x", "w1"], "c1", pads)
        .node("BatchNormalization", &["c1", "gamma", "beta", "mean", "variance"], "n1", |_| {})
        .node("Relu", &["n1"], "r1", |_| {})
        .node("Conv", &["r1", "w2", "b2"], "c2", depthwise)
        .node("Relu", &["c2"], "r2", |_| {})
        .node("Conv", &["r2", "w3"], "c3", |_| {})
        .node("Add", &["c3", "r1"], "sum", |_| {})
        .node("GlobalAveragePool", &["sum"], "pool", |_| {})
        .node("Flatten", &["pool"], "flat", |_| {})
        .node("Gemm", &["flat", "w4", "b4"], "y", |node| attribute::set_int(node, "transB", 1))
        .output("y")
}

/// Samples of roughly normal numbers.
pub fn samples(shape: &[usize], count: usize) -> Samples {
    let mut random = Random::new(7);
    let sample = |_| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| normal(&mut random)).collect();
        vec![Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()]
    };
    Samples::from_tensors((0..count).map(sample).collect())
}

/// Options for this machine.
pub fn options() -> Options {
    Options::new(vec![Target::host(Some("native")).unwrap()], "model").unwrap()
}

/// The setting for samples.
pub fn setting<'a>(samples: &'a Samples, options: &'a Options) -> Setting<'a> {
    Setting { samples, options, progress: &Silent, cache: &NONE }
}

/// A roughly normal number: the sum of twelve even ones.
pub fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.real()).sum::<f64>() / 2.0
}

/// Sets the smallest weights of each layer to zero.
pub fn pruned(model: &Model, share: f64) -> Model {
    let mut model = model.clone();
    for layer in layers::find(&model) {
        let mut matrix = layer.matrix(&model).unwrap();
        let mut sizes: Vec<f32> = matrix.data.iter().map(|v| v.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let border = sizes[(share * sizes.len() as f64) as usize];
        matrix.data.iter_mut().filter(|v| v.abs() < border).for_each(|v| *v = 0.0);
        layer.set_matrix(&mut model, &matrix).unwrap();
    }
    model
}

/// The zeros of each layer.
pub fn zeros(model: &Model) -> Vec<Vec<bool>> {
    let layers = layers::find(model);
    layers.iter().map(|l| l.matrix(model).unwrap().data.iter().map(|&w| w == 0.0).collect()).collect()
}

/// Trains a pruned model, and gives why for each layer.
pub fn recovered(teacher: &Model, student: &mut Model, samples: &Samples) -> Vec<String> {
    let options = options();
    let (mut codes, given) = (BTreeMap::new(), BTreeMap::new());
    let (places, bytes) = (BTreeMap::new(), BTreeMap::new());
    let student = Student { teacher, model: student, codes: &mut codes, given: &given, places: &places, bytes: &bytes };
    let step = Recover { effort: 2e-5, ..Recover::default() };
    let outcomes = recover(student, &step, 0, &setting(samples, &options)).unwrap();
    outcomes.into_iter().map(|o| o.reason).collect()
}
