//! Low rank: a layer as two smaller ones.
//!
//! The weights `W` become `U (U^T W)`, where `U` holds the directions of the output in which it varies most on the
//! samples: the eigenvectors of `W C W^T` with the covariance `C` of the layer's data. No other weights of that rank come
//! nearer to the layer's output (Yuan et al. 2023, ASVD; Wang et al. 2024, SVD-LLM: the singular vectors of `W C^(1/2)`).
//! What the mean of the data adds goes into the bias.
//!
//! Ranks are multiples of `STEP`, and are shared out by the whole model's multiply-adds: each goes where it saves most
//! error.

use std::collections::HashMap;

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::NodeProto;

use crate::attribute;
use crate::layers::{self, AutoPad, Kind, Layer, Window};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::moments::{Moments, by_gram_bytes, moments};
use crate::observe::{Setting, observe};
use crate::recipe::{LowRank, Scope};
use crate::session::{Change, Session};

/// Ranks are multiples of this: what kernels compute at once.
const STEP: usize = 16;

/// The part of its multiply-adds that a layer may keep at most, so that two layers are worth it.
const WORTH: f64 = 0.8;

/// Rounds of bisection for the price of a multiply-add.
const ROUNDS: usize = 60;

/// A layer's outputs by the directions in which they vary.
struct Spectrum {
    /// The layer.
    layer: Layer,
    /// Positions of its output in a sample.
    positions: usize,
    /// Directions, one a column, strongest first.
    directions: Mat<f64>,
    /// The output's energy along each.
    energies: Vec<f64>,
    /// The mean of the layer's data.
    means: Vec<f64>,
}

/// Whether a layer can become two.
fn is_possible(layer: &Layer) -> bool {
    let kind = matches!(layer.kind, Kind::Product { .. } | Kind::Conv(_));
    kind && layer.kind.groups() == 1 && layer.rows().min(layer.columns()) > 2 * STEP
}

/// Makes the layers that a step is for two each, where that saves.
///
/// # Errors
/// When so much cannot be saved, or the model does not compile or run.
pub fn run(session: &mut Session, step: &LowRank, setting: &Setting) -> Result<()> {
    let layers: Vec<Layer> = layers::find(&session.model).into_iter().filter(|l| l.recurrence().is_none()).collect();
    let positions = positions(&session.model, &layers, setting)?;
    let selected = session.selected(&step.selection(), is_possible)?;
    let mut spectra = Vec::new();
    for chunk in by_gram_bytes(&selected, Layer::gram_bytes) {
        setting.progress.begin("spectra of layers", setting.samples.len());
        for (layer, moments) in chunk.iter().zip(moments(&session.model, chunk, setting)?) {
            let positions = positions.get(&layer.output).copied().unwrap_or(0);
            spectra.push(Spectrum::new(&session.model, layer, &moments[0], positions)?);
        }
    }
    let work = |l: &Layer| positions.get(&l.output).map_or(0.0, |&p| (p * l.rows() * l.columns()) as f64);
    let ranks = match step.scope {
        Scope::Layer => ranks_of_each(&spectra, step.share)?,
        Scope::Global => ranks(&spectra, step.share, layers.iter().map(work).sum())?,
    };
    for (spectrum, rank) in spectra.iter().zip(ranks) {
        let Some(rank) = rank else { continue };
        let first = spectrum.split(&mut session.model, rank)?;
        let (error, whole) = (spectrum.error(rank).sqrt(), spectrum.layer.rows().min(spectrum.layer.columns()));
        session.change(&spectrum.layer.output, |c| (c.error, c.reason) = (error, format!("rank {rank} of {whole}")));
        let reason = format!("first half of \"{}\"", spectrum.layer.name);
        let operator =
            session.model.giver(&first).map_or("", |n| session.model.nodes()[n].op_type.as_str()).to_string();
        let (layer, output) = (first.clone(), first);
        let (zeros, weight_bits, data_bits) = (0.0, 32.0, 32);
        session.changes.push(Change {
            layer,
            operator,
            part: String::new(),
            output,
            zeros,
            weight_bits,
            data_bits,
            error,
            reason,
        });
    }
    Ok(())
}

/// The positions of each layer's output in a sample, by its name.
fn positions(model: &Model, layers: &[Layer], setting: &Setting) -> Result<HashMap<String, usize>> {
    let names: Vec<&str> = layers.iter().map(|l| l.output.as_str()).collect();
    let mut positions = HashMap::new();
    let one = setting.samples.take(1, 0);
    let setting = Setting { samples: &one, ..*setting };
    observe(model, &names, &setting, &mut |_, values| {
        let each = layers.iter().zip(values).map(|(l, v)| (l.output.clone(), v.numel() / l.rows()));
        positions.extend(each);
        Ok(())
    })?;
    Ok(positions)
}

