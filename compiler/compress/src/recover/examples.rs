//! What a block reads and should give, sample by sample; for the whole model also of mixtures of samples.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mcc_data::Samples;
use mcc_ir::{Error, Result, Tensor, TensorType};

use super::blocks::Block;
use super::mix;
use super::part;
use super::program::{Data, Program};
use super::target::Wanted;
use super::train::Example;
use super::weights::Trained;
use super::{Course, Student};
use crate::model::Model;
use crate::observe::{Setting, Tap, observe};

/// Bytes that are held of what a block reads, and of what it gives; of larger samples fewer are used.
const HELD_BYTES: usize = 3 << 28;

/// What a block is trained with.
pub struct Material {
    /// Samples that are held in memory.
    pub examples: Vec<Example>,
    /// Makes more of them, for the whole model.
    pub maker: Option<Maker>,
}

/// Makes examples of mixtures of samples, as many as there are seeds: the teacher tells what they should give.
pub struct Maker {
    teacher: Tap,
    samples: Samples,
    /// Samples to mix: none is held out.
    among: Vec<usize>,
    ports: Ports,
    outputs: Vec<String>,
    programs: Programs,
}

/// The names that a block reads, the model's inputs first.
pub(super) struct Ports {
    /// The names.
    pub names: Vec<String>,
    /// Places of the model's inputs among all of them.
    places: Vec<usize>,
}

/// A block for samples of some types.
pub(super) type Programs = HashMap<Vec<TensorType>, Arc<Program>>;

impl Ports {
    /// Those of a block of a model.
    ///
    /// # Errors
    /// When it reads an input that the model does not have.
    pub fn new(student: &Model, block: &Block) -> Result<Ports> {
        let place = |name: &String| {
            let place = student.graph().input.iter().position(|i| i.name == *name);
            place.ok_or_else(|| Error::internal(format!("\"{name}\" is no input")))
        };
        let places = block.sides.iter().map(place).collect::<Result<_>>()?;
        Ok(Ports { names: block.sides.iter().chain(&block.inputs).cloned().collect(), places })
    }

    /// The model's inputs that the block reads, of a sample.
    pub fn sides(&self, sample: &[Tensor]) -> Vec<Tensor> {
        self.places.iter().map(|&p| sample[p].clone()).collect()
    }

    /// The elements of what a program reads.
    pub fn inputs(&self, program: &Program, read: Vec<Tensor>) -> BTreeMap<String, Data> {
        let inputs = self.names.iter().zip(read).filter(|(name, _)| program.reads(name));
        inputs.map(|(name, tensor)| (name.clone(), Data::from(tensor))).collect()
    }
}

impl Maker {
    /// The example of a seed; `None` if its sample has types that no program is for.
    ///
    /// # Errors
    /// When a sample cannot be read, or the teacher does not run on it.
    pub fn make(&self, seed: u64) -> Result<Option<Example>> {
        let sample = mix::drawn(&self.samples, &self.among, seed)?;
        let read = self.ports.sides(&sample);
        let types: Vec<TensorType> = read.iter().map(Tensor::ty).collect();
        let Some(program) = self.programs.get(&types) else { return Ok(None) };
        let wanted = Wanted::new(&self.teacher.run(&sample)?, &self.outputs, None)?;
        let inputs = self.ports.inputs(program, read);
        Ok(Some(Example { inputs, wanted, program: program.clone(), is_held: false }))
    }
}

impl Student<'_> {
    /// What the block reads in the student and gives in the teacher, sample by sample.
    pub(super) fn material(&self, course: &Course, layers: &[Trained], setting: &Setting) -> Result<Material> {
        let Block { inputs, outputs, .. } = course.block;
        let student = self.rounding()?;
        let ports = Ports::new(&student, course.block)?;
        let mut fixed: BTreeMap<String, TensorType> = BTreeMap::new();
        for layer in layers {
            fixed.extend(layer.data(None).into_iter().map(|(name, _)| name).map(|name| {
                let ty = student.constant(&name).map(Tensor::ty);
                (name, ty.unwrap_or(TensorType::fixed(mcc_ir::DType::F32, &[])))
            }));
        }
        let trained: BTreeSet<String> = fixed.keys().cloned().collect();
        let all: Vec<usize> = (0..setting.samples.len()).collect();
        setting.progress.begin("samples of a block", 2 * all.len());
        let read = gather(&student, inputs, &all, setting, &|n| Ok(ports.sides(&setting.samples.read(n)?)))?;
        let some: Vec<usize> = read.keys().copied().collect();
        let mut wanted = gather(self.teacher, outputs, &some, setting, &|_| Ok(Vec::new()))?;
        let mut programs = Programs::new();
        let mut examples = Vec::new();
        for (n, read) in read {
            let Some(wanted) = wanted.remove(&n) else { continue };
            let types: Vec<TensorType> = read.iter().map(Tensor::ty).collect();
            let program = match programs.get(&types) {
                Some(program) => program.clone(),
                None => {
                    let named = ports.names.iter().cloned().zip(types.iter().cloned()).chain(fixed.clone()).collect();
                    let made = part::program(&student, &named, outputs, &trained, setting.options)?;
                    programs.entry(types).or_insert(Arc::new(made)).clone()
                }
            };
            let inputs = ports.inputs(&program, read);
            let wanted = Wanted::new(&wanted, outputs, course.class(n))?;
            let is_held = course.holds_out(n);
            examples.push(Example { inputs, wanted, program, is_held });
        }
        let among: Vec<usize> = all.into_iter().filter(|&n| !course.holds_out(n)).collect();
        let maker = (course.whole && !among.is_empty()).then(|| {
            let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
            let teacher = Tap::new(self.teacher, &names, setting)?;
            let (samples, outputs) = (setting.samples.clone(), outputs.clone());
            Ok(Maker { teacher, samples, among, ports, outputs, programs })
        });
        Ok(Material { examples, maker: maker.transpose()? })
    }
}

/// Values of names on some samples, after others of each sample; of fewer samples, evenly spread, if they are large.
fn gather(
    model: &Model,
    names: &[String],
    among: &[usize],
    setting: &Setting,
    others: &dyn Fn(usize) -> Result<Vec<Tensor>>,
) -> Result<BTreeMap<usize, Vec<Tensor>>> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut kept, mut seen) = (among.len(), 0);
    let mut gathered = BTreeMap::new();
    let mut keep = |n: usize, values: &[Tensor]| -> Result<()> {
        if among.binary_search(&n).is_err() {
            return Ok(());
        }
        let mut sample = others(n)?;
        sample.extend(values.iter().cloned());
        if seen == 0 {
            let bytes: usize = sample.iter().map(|t| t.data().len()).sum();
            kept = kept.min((HELD_BYTES / bytes.max(1)).max(1));
        }
        if (seen + 1) * kept / among.len() > seen * kept / among.len() {
            gathered.insert(n, sample);
        }
        seen += 1;
        Ok(())
    };
    match names.is_empty() {
        true => among.iter().try_for_each(|&n| keep(n, &[]))?,
        false => observe(model, &names, setting, &mut keep)?,
    }
    Ok(gathered)
}
