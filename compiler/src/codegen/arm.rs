//! Runs objects for 64-bit Arm under qemu, for tests: linked with the generic driver of `tests/tools`.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{abi, tests::sh};
use crate::ir::Tensor;

/// The driver, compiled once a process.
fn driver() -> &'static Path {
    static DRIVER: OnceLock<TempDir> = OnceLock::new();
    let folder = DRIVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a directory");
        let files = [
            ("mcc.h", include_str!("../../../runtime/mcc.h")),
            ("drive.c", include_str!("../../../tests/tools/drive.c")),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).expect("written"));
        sh(folder.path(), "aarch64-linux-gnu-gcc -O1 -std=c11 -c -DMODEL=m_model -include mcc.h drive.c -o drive.o");
        folder
    });
    folder.path()
}

/// The outputs of an object whose symbols start with `m_`.
pub fn invoke(object: &[u8], inputs: &[Tensor], outputs: &[Tensor]) -> Vec<Tensor> {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m.o"), object).expect("written");
    let mut arguments = String::new();
    for (n, t) in inputs.iter().enumerate() {
        let mut bytes = (t.shape().len() as i32).to_le_bytes().to_vec();
        bytes.extend(abi::dtype_code(t.dtype()).0.to_le_bytes());
        t.shape().iter().for_each(|&d| bytes.extend((d as i64).to_le_bytes()));
        bytes.extend_from_slice(t.data());
        std::fs::write(path(&format!("in{n}")), bytes).expect("written");
        arguments += &format!(" in{n}");
    }
    arguments += " --";
    (0..outputs.len()).for_each(|n| arguments += &format!(" out{n}"));
    let driver = driver().join("drive.o");
    let link = format!("aarch64-linux-gnu-gcc -static -Wl,--wrap=malloc {} m.o -o main", driver.display());
    sh(folder.path(), &format!("{link} && qemu-aarch64 ./main{arguments}"));
    let read = |n: usize| {
        let bytes = std::fs::read(path(&format!("out{n}"))).expect("an output");
        let rank = i32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize;
        let dims = bytes[8..8 + 8 * rank].chunks_exact(8);
        let shape = dims.map(|d| i64::from_le_bytes(d.try_into().expect("8 bytes")) as usize).collect();
        Tensor::new(outputs[n].dtype(), shape, bytes[8 + 8 * rank..].to_vec().into()).expect("its size")
    };
    (0..outputs.len()).map(read).collect()
}
