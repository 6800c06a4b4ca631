//! What is trained: weights that are not zero, roundings and scales of codes, and biases.

use std::sync::Arc;

use mcc_ir::{DType, Result};

use super::program::Data;
use super::spread::Spread;
use crate::layers::{Kind, Layer};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::quantize::grid::{Grid, single};
use crate::quantize::weights::{Codes, Form};

/// How fast weights change a step: a part of what they are on the average if inputs and results deviate by 1, or of
/// their root mean square where that is not known.
const WEIGHT_RATE: f32 = 0.01;

/// How fast biases change a step: a part of the deviation of their results.
const BIAS_RATE: f32 = 0.01;

/// How fast the logarithms of scales change a step.
const SCALE_RATE: f32 = 3e-4;

/// How fast roundings move between the code below (0) and the one above (1) a step.
const ROUNDING_RATE: f32 = 0.01;

/// The part of the steps during which rates rise.
const WARM: f32 = 0.05;

/// The softness of roundings at first, where they are nearly what they stand for, and at last, where they are decided.
const SOFTNESS: [f32; 2] = [0.25, 0.02];

/// How far weights lie from the border between two codes at least, so that training begins with the codes given.
const MARGIN: f64 = 0.49;

/// Numbers that gradient descent changes (Adam; Kingma and Ba 2015).
#[derive(Clone)]
struct Numbers {
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// How far each goes in a step.
    rates: Arc<Vec<f32>>,
}

impl Numbers {
    fn new(values: Vec<f32>, rates: Vec<f32>) -> Numbers {
        let zeros = vec![0.0; values.len()];
        Numbers { values, first: zeros.clone(), second: zeros, rates: Arc::new(rates) }
    }

    /// All go equally far.
    fn alike(values: Vec<f32>, rate: f32) -> Numbers {
        let rates = vec![rate; values.len()];
        Numbers::new(values, rates)
    }

    fn descend(&mut self, gradient: &[f32], moment: &Moment) {
        const DECAY: [f32; 2] = [0.9, 0.999];
        const TINY: f32 = 1e-34;
        let pace = moment.pace();
        let [a, b] = DECAY.map(|decay| 1.0 - decay.powi(moment.step as i32 + 1));
        let state = self.first.iter_mut().zip(&mut self.second).zip(self.rates.iter());
        for ((value, ((m, v), rate)), &g) in self.values.iter_mut().zip(state).zip(gradient) {
            *m = DECAY[0] * *m + (1.0 - DECAY[0]) * g;
            *v = DECAY[1] * *v + (1.0 - DECAY[1]) * g * g;
            if *v > TINY {
                *value -= rate * pace * (*m / a) / (*v / b).sqrt();
            }
        }
    }
}

/// How far training is.
#[derive(Clone, Copy)]
pub struct Moment {
    /// The number of the step.
    pub step: usize,
    /// Of how many.
    pub of: usize,
    /// The part of the usual rates.
    pub rate: f32,
}

impl Moment {
    /// The part of the rates: it rises for some steps, and then falls to 0 as a cosine.
    fn pace(&self) -> f32 {
        let part = self.step as f32 / self.of.max(1) as f32;
        let warm = ((self.step + 1) as f32 / (WARM * self.of as f32)).min(1.0);
        self.rate * warm * 0.5 * (1.0 + (std::f32::consts::PI * part).cos())
    }

    /// How soft roundings are.
    fn softness(&self) -> f32 {
        let part = self.step as f32 / self.of.max(1) as f32;
        SOFTNESS[0] * (SOFTNESS[1] / SOFTNESS[0]).powf(part)
    }
}

/// The weights of a layer under training.
#[derive(Clone)]
pub struct Trained {
    /// The layer.
    pub layer: Layer,
    /// For each element of the file's tensor, its place in the matrix.
    places: Vec<usize>,
    weights: Weights,
    bias: Option<Numbers>,
    /// The means of the columns that the layer reads, if they are known: without them a change of a weight would also be
    /// one of the bias.
    means: Arc<Vec<f32>>,
}