impl Spectrum {
    /// The spectrum of a layer's outputs, from the moments of its data.
    ///
    /// # Errors
    /// When its weights have changed, or the eigenvalues do not converge.
    fn new(model: &Model, layer: &Layer, moments: &Moments, positions: usize) -> Result<Spectrum> {
        let matrix = layer.matrix(model)?;
        let (m, k) = (matrix.rows, matrix.columns);
        let w = Mat::<f64>::from_fn(m, k, |row, column| f64::from(matrix.data[row * k + column]));
        let count = moments.count.max(1) as f64;
        // Only a bias can take the mean.
        let means = if layer.bias.is_some() { moments.means.clone() } else { vec![0.0; k] };
        let gram = MatRef::from_row_major_slice(&moments.gram, k, k);
        let covariance = Mat::<f64>::from_fn(k, k, |i, j| gram[(i, j)] / count - means[i] * means[j]);
        let mut half = Mat::<f64>::zeros(m, k);
        matmul(half.as_mut(), Accum::Replace, w.as_ref(), covariance.as_ref(), 1.0, Par::rayon(0));
        let mut output = Mat::<f64>::zeros(m, m);
        matmul(output.as_mut(), Accum::Replace, half.as_ref(), w.transpose(), 1.0, Par::rayon(0));
        let (mut vectors, mut values) = (Mat::<f64>::zeros(m, m), Diag::<f64>::zeros(m));
        // One thread: the same bits on every machine with the same instructions.
        let (wanted, one) = (ComputeEigenvectors::Yes, Par::Seq);
        let room = self_adjoint_evd_scratch::<f64>(m, wanted, one, Default::default());
        let (target, mut room) = (Some(vectors.as_mut()), MemBuffer::new(room));
        self_adjoint_evd(output.as_ref(), values.as_mut(), target, one, MemStack::new(&mut room), Default::default())
            .map_err(|_| Error::internal(format!("eigenvalues of the outputs of \"{}\"", layer.name)))?;
        // They ascend.
        let energies = (0..m).map(|n| values.column_vector()[m - 1 - n].max(0.0)).collect();
        let directions = Mat::from_fn(m, m, |row, n| vectors[(row, m - 1 - n)]);
        Ok(Spectrum { layer: layer.clone(), positions, directions, energies, means })
    }

    /// Multiply-adds of a sample as the layer is.
    fn work(&self) -> f64 {
        (self.positions * self.layer.rows() * self.layer.columns()) as f64
    }

    /// Multiply-adds at a rank.
    fn work_at(&self, rank: usize) -> f64 {
        (self.positions * rank * (self.layer.rows() + self.layer.columns())) as f64
    }

    /// Ranks that are worth it.
    fn ranks(&self) -> impl Iterator<Item = usize> {
        (1..).map(|n| n * STEP).take_while(|&rank| self.work_at(rank) <= WORTH * self.work())
    }

    /// The relative squared error of the output at a rank.
    fn error(&self, rank: usize) -> f64 {
        let all: f64 = self.energies.iter().sum();
        self.energies[rank.min(self.energies.len())..].iter().sum::<f64>() / all.max(f64::MIN_POSITIVE)
    }

    /// The rank, or none, with the least error and price together.
    fn best(&self, price: f64) -> Option<usize> {
        let mut best = (price * self.work(), None);
        for rank in self.ranks() {
            let cost = self.error(rank) + price * self.work_at(rank);
            if cost < best.0 {
                best = (cost, Some(rank));
            }
        }
        best.1
    }

    /// Makes the layer two of a rank; gives the result of the first.
    ///
    /// # Errors
    /// When the layer is gone.
    fn split(&self, model: &mut Model, rank: usize) -> Result<String> {
        let (node, layer) = layers::again(model, &self.layer.output)?;
        let matrix = layer.matrix(model)?;
        let (m, k) = (matrix.rows, matrix.columns);
        let direction = |row: usize, n: usize| self.directions[(row, n)];
        let mut first = Matrix::zeros(rank, k);
        for n in 0..rank {
            let mut sums = vec![0.0f64; k];
            for row in 0..m {
                sums.iter_mut().zip(matrix.row(row)).for_each(|(s, &w)| *s += direction(row, n) * f64::from(w));
            }
            first.row_mut(n).iter_mut().zip(sums).for_each(|(f, s)| *f = s as f32);
        }
        let second = Matrix {
            rows: m,
            columns: rank,
            data: (0..m * rank).map(|at| direction(at / rank, at % rank) as f32).collect(),
        };
        if let Some(mut bias) = layer.bias(model) {
            for (row, bias) in bias.iter_mut().enumerate() {
                let mean =
                    |weights: &[f32]| weights.iter().zip(&self.means).map(|(&w, m)| f64::from(w) * m).sum::<f64>();
                let after: f64 = (0..rank).map(|n| direction(row, n) * mean(first.row(n))).sum();
                *bias = (f64::from(*bias) + mean(matrix.row(row)) - after) as f32;
            }
            layer.set_bias(model, &bias)?;
        }
        let between = model.fresh(&format!("{}_rank", layer.output));
        let weights =
            model.add_constant(&format!("{}_first", layer.weights), tensor(&first_layer(&layer, rank), &first)?);
        let stem = format!("{}_second", layer.weights);
        let weights_after = model.add_constant(&stem, tensor(&second_layer(&layer, rank), &second)?);
        let before = first_node(&model.nodes()[node], &layer, &weights, &between);
        model.edit_node(node, |n| {
            n.input[layer.input_slot] = between.clone();
            n.input[layer.weights_slot] = weights_after;
            if let Kind::Conv(window) = &layer.kind {
                let axes = window.kernel.len();
                n.attribute.retain(|a| a.name != "auto_pad");
                attribute::set_ints(n, "kernel_shape", vec![1; axes]);
                attribute::set_ints(n, "strides", vec![1; axes]);
                attribute::set_ints(n, "dilations", vec![1; axes]);
                attribute::set_ints(n, "pads", vec![0; 2 * axes]);
            }
        });
        model.add_nodes([before]);
        model.tidy()?;
        Ok(between)
    }
}

