//! Recurrent layers: both weights of LSTM, GRU and RNN.

mod common;

use common::{Builder, options, pruned, recovered, samples, setting, zeros};
use mcc_compress::attribute;
use mcc_compress::layers;
use mcc_compress::loss::distance;
use mcc_compress::model::Model;
use mcc_compress::moments::moments;
use mcc_compress::recipe::{Activations, Prune, Quantize, Recipe, Rounding, Step};
use mcc_compress::recurrent;
use mcc_compress::session::{Session, compress};
use mcc_data::Samples;
use mcc_ir::{DType, Random, Tensor};
use mcc_proto::AttributeProto;

/// What a recurrent node is.
#[derive(Clone, Copy)]
struct Given {
    operator: &'static str,
    directions: usize,
    batch_first: bool,
    /// Whether it has initial states, lengths, a clip and coupled gates.
    special: bool,
    /// Whether the results that nothing uses have no name.
    unnamed: bool,
}

const PLAIN: Given = Given { operator: "LSTM", directions: 1, batch_first: false, special: false, unnamed: false };

const INPUTS: usize = 24;
const HIDDEN: usize = 20;

/// A recurrent node between two products, on three sequences of six steps.
fn network(given: Given) -> Model {
    let Given { operator, directions, batch_first, special, unnamed } = given;
    let gates = [("LSTM", 4), ("GRU", 3), ("RNN", 1)].iter().find(|g| g.0 == operator).unwrap().1;
    let shape = if batch_first { [3, 6, INPUTS as i64] } else { [6, 3, INPUTS as i64] };
    let state = if batch_first { [3, directions, HIDDEN] } else { [directions, 3, HIDDEN] };
    let rows = gates * HIDDEN;
    let mut inputs = vec!["x", "w", "r", "b"];
    if special {
        inputs.extend(["lengths", "h", "c"]);
    }
    if special && operator != "LSTM" {
        inputs.pop();
    }
    let lengths = Tensor::from_i64s(DType::I32, vec![3], &[6, 4, 1]).unwrap();
    Builder::new(11)
        .input("x", &shape)
        .weights("w", &[directions, rows, INPUTS])
        .weights("r", &[directions, rows, HIDDEN])
        .weights("b", &[directions, 2 * rows])
        .weights("h", &state)
        .weights("c", &state)
        .constant("lengths", &lengths)
        .node(operator, &inputs, "y", |n| {
            attribute::set_int(n, "hidden_size", HIDDEN as i64);
            attribute::set_int(n, "layout", i64::from(batch_first));
            n.attribute.push(AttributeProto {
                name: "direction".to_string(),
                s: Some((if directions == 2 { "bidirectional" } else { "reverse" }).into()),
                r#type: mcc_proto::attribute_proto::AttributeType::String as i32,
                ..Default::default()
            });
            if special && operator == "LSTM" {
                attribute::set_int(n, "input_forget", 1);
                attribute::set_float(n, "clip", 0.9);
            }
            if !unnamed {
                n.output.push("last".to_string());
                if operator == "LSTM" {
                    n.output.push("cell".to_string());
                }
            }
        })
        .output("y")
        .also(|b| match (unnamed, operator) {
            (true, _) => b,
            (false, "LSTM") => b.output("last").output("cell"),
            (false, _) => b.output("last"),
        })
        .model(17)
}

trait Also: Sized {
    fn also(self, f: impl FnOnce(Self) -> Self) -> Self {
        f(self)
    }
}

impl Also for Builder {}

fn shape(given: Given) -> [usize; 3] {
    if given.batch_first { [3, 6, INPUTS] } else { [6, 3, INPUTS] }
}

/// The session after a step, the loss of its file when that is read again, and the operators of that.
fn done(given: Given, step: Step) -> (Session, f64, Vec<String>) {
    let (samples, options) = (samples(&shape(given), 6), options());
    let setting = setting(&samples, &options);
    let model = network(given);
    let session = compress(model.clone(), &Recipe { steps: vec![step], ..Recipe::default() }, &setting).unwrap();
    let bytes = session.written().unwrap().encode().unwrap();
    let again = Model::new(mcc_proto::Message::decode(bytes).unwrap(), None).unwrap();
    let operators = again.nodes().iter().map(|n| n.op_type.clone()).collect();
    let loss = distance(&model, &again, &setting).unwrap();
    (session, loss, operators)
}