#[derive(Clone)]
enum Weights {
    /// Zeros stay zeros.
    Floats(Numbers),
    /// Entries of tables and 16-bit floats stay.
    Fixed(Vec<f32>),
    Codes(Box<Rounded>),
}

/// Codes between the one below each weight and the one above (AdaRound; Nagel et al. 2020), and their scales (LSQ;
/// Esser et al. 2020).
#[derive(Clone)]
struct Rounded {
    grid: Grid,
    columns: usize,
    below: Vec<f32>,
    /// How far above; more than one half is rounded up.
    above: Numbers,
    /// Weights that stay zero.
    zero: Vec<bool>,
    /// Logarithms of what scales are multiplied by.
    scales: Numbers,
}

impl Rounded {
    fn new(grid: &Grid, codes: &[i32], given: &Matrix) -> Rounded {
        let columns = given.columns;
        let position = |(at, (&w, &c)): (usize, (&f32, &i32))| {
            let scale = grid.scales[grid.runs.place(at, columns)];
            let position = f64::from(w) / scale;
            position.clamp(f64::from(c) - MARGIN, f64::from(c) + MARGIN)
        };
        let positions: Vec<f64> = given.data.iter().zip(codes).enumerate().map(position).collect();
        let above = positions.iter().map(|p| (p - p.floor()) as f32).collect();
        Rounded {
            columns,
            below: positions.iter().map(|p| p.floor() as f32).collect(),
            above: Numbers::alike(above, ROUNDING_RATE),
            zero: given.data.iter().map(|&w| w == 0.0).collect(),
            scales: Numbers::alike(vec![0.0; grid.scales.len()], SCALE_RATE),
            grid: grid.clone(),
        }
    }

    /// The number of a weight's scale.
    fn block(&self, at: usize) -> usize {
        self.grid.runs.place(at, self.columns)
    }

    /// The scales as they are.
    fn scales(&self) -> Vec<f64> {
        let scale = |(given, factor): (&f64, &f32)| single(given * f64::from(*factor).exp());
        self.grid.scales.iter().zip(&self.scales.values).map(scale).collect()
    }

    /// What weights are as files have them: for each, its place in the matrix is given.
    fn weights(&self, places: &[usize], soft: Option<f32>) -> Vec<f32> {
        let scales = self.scales();
        let weight = |&at: &usize| (f64::from(self.code(at, soft)) * scales[self.block(at)]) as f32;
        places.iter().map(weight).collect()
    }

    /// The code of a weight, between two if roundings are soft.
    fn code(&self, at: usize, soft: Option<f32>) -> f32 {
        if self.zero[at] {
            return 0.0;
        }
        let above = self.above.values[at];
        let up = soft.map_or(f32::from(u8::from(above > 0.5)), |soft| logistic(above, soft));
        (self.below[at] + up).clamp(Grid::lowest(self.grid.bits) as f32, Grid::highest(self.grid.bits) as f32)
    }

    fn descend(&mut self, gradient: &[f32], moment: &Moment) {
        let soft = moment.softness();
        let mut by_above = vec![0.0; gradient.len()];
        let mut by_scale = vec![0.0f32; self.scales.values.len()];
        let (lowest, highest) = (Grid::lowest(self.grid.bits) as f32, Grid::highest(self.grid.bits) as f32);
        let scales = self.scales();
        for (at, &g) in gradient.iter().enumerate().filter(|(at, _)| !self.zero[*at]) {
            let block = self.block(at);
            let scale = scales[block] as f32;
            by_scale[block] += g * scale * self.code(at, Some(soft));
            let up = logistic(self.above.values[at], soft);
            if (lowest..=highest).contains(&(self.below[at] + up)) {
                by_above[at] = g * scale * up * (1.0 - up) / soft;
            }
        }
        self.above.descend(&by_above, moment);
        self.above.values.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        self.scales.descend(&by_scale, moment);
    }

