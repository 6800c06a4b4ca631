//! The targets that tests compile for, and ways to run their code on any machine: in this process if possible, else
//! under qemu, linked with the generic driver of `tests/tools`.

pub mod kernel_cases;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use mcc_targets::{Arch, Feature, Target};
use object::{Object, ObjectSymbol};
use tempfile::TempDir;

use mcc_ir::{DType, Dim, Tensor, TensorType};
use mcc_kernel::kir::Kernel;
use mcc_kernel::program::{Place, Port, Program, Step, Work};
use mcc_loader::Model;

/// The targets that run under qemu.
pub fn emulated() -> Vec<Target> {
    let x86 = ["x86-64-v2", "x86-64-v3"].map(|cpu| ("x86_64-unknown-linux-gnu", cpu));
    let arm = ["generic", "generic+dotprod+i8mm"].map(|cpu| ("aarch64-unknown-linux-gnu", cpu));
    let all = x86.into_iter().chain(arm);
    all.map(|(triple, cpu)| Target::new(triple, Some(cpu)).expect("a known level")).collect()
}

/// The targets that every kernel is tested on: the emulated ones, and this machine with all its features.
pub fn machines() -> Vec<Target> {
    let mut targets = emulated();
    let here = Target::host(Some("native")).expect("the host is a target");
    if targets.iter().all(|t| (t.arch, t.features) != (here.arch, here.features)) {
        targets.push(here);
    }
    targets
}

/// Every level that this machine runs, and those of x86-64 that it does not run but qemu does.
pub fn levels() -> Vec<Target> {
    let others = emulated().into_iter().filter(|t| t.arch == Arch::X86_64 && !t.runs_here());
    Target::host_levels().into_iter().chain(others).collect()
}

/// The commands that link and run programs for a target.
pub fn tools(target: &Target) -> (&'static str, &'static str) {
    match target.arch {
        Arch::Aarch64 => ("aarch64-linux-gnu-gcc -static", "qemu-aarch64"),
        Arch::X86_64 if target.has(Feature::Avx2) => ("x86_64-linux-gnu-gcc -static", "qemu-x86_64 -cpu max"),
        Arch::X86_64 => ("x86_64-linux-gnu-gcc -static", "qemu-x86_64 -cpu Nehalem"),
    }
}

/// The driver's object file for a target, compiled once per process.
fn driver(link: &'static str) -> PathBuf {
    static DRIVERS: OnceLock<Mutex<HashMap<&'static str, TempDir>>> = OnceLock::new();
    let mut drivers = DRIVERS.get_or_init(Mutex::default).lock().expect("no test panics in here");
    let folder = drivers.entry(link).or_insert_with(|| {
        let folder = tempfile::tempdir().expect("a directory");
        let files = [
            ("mcc.h", include_str!("../../../runtime/mcc.h")),
            ("drive.c", include_str!("../../../tests/tools/drive.c")),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).expect("written"));
        sh(folder.path(), &format!("{link} -O1 -std=c11 -c -DMODEL=model -include mcc.h drive.c -o drive.o"));
        folder
    });
    folder.path().join("drive.o")
}

/// The outputs of a model's object, run here if this machine can, else under qemu.
pub fn invoke(target: &Target, object: &[u8], inputs: &[Tensor], outputs: &[Tensor]) -> Vec<Tensor> {
    if target.runs_here() {
        let model = Model::load(object).unwrap_or_else(|e| panic!("{e}"));
        return model.invoke(inputs).unwrap_or_else(|e| panic!("{}: {e}", target.cpu_name()));
    }
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m.o"), object).expect("written");
    let mut arguments = String::new();
    for (n, t) in inputs.iter().enumerate() {
        let mut bytes = (t.shape().len() as i32).to_le_bytes().to_vec();
        bytes.extend(t.dtype().code().to_le_bytes());
        t.shape().iter().for_each(|&d| bytes.extend((d as i64).to_le_bytes()));
        bytes.extend_from_slice(t.data());
        std::fs::write(path(&format!("in{n}")), bytes).expect("written");
        arguments += &format!(" in{n}");
    }
    arguments += " --";
    (0..outputs.len()).for_each(|n| arguments += &format!(" out{n}"));
    let (link, run) = tools(target);
    let (driver, model) = (driver(link), descriptor(object));
    let link = format!("{link} -Wl,--wrap=malloc,--defsym=model={model} {} m.o -o main", driver.display());
    sh(folder.path(), &format!("{link} && {run} ./main{arguments}"));
    let read = |n: usize| {
        let bytes = std::fs::read(path(&format!("out{n}"))).expect("an output");
        let rank = i32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize;
        let dims = bytes[8..8 + 8 * rank].chunks_exact(8);
        let shape = dims.map(|d| i64::from_le_bytes(d.try_into().expect("8 bytes")) as usize).collect();
        Tensor::new(outputs[n].dtype(), shape, bytes[8 + 8 * rank..].to_vec().into()).expect("its size")
    };
    (0..outputs.len()).map(read).collect()
}

/// The name of a model's descriptor.
fn descriptor(object: &[u8]) -> String {
    let file = object::File::parse(object).expect("an object");
    let names = file.symbols().filter(|s| s.is_global()).filter_map(|s| s.name().ok().map(str::to_string));
    names.into_iter().find(|name| name.ends_with("_model")).expect("a descriptor")
}

/// Runs a command that must succeed; returns its output.
pub fn sh(dir: &std::path::Path, command: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", command]).current_dir(dir).output().expect("sh runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A port.
pub fn port(name: &str, ty: TensorType) -> Port {
    Port { name: name.to_string(), c_name: name.to_string(), ty }
}

/// A port of a number of bytes.
pub fn bytes_port(name: &str, bytes: usize) -> Port {
    port(name, TensorType::fixed(DType::U8, &[bytes]))
}

/// A program of one kernel with one output of a number of bytes.
pub fn program(kernel: Kernel, inputs: &[usize], output: usize) -> Program {
    let mut args: Vec<Place> = (0..inputs.len()).map(Place::Input).collect();
    args.push(Place::Output(0));
    Program {
        name: "t".to_string(),
        inputs: inputs.iter().enumerate().map(|(i, &n)| bytes_port(&format!("i{i}"), n)).collect(),
        outputs: vec![bytes_port("o", output)],
        symbols: Vec::new(),
        requires: Vec::new(),
        constants: Vec::new(),
        kernels: vec![kernel],
        steps: vec![Step::Call { kernel: 0, args, label: "t".to_string(), work: Work::default(), shared: None }],
        arena_bytes: Dim::ZERO,
        live_bytes: Dim::ZERO,
        traced: false,
        checked: cfg!(debug_assertions),
        threads: 1,
        weights_id: None,
        decisions: Vec::new(),
    }
}