fn quantize(weights: &str, activations: Activations) -> Step {
    Step::Quantize(Quantize { weights: weights.parse().unwrap(), activations, ..Quantize::default() })
}

#[test]
fn lstm_of_bytes() {
    for directions in [1, 2] {
        for batch_first in [false, true] {
            for special in [false, true] {
                let given = Given { directions, batch_first, special, ..PLAIN };
                for activations in [Activations::Uint8, Activations::Dynamic] {
                    let (session, loss, operators) = done(given, quantize("int8", activations));
                    assert!(loss > 0.0 && loss < 0.03, "{directions} {batch_first} {special}: {loss}");
                    let count = operators.iter().filter(|o| *o == "DynamicQuantizeLSTM").count();
                    assert_eq!((count, operators.contains(&"LSTM".to_string())), (1, false), "{operators:?}");
                    assert_eq!(operators.contains(&"Transpose".to_string()), batch_first, "{operators:?}");
                    assert!(session.changes.iter().all(|c| (c.weight_bits, c.data_bits) == (8.0, 8)));
                }
            }
        }
    }
}

#[test]
fn results_without_names_have_layers_too() {
    let given = Given { unnamed: true, directions: 2, ..PLAIN };
    let (session, loss, _) = done(given, quantize("int8", Activations::Uint8));
    let of: Vec<String> = session.changes.iter().map(|c| c.of()).collect();
    assert_eq!(of, ["LSTM W", "LSTM R"]);
    assert!(loss < 0.03, "{loss}");
}

#[test]
fn others_have_codes_for_weights_only() {
    for operator in ["GRU", "RNN"] {
        let (session, loss, operators) =
            done(Given { operator, directions: 2, ..PLAIN }, quantize("int8", Activations::Uint8));
        assert!(loss > 0.0 && loss < 0.02, "{operator}: {loss}");
        assert_eq!(operators.iter().filter(|o| *o == "DequantizeLinear").count(), 2, "{operators:?}");
        assert!(
            session.changes.iter().all(|c| c.data_bits == 32 && c.reason.contains("LSTM")),
            "{:?}",
            session.changes
        );
    }
}

#[test]
fn every_type_of_weights() {
    for operator in ["LSTM", "GRU", "RNN"] {
        let given = Given { operator, directions: 2, special: true, ..PLAIN };
        for (weights, most) in
            [("int8", 0.02), ("int4", 0.2), ("int3", 0.4), ("codebook4", 0.2), ("f16", 0.002), ("bf16", 0.02)]
        {
            let (session, loss, operators) = done(given, quantize(weights, Activations::Float));
            assert!(loss > 0.0 && loss < most, "{operator} {weights}: {loss}");
            assert!(operators.contains(&operator.to_string()), "{operators:?}");
            // The model of the session has exactly the weights of the file.
            let (samples, options) = (samples(&shape(given), 2), options());
            let apart = distance(&session.model, &session.written().unwrap(), &setting(&samples, &options)).unwrap();
            assert!(apart < 1e-5, "{operator} {weights}: {apart}");
        }
    }
}

#[test]
fn a_missing_half_keeps_data_float() {
    // The weights of the states are given from outside.
    let model = Builder::new(3)
        .input("x", &[4, 1, 16])
        .input("r", &[1, 32, 8])
        .weights("w", &[1, 32, 16])
        .node("LSTM", &["x", "w", "r"], "y", |n| attribute::set_int(n, "hidden_size", 8))
        .output("y")
        .model(14);
    let mut random = mcc_ir::Random::new(2);
    let mut numbers = |shape: &[usize]| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| common::normal(&mut random) / 4.0).collect();
        Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()
    };
    let all = (0..4).map(|_| vec![numbers(&[4, 1, 16]), numbers(&[1, 32, 8])]).collect();
    let (samples, options) = (mcc_data::Samples::from_tensors(all), options());
    let setting = setting(&samples, &options);
    let recipe = Recipe { steps: vec![quantize("int8", Activations::Uint8)], ..Recipe::default() };
    let session = compress(model.clone(), &recipe, &setting).unwrap();
    assert_eq!(session.changes.len(), 1);
    assert!(session.changes[0].reason.contains("both W and R"), "{:?}", session.changes);
    assert!(distance(&model, &session.written().unwrap(), &setting).unwrap() < 0.02);
}