    fn decided(&self) -> Codes {
        let mut grid = self.grid.clone();
        grid.scales = self.scales();
        Codes { form: Form::Steps(grid), codes: (0..self.below.len()).map(|at| self.code(at, None) as i32).collect() }
    }
}

fn logistic(above: f32, soft: f32) -> f32 {
    1.0 / (1.0 + (-(above - 0.5) / soft).exp())
}

fn root_mean_square(values: &[f32]) -> f32 {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let count = values.iter().filter(|v| **v != 0.0).count();
    (squares / count.max(1) as f64).sqrt() as f32
}

impl Trained {
    /// A layer of a model, with its codes and the weights that they were made from.
    ///
    /// # Errors
    /// When the layer's weights have changed since it was found.
    pub fn new(
        model: &Model,
        layer: &Layer,
        codes: Option<&Codes>,
        given: Option<&Matrix>,
        spread: Option<&Spread>,
    ) -> Result<Trained> {
        let matrix = layer.matrix(model)?;
        let numbers: Vec<f64> = (0..matrix.data.len()).map(|n| n as f64).collect();
        let places = layer.tensor(DType::F64, &numbers)?.to_f64s().into_iter().map(|p| p as usize).collect();
        let size = root_mean_square(&matrix.data);
        let rates = |rows: usize| match spread {
            Some(spread) => spread.rows.iter().map(|deviation| BIAS_RATE * deviation).collect(),
            None => vec![BIAS_RATE * size * (layer.columns() as f32).sqrt(); rows],
        };
        let fits = |given: &&Matrix| given.data.len() == matrix.data.len();
        let weights = match codes.map(|codes| (&codes.form, &codes.codes)) {
            None => match spread {
                Some(spread) => Weights::Floats(Numbers::new(matrix.data, spread.rates(layer, WEIGHT_RATE))),
                None => Weights::Floats(Numbers::alike(matrix.data, WEIGHT_RATE * size)),
            },
            Some((Form::Steps(grid), codes)) => {
                let mut rounded = Rounded::new(grid, codes, given.filter(fits).unwrap_or(&matrix));
                if matches!(layer.kind, Kind::ConvTranspose(_)) && layer.kind.groups() > 1 {
                    // Groups share scales.
                    rounded.scales.rates = Arc::new(vec![0.0; rounded.scales.values.len()]);
                }
                Weights::Codes(Box::new(rounded))
            }
            Some((Form::Table(_) | Form::Half(_), _)) => Weights::Fixed(matrix.data),
        };
        let bias = layer.bias(model).map(|bias| {
            let rates = rates(bias.len());
            Numbers::new(bias, rates)
        });
        let means = Arc::new(spread.filter(|_| bias.is_some()).map_or_else(Vec::new, |spread| spread.means.clone()));
        Ok(Trained { layer: layer.clone(), places, weights, bias, means })
    }

    /// The names that are trained with their elements, as they are at a moment, or at last.
    pub fn data(&self, moment: Option<&Moment>) -> Vec<(String, Data)> {
        let soft = moment.map(Moment::softness);
        let weights = match &self.weights {
            Weights::Floats(numbers) => self.places.iter().map(|&at| numbers.values[at]).collect(),
            Weights::Fixed(values) => self.places.iter().map(|&at| values[at]).collect(),
            Weights::Codes(codes) => codes.weights(&self.places, soft),
        };
        let mut data = vec![(self.layer.weights.clone(), Data::Floats(Arc::new(weights)))];
        if let (Some(bias), Some(name)) = (&self.bias, self.bias_name()) {
            data.push((name.to_string(), Data::Floats(Arc::new(bias.values.clone()))));
        }
        data
    }

    /// The bias's name.
    pub fn bias_name(&self) -> Option<&str> {
        self.layer.bias.as_ref()?.name.as_deref()
    }

