//! Reads a model's inputs from files, writes its outputs to files.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use mcc::ir::{DType, Tensor};
use mcc::{Error, Result};
use mcc_data::files::is_file_name;
use mcc_data::{Port, npy};

use super::output;

/// Finds the file of each input: `NAME=FILE`, or unnamed files in the inputs' order. `None` if none is given.
pub fn assign(given: &[String], inputs: &[Port]) -> Result<Vec<Option<PathBuf>>> {
    let mut files = vec![None; inputs.len()];
    for text in given {
        // The longest name wins: a name may contain `=`.
        let named = inputs
            .iter()
            .enumerate()
            .filter(|(_, p)| text.strip_prefix(p.name.as_str()).is_some_and(|rest| rest.starts_with('=')))
            .max_by_key(|(_, p)| p.name.len());
        let (slot, file) = match named {
            Some((slot, p)) => (slot, &text[p.name.len() + 1..]),
            None if text.contains('=') && !Path::new(text).exists() => {
                let name = text.split('=').next().unwrap_or(text);
                return Err(Error::usage(format!("the model has no input {name:?}")).help(known(inputs)));
            }
            None => match files.iter().position(Option::is_none) {
                Some(slot) => (slot, text.as_str()),
                None => return Err(Error::usage(format!("{text}: more files than inputs")).help(known(inputs))),
            },
        };
        if files[slot].replace(PathBuf::from(file)).is_some() {
            return Err(Error::usage(format!("input {:?} is given twice", inputs[slot].name)));
        }
    }
    Ok(files)
}

/// Reads the inputs from `.npy` files; all must be given.
pub fn read_all(given: &[String], inputs: &[Port]) -> Result<Vec<Tensor>> {
    let files = assign(given, inputs)?;
    let missing: Vec<String> = inputs
        .iter()
        .zip(&files)
        .filter(|(_, f)| f.is_none())
        .map(|(p, _)| format!("{:?}: {}", p.name, p.ty))
        .collect();
    if !missing.is_empty() {
        let help = "give each as -i NAME=FILE.npy";
        return Err(Error::usage(format!("no data for input {}", missing.join(", "))).help(help));
    }
    inputs.iter().zip(files.into_iter().flatten()).map(|(p, f)| npy::read(&f, p.ty.dtype)).collect()
}

/// Stand-in for data that are not given: seeded noise for floats, ones for other types.
pub fn stand_in(port: &Port) -> Result<Tensor> {
    let Some(shape) = port.ty.fixed_shape() else {
        let help = "give its data with -i, or pin it with --shape or --dim";
        return Err(Error::usage(format!("input {:?} has no fixed shape: {}", port.name, port.ty)).help(help));
    };
    let count = shape.iter().product();
    if port.ty.dtype.is_float() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let noise: Vec<f64> = (0..count).map(|_| next_normal(&mut state)).collect();
        return Tensor::from_f64s(port.ty.dtype, shape, &noise);
    }
    Tensor::from_i64s(port.ty.dtype, shape, &vec![1; count])
}

/// Roughly normal: the sum of twelve uniform numbers.
fn next_normal(state: &mut u64) -> f64 {
    let mut uniform = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// Writes each output as `DIR/NAME.npy`, or as `DIR/output_N.npy` if the name is not a valid file name or not unique.
pub fn write_all<'a>(dir: &Path, outputs: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir.display(), &e))?;
    let mut taken: Vec<String> = Vec::new();
    for (n, (name, tensor)) in outputs.enumerate() {
        let plain = is_file_name(name) && !taken.iter().any(|t| t.eq_ignore_ascii_case(name));
        let mut stem = if plain { name.to_string() } else { format!("output_{n}") };
        while taken.contains(&stem) {
            stem.push('_');
        }
        let path = dir.join(format!("{stem}.npy"));
        output::write_with(&path, |file| npy::write_to(BufWriter::new(file), tensor))?;
        taken.push(stem);
    }
    Ok(())
}

/// One line per tensor: its type, range and first elements.
pub fn summary(tensor: &Tensor) -> String {
    let n = tensor.numel();
    let show = |i: usize| match tensor.dtype() {
        DType::Bool => (tensor.i64_at(i) != 0).to_string(),
        d if d.is_float() => format!("{:.6}", tensor.f64_at(i)),
        _ => tensor.i64_at(i).to_string(),
    };
    let first: Vec<String> = (0..n.min(10)).map(show).collect();
    let more = if n > 10 { ", ..." } else { "" };
    format!("{} [{}{more}]", tensor.ty(), first.join(", "))
}

fn known(inputs: &[Port]) -> String {
    let names: Vec<String> = inputs.iter().map(|p| format!("{:?}", p.name)).collect();
    format!("its inputs are {}", if names.is_empty() { "none".to_string() } else { names.join(", ") })
}

#[cfg(test)]
mod tests {
    use mcc::ir::TensorType;

    use super::*;

    #[test]
    fn files_find_their_inputs() {
        let port = |name: &str| Port { name: name.to_string(), ty: TensorType::fixed(DType::F32, &[1]) };
        let ports = [port("a"), port("a=b"), port("c:0")];
        let found = |given: &[&str]| assign(&given.iter().map(|g| g.to_string()).collect::<Vec<_>>(), &ports);
        let path = |p: &str| Some(PathBuf::from(p));
        assert_eq!(found(&["a=b=x.npy", "c:0=y=z.npy"]).unwrap(), [None, path("x.npy"), path("y=z.npy")]);
        assert_eq!(found(&["x.npy", "c:0=y.npy", "z.npy"]).unwrap(), [path("x.npy"), path("z.npy"), path("y.npy")]);
        assert!(found(&["d=x.npy"]).unwrap_err().to_string().contains("\"c:0\""));
        assert!(found(&["a=x.npy", "a=y.npy"]).is_err());
        assert!(found(&["1", "2", "3", "4"]).is_err());
    }

    #[test]
    fn outputs_find_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let t = Tensor::scalar_f64(DType::F32, 1.0);
        write_all(dir.path(), ["y", "a/b", "Y", "..", "z.1"].into_iter().map(|n| (n, &t))).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["output_1.npy", "output_2.npy", "output_3.npy", "y.npy", "z.1.npy"]);
    }
}
