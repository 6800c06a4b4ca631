//! Finds the samples in what a user gives as data: files and folders, in any of the forms that [`crate::Samples`] lists.

use std::path::{Path, PathBuf};

use mcc_ir::{Error, Result};

use crate::array::Array;
use crate::files::{Kind, Listing, below, is_file_name, list, relative};
use crate::fit::{self, Part, Prefer};
use crate::item::{Found, Item, Source};
use crate::{Port, pb};

/// The samples of tensors in `data`, for these inputs.
pub fn tensors(data: &[PathBuf], inputs: &[Port]) -> Found {
    let mut found = Found::default();
    let mut given = Listing::default();
    for path in data {
        match std::fs::metadata(path) {
            Err(e) => found.faults.push(Error::io(path.display(), &e)),
            Ok(meta) if meta.is_dir() => match folder(path, path, inputs, &mut found) {
                Ok(()) => {}
                Err(e) => found.faults.push(e),
            },
            Ok(_) => given.files.push(path.clone()),
        }
    }
    if !given.files.is_empty() {
        listing(&given, Path::new(""), Path::new(""), inputs, &mut found);
        let names = |kind| given.of(kind).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        for kind in [Kind::Image, Kind::Sound, Kind::Other] {
            found.faults.extend(names(kind).into_iter().map(|name| no_tensors(&name, kind)));
        }
    }
    found
}

/// The samples in a folder below `root`, which the user gave.
fn folder(path: &Path, root: &Path, inputs: &[Port], found: &mut Found) -> Result<()> {
    let here = list(path)?;
    if path.file_name().is_some_and(|name| pb::numbered(Path::new(name), "test_data_set_").is_some()) {
        found.keep(data_set(path, inputs));
        return Ok(());
    }
    let before = found.items.len() + found.faults.len();
    listing(&here, path, root, inputs, found);
    let sets = pb::data_sets(path)?;
    sets.iter().for_each(|set| found.keep(data_set(set, inputs)));
    let others: Vec<&PathBuf> = here.folders.iter().filter(|f| !sets.contains(f)).collect();
    // Folders below a folder of tensors hold something else.
    if found.items.len() + found.faults.len() == before {
        others.iter().try_for_each(|below| folder(below, root, inputs, found))?;
    }
    if path == root && found.items.len() + found.faults.len() == before {
        let other = below(path, &|_| true)?;
        let kind = other.iter().map(|path| Kind::of(path)).find(|k| matches!(k, Kind::Image | Kind::Sound));
        return Err(no_tensors(&path.display().to_string(), kind.unwrap_or(Kind::Other)));
    }
    Ok(())
}

fn no_tensors(what: &str, kind: Kind) -> Error {
    let error = |text: &str| Error::invalid(format!("{what}: {text}"));
    match kind {
        Kind::Image => error("pictures are not tensors")
            .help("say how they become the input with --preprocess FILE.toml: source = \"image\", then steps"),
        Kind::Sound => error("sound is not a tensor")
            .help("say how it becomes the input with --preprocess FILE.toml: source = \"sound\", then steps"),
        _ => error("no samples found").help(
            "data is .npy, .npz or test_data_set_N/input_M.pb, or pictures, sound or text with --preprocess FILE.toml",
        ),
    }
}

/// The samples in the files of a listing.
fn listing(here: &Listing, path: &Path, root: &Path, inputs: &[Port], found: &mut Found) {
    for archive in here.of(Kind::Npz) {
        found.keep(archive_samples(archive, &relative(archive, root), inputs));
    }
    let arrays = here.of(Kind::Npy);
    // A folder that is named after a sample holds the inputs by their names.
    let named = |port: &Port| arrays.iter().any(|file| file.file_stem().is_some_and(|stem| *stem == *port.name));
    match inputs {
        _ if arrays.is_empty() => {}
        [port] if path == root || !named(port) => {
            for file in arrays {
                let samples = |array| items(&relative(file, root), vec![array], inputs, Prefer::Stacked);
                found.keep(Array::npy(file).and_then(samples));
            }
        }
        _ => {
            let prefer = if path == root { Prefer::Stacked } else { Prefer::Whole };
            found.keep(by_name(&arrays, path, &folder_name(path, root), inputs, prefer));
        }
    }
    let serialized = here.of(Kind::Pb);
    if serialized.iter().any(|path| pb::numbered(path, "input_").is_some()) {
        match path == Path::new("") {
            false => found.keep(data_set(path, inputs)),
            true => found.keep(serialized_files(&serialized, inputs)),
        }
    }
}

/// A folder's name for its samples.
fn folder_name(path: &Path, root: &Path) -> String {
    match path.file_name() {
        Some(name) if path == root => name.to_string_lossy().into_owned(),
        _ => relative(path, root),
    }
}