/// The node of the first layer: the same window and steps, without a bias.
fn first_node(node: &NodeProto, layer: &Layer, weights: &str, result: &str) -> NodeProto {
    let is_product = matches!(layer.kind, Kind::Product { .. });
    NodeProto {
        // Older versions of Gemm need a bias.
        op_type: if is_product { "MatMul".to_string() } else { node.op_type.clone() },
        domain: node.domain.clone(),
        name: result.to_string(),
        input: vec![layer.input.clone(), weights.to_string()],
        output: vec![result.to_string()],
        attribute: if is_product { Vec::new() } else { node.attribute.clone() },
        ..Default::default()
    }
}

/// The form of the first layer's weights.
fn first_layer(layer: &Layer, rank: usize) -> Layer {
    let mut first = layer.clone();
    match layer.kind {
        Kind::Product { .. } => {
            first.kind = Kind::Product { transposed: false };
            first.shape = vec![layer.columns(), rank];
        }
        Kind::Conv(_) | Kind::ConvTranspose(_) | Kind::Recurrent(_) => first.shape[layer.kind.row_axis()] = rank,
    }
    first
}

/// The form of the second layer's weights.
fn second_layer(layer: &Layer, rank: usize) -> Layer {
    let rows = layer.rows();
    let (kind, shape) = match &layer.kind {
        Kind::Product { transposed: true } => (layer.kind.clone(), vec![rows, rank]),
        Kind::Product { transposed: false } => (layer.kind.clone(), vec![rank, rows]),
        Kind::Conv(window) | Kind::ConvTranspose(window) => {
            let axes = window.kernel.len();
            let ones = vec![1; axes];
            let (kernel, strides, dilations) = (ones.clone(), ones.clone(), ones.clone());
            let pads = vec![0; 2 * axes];
            let window = Window { kernel, strides, dilations, pads, auto_pad: AutoPad::Explicit, groups: 1 };
            (Kind::Conv(window), [&[rows, rank][..], &ones].concat())
        }
        // Those stay: see `is_possible`.
        Kind::Recurrent(_) => (layer.kind.clone(), layer.shape.clone()),
    };
    Layer { kind, shape, ..layer.clone() }
}

/// The greatest rank with which each layer loses a share of its own multiply-adds.
///
/// # Errors
/// When no layer can lose so much.
fn ranks_of_each(spectra: &[Spectrum], share: f64) -> Result<Vec<Option<usize>>> {
    let of = |s: &Spectrum| s.ranks().take_while(|&rank| s.work_at(rank) <= (1.0 - share) * s.work()).last();
    let ranks: Vec<Option<usize>> = spectra.iter().map(of).collect();
    match ranks.iter().any(Option::is_some) {
        true => Ok(ranks),
        false => Err(Error::unsupported(format!("no layer has a rank that saves {:.0} %", 100.0 * share))
            .help(format!("ranks are multiples of {STEP}; give a smaller share"))),
    }
}

/// The ranks with which the layers lose a share of all multiply-adds, at the least sum of relative errors.
///
/// # Errors
/// When the least ranks do not save so much.
fn ranks(spectra: &[Spectrum], share: f64, all: f64) -> Result<Vec<Option<usize>>> {
    let at = |price: f64| -> Vec<Option<usize>> { spectra.iter().map(|s| s.best(price)).collect() };
    let saved = |ranks: &[Option<usize>]| -> f64 {
        let one = |(s, rank): (&Spectrum, &Option<usize>)| rank.map_or(0.0, |r| s.work() - s.work_at(r));
        spectra.iter().zip(ranks).map(one).sum()
    };
    let wanted = share * all;
    let (mut low, mut high) = (0.0, spectra.len().max(1) as f64);
    let most = saved(&at(high));
    if most < wanted {
        let part = 100.0 * most / all.max(1.0);
        return Err(Error::unsupported(format!("low rank saves at most {part:.0} % of the multiply-adds"))
            .help("give a smaller share, or prune"));
    }
    for _ in 0..ROUNDS {
        let middle = 0.5 * (low + high);
        if saved(&at(middle)) < wanted { low = middle } else { high = middle }
    }
    Ok(at(high))
}

/// Weights in a layer's own form.
fn tensor(layer: &Layer, matrix: &Matrix) -> Result<Tensor> {
    let values: Vec<f64> = matrix.data.iter().map(|&v| f64::from(v)).collect();
    layer.tensor(DType::F32, &values)
}