    /// Multiplies the result's channels by factors, and adds to them, if there is a bias to do so.
    pub fn adjust(&mut self, ways: &[[f32; 2]]) {
        let is_fixed = match &self.weights {
            Weights::Codes(codes) => codes.scales.rates.iter().all(|&rate| rate == 0.0),
            Weights::Fixed(_) => true,
            Weights::Floats(_) => false,
        };
        let (Some(bias), columns, false) = (&mut self.bias, self.layer.columns(), is_fixed) else { return };
        for (row, (bias, [factor, shift])) in bias.values.iter_mut().zip(ways).enumerate() {
            *bias = *bias * factor + shift;
            match &mut self.weights {
                Weights::Fixed(_) => {}
                Weights::Floats(numbers) => {
                    numbers.values[row * columns..][..columns].iter_mut().for_each(|w| *w *= factor);
                }
                Weights::Codes(codes) => {
                    let blocks = codes.grid.runs.count(columns);
                    codes.scales.values[row * blocks..][..blocks].iter_mut().for_each(|s| *s += factor.ln());
                }
            }
        }
    }

    /// Changes what is trained by the gradients by the weights and the bias, as the file has them.
    pub fn descend(&mut self, weights: Option<&[f32]>, bias: Option<&[f32]>, moment: &Moment) {
        if let Some(gradient) = weights {
            let mut by_place = vec![0.0; gradient.len()];
            self.places.iter().zip(gradient).for_each(|(&place, &g)| by_place[place] = g);
            match &mut self.weights {
                Weights::Fixed(_) => {}
                Weights::Codes(codes) => codes.descend(&by_place, moment),
                Weights::Floats(numbers) => {
                    let (columns, groups) = (self.layer.columns(), self.layer.kind.groups());
                    let row = |row: usize| row * columns..(row + 1) * columns;
                    let centered = (!self.means.is_empty()).then_some(bias).flatten();
                    let means = |r: usize| &self.means[row(r * groups / self.layer.rows())];
                    for (r, &by_bias) in centered.into_iter().flatten().enumerate() {
                        by_place[row(r)].iter_mut().zip(means(r)).for_each(|(g, mean)| *g -= by_bias * mean);
                    }
                    by_place.iter_mut().zip(&numbers.values).filter(|(_, w)| **w == 0.0).for_each(|(g, _)| *g = 0.0);
                    let before = centered.map(|_| numbers.values.clone()).unwrap_or_default();
                    numbers.descend(&by_place, moment);
                    let biases = self.bias.iter_mut().filter(|_| centered.is_some()).flat_map(|b| &mut b.values);
                    for (r, value) in biases.enumerate() {
                        let moved =
                            numbers.values[row(r)].iter().zip(&before[row(r)]).map(|(now, before)| now - before);
                        *value -= moved.zip(means(r)).map(|(moved, mean)| moved * mean).sum::<f32>();
                    }
                }
            }
        }
        if let (Some(numbers), Some(gradient)) = (&mut self.bias, bias) {
            numbers.descend(gradient, moment);
        }
    }

    /// Puts what was trained into the model, and gives the codes if weights are codes.
    ///
    /// # Errors
    /// When the layer is gone.
    pub fn write(&self, model: &mut Model) -> Result<Option<Codes>> {
        if let (Some(bias), true) = (&self.bias, self.bias_name().is_some()) {
            self.layer.set_bias(model, &bias.values)?;
        }
        let (rows, columns) = (self.layer.rows(), self.layer.columns());
        match &self.weights {
            Weights::Floats(numbers) => {
                self.layer.set_matrix(model, &Matrix { rows, columns, data: numbers.values.clone() })?;
                Ok(None)
            }
            Weights::Fixed(_) => Ok(None),
            Weights::Codes(rounded) => {
                let codes = rounded.decided();
                self.layer.set_matrix(model, &codes.weights(&Matrix::zeros(rows, columns)))?;
                Ok(Some(codes))
            }
        }
    }
}