/// What a layer of states multiplies is the states of its own direction, whichever order the axes have.
#[test]
fn moments_of_states_are_those_of_each_direction() {
    for batch_first in [false, true] {
        let given = Given { directions: 2, batch_first, ..PLAIN };
        let (samples, options) = (samples(&shape(given), 1), options());
        let setting = setting(&samples, &options);
        let mut model = network(given);
        recurrent::name_results(&mut model);
        let found = layers::find(&model);
        assert_eq!((found[0].columns(), found[1].columns()), (INPUTS, HIDDEN));
        let seen = moments(&model, &found, &setting).unwrap();
        assert_eq!((seen[0].len(), seen[1].len()), (1, 2));
        let mut states = None;
        mcc_compress::observe::observe(&model, &["y"], &setting, &mut |_, values| {
            states = Some(values[0].clone());
            Ok(())
        })
        .unwrap();
        let states = states.unwrap();
        let numbers = states.to_f64s();
        for d in 0..2 {
            let place = |at: usize| {
                let row = at / HIDDEN;
                // [batch, steps, directions, hidden], or [steps, directions, batch, hidden].
                if batch_first { row % 2 == d } else { row / 3 % 2 == d }
            };
            let sum: f64 = numbers.iter().enumerate().filter(|(at, _)| place(*at)).map(|(_, v)| v * v).sum();
            let trace: f64 = (0..HIDDEN).map(|c| seen[1][d].gram[c * HIDDEN + c]).sum();
            assert!((trace - sum).abs() < 1e-3 * sum, "{d}: {trace} {sum}");
        }
    }
}

#[test]
fn rounding_looks_at_the_states() {
    let loss = |rounding: Rounding| {
        let step = Quantize {
            weights: "int3".parse().unwrap(),
            activations: Activations::Float,
            rounding,
            ..Quantize::default()
        };
        done(Given { directions: 2, ..PLAIN }, Step::Quantize(step)).0.changes[1].error
    };
    let [nearest, gptq] = [Rounding::Nearest, Rounding::Gptq].map(loss);
    assert!(gptq < nearest, "{nearest} {gptq}");
}

#[test]
fn both_weights_are_pruned_where_that_is_asked_for() {
    let step = |everywhere| Step::Prune(Prune { share: Some(0.6), everywhere, ..Prune::default() });
    let (session, loss, operators) = done(Given { directions: 2, ..PLAIN }, step(true));
    assert!(session.changes.iter().all(|c| (c.zeros - 0.6).abs() < 0.01), "{:?}", session.changes);
    assert!(loss > 0.0 && loss < 0.6 && operators.contains(&"LSTM".to_string()), "{loss} {operators:?}");
}

/// Samples whose rows are sums of a few: what one weight did, others can do.
fn related(shape: &[usize; 3], count: usize) -> Samples {
    const RANK: usize = 8;
    let mut random = Random::new(3);
    let mut numbers = |count: usize| -> Vec<f64> { (0..count).map(|_| random.real()).collect() };
    let rows: Vec<Vec<f64>> = (0..RANK).map(|_| numbers(shape[2])).collect();
    let mut row = || {
        let parts = numbers(RANK);
        (0..shape[2]).map(|n| parts.iter().zip(&rows).map(|(p, row)| p * row[n]).sum()).collect::<Vec<f64>>()
    };
    let mut sample = || (0..shape[0] * shape[1]).flat_map(|_| row()).collect::<Vec<f64>>();
    let tensor = |values: Vec<f64>| vec![Tensor::from_f64s(DType::F32, shape.to_vec(), &values).unwrap()];
    Samples::from_tensors((0..count).map(|_| tensor(sample())).collect())
}

/// Recovery trains both weights through time.
#[test]
fn both_weights_are_recovered() {
    for operator in ["LSTM", "GRU", "RNN"] {
        for special in [false, true] {
            let given = Given { operator, special, ..PLAIN };
            let (samples, options) = (related(&shape(given), 32), options());
            let setting = setting(&samples, &options);
            let teacher = compress(network(given), &Recipe::default(), &setting).unwrap().teacher;
            let damaged = pruned(&teacher, 0.5);
            let mut student = damaged.clone();
            let reasons = recovered(&teacher, &mut student, &samples);
            assert_eq!(zeros(&student), zeros(&damaged), "{operator} {special}");
            let loss = |model: &Model| distance(&teacher, model, &setting).unwrap();
            let (before, after) = (loss(&damaged), loss(&student));
            assert!(after < 0.8 * before, "{operator} {special}: {before} {after} {reasons:?}");
        }
    }
}
