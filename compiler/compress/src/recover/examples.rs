//! What a block reads and should give, sample by sample.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mcc_ir::{Error, Result, Tensor, TensorType};

use super::blocks::Block;
use super::part;
use super::program::{Data, Program};
use super::target::Wanted;
use super::train::Example;
use super::weights::Trained;
use super::{Course, Student};
use crate::model::Model;
use crate::observe::{Setting, observe};

/// Bytes that are held of what a block reads, and of what it gives; of larger samples fewer are used.
const HELD_BYTES: usize = 3 << 28;

impl Student<'_> {
    /// What the block reads in the student and gives in the teacher, sample by sample.
    pub(super) fn examples(&self, course: &Course, layers: &[Trained], setting: &Setting) -> Result<Vec<Example>> {
        let Block { inputs, sides, outputs, .. } = course.block;
        let student = self.rounding()?;
        let mut places: Vec<usize> = Vec::new();
        for name in sides {
            let place = student.graph().input.iter().position(|i| i.name == *name);
            places.push(place.ok_or_else(|| Error::internal(format!("\"{name}\" is no input")))?);
        }
        let names: Vec<String> = sides.iter().chain(inputs).cloned().collect();
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
        let read = gather(&student, inputs, &all, setting, &|n| {
            let sample = setting.samples.read(n)?;
            Ok(places.iter().map(|&p| sample[p].clone()).collect())
        })?;
        let some: Vec<usize> = read.keys().copied().collect();
        let mut wanted = gather(self.teacher, outputs, &some, setting, &|_| Ok(Vec::new()))?;
        let mut programs: HashMap<Vec<TensorType>, Arc<Program>> = HashMap::new();
        let mut examples = Vec::new();
        for (n, read) in read {
            let Some(wanted) = wanted.remove(&n) else { continue };
            let types: Vec<TensorType> = read.iter().map(Tensor::ty).collect();
            let program = match programs.get(&types) {
                Some(program) => program.clone(),
                None => {
                    let named = names.iter().cloned().zip(types.iter().cloned()).chain(fixed.clone()).collect();
                    let made = part::program(&student, &named, outputs, &trained, setting.options)?;
                    programs.entry(types).or_insert(Arc::new(made)).clone()
                }
            };
            let inputs = names.iter().zip(read).filter(|(name, _)| program.reads(name));
            let data = |tensor: Tensor| match tensor.to_f32s() {
                Some(floats) if tensor.dtype() == mcc_ir::DType::F32 => Data::Floats(Arc::new(floats)),
                _ => Data::Tensor(tensor),
            };
            let inputs = inputs.map(|(name, tensor)| (name.clone(), data(tensor))).collect();
            let wanted = Wanted::new(&wanted, outputs, course.class(n))?;
            let is_held = course.holds_out(n);
            examples.push(Example { inputs, wanted, program, is_held });
        }
        Ok(examples)
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