/// The files `NAME.npy` of several inputs.
fn by_name(files: &[&PathBuf], folder: &Path, name: &str, inputs: &[Port], prefer: Prefer) -> Result<Vec<Item>> {
    let stem = |n: usize, port: &Port| match is_file_name(&port.name) {
        true => port.name.clone(),
        false => format!("input_{n}"),
    };
    let (mut arrays, mut faults) = (Vec::new(), Vec::new());
    for (n, port) in inputs.iter().enumerate() {
        let stem = stem(n, port);
        match files.iter().find(|file| file.file_stem().is_some_and(|s| *s == *stem)) {
            Some(file) => match Array::npy(file) {
                Ok(array) => arrays.push(array),
                Err(e) => faults.push(e),
            },
            None => {
                let have: Vec<String> = files.iter().map(|file| relative(file, folder)).collect();
                let text = format!("{}: no {stem}.npy for input {:?}: {}", folder.display(), port.name, port.ty);
                faults.push(Error::invalid(text).help(format!("there are {}", few(&have))));
            }
        }
    }
    Error::all(faults).map_or_else(|| items(name, arrays, inputs, prefer), Err)
}

/// The samples in a `.npz` file, whose arrays are named after the inputs, or in their order.
fn archive_samples(file: &Path, name: &str, inputs: &[Port]) -> Result<Vec<Item>> {
    let mut arrays = Array::npz(file)?;
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    // NumPy names arrays without a name `arr_0`, `arr_1` and so on.
    let nameless = !names.is_empty() && names.iter().all(|name| name.starts_with("arr_"));
    let single = inputs.len() == 1 && names.len() == 1;
    let (mut taken, mut faults) = (Vec::new(), Vec::new());
    for (n, port) in inputs.iter().enumerate() {
        let wanted = match nameless && !names.contains(&port.name) {
            true => format!("arr_{n}"),
            false => port.name.clone(),
        };
        match arrays.iter().position(|(name, _)| *name == wanted || single) {
            Some(at) => taken.push(arrays.swap_remove(at).1),
            None => {
                let text = format!("{}: no array for input {:?}: {}", file.display(), port.name, port.ty);
                faults.push(Error::invalid(text).help(format!("its arrays are {}", few(&names))));
            }
        }
    }
    Error::all(faults).map_or_else(|| items(name, taken, inputs, Prefer::Stacked), Err)
}

/// The sample in a folder `test_data_set_N`.
fn data_set(folder: &Path, inputs: &[Port]) -> Result<Vec<Item>> {
    let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
    let tensors = pb::read_files(folder, "input", &names)?;
    let (mut arrays, mut faults) = (Vec::new(), Vec::new());
    for (tensor, port) in tensors.into_iter().zip(inputs) {
        match tensor {
            Some((file, tensor)) => arrays.push(Array::pb(&file, &tensor)),
            None => {
                let text = format!("{}: no data for input {:?}: {}", folder.display(), port.name, port.ty);
                faults.push(Error::invalid(text));
            }
        }
    }
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Error::all(faults).map_or_else(|| items(&name, arrays, inputs, Prefer::Whole), Err)
}

/// Serialized tensors that a caller names: each is a sample of a model with one input.
fn serialized_files(serialized: &[&PathBuf], inputs: &[Port]) -> Result<Vec<Item>> {
    let mut all = Vec::new();
    for file in serialized {
        let (_, tensor) = pb::read_tensor(file).map_err(|e| e.within(file.display().to_string()))?;
        if inputs.len() != 1 {
            let text = format!("{}: the model has {} inputs", file.display(), inputs.len());
            return Err(Error::invalid(text).help("give the folder, which has a file for each"));
        }
        all.extend(items(&file.display().to_string(), vec![Array::pb(file, &tensor)], inputs, Prefer::Stacked)?);
    }
    Ok(all)
}

/// The samples in one array per input.
fn items(name: &str, arrays: Vec<Array>, inputs: &[Port], prefer: Prefer) -> Result<Vec<Item>> {
    let samples = fit::samples(arrays, inputs, prefer)?;
    let several = samples.len() > 1;
    let named = |(n, parts): (usize, Vec<Part>)| {
        let name = match (several, name.is_empty()) {
            (true, true) => format!("sample {n}"),
            (true, false) => format!("{name} [{n}]"),
            (false, true) => "the sample".to_string(),
            (false, false) => name.to_string(),
        };
        Item { name, source: Source::Parts(parts) }
    };
    Ok(samples.into_iter().enumerate().map(named).collect())
}

/// The first of some names.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_string(),
        n if n > SHOWN => format!("{shown} and {} more", n - SHOWN),
        _ => shown,
    }
}
