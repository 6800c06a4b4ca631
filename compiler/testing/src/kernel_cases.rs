//! Kernels as files, `tests/cases/kernels`, in the text form of the kernel IR.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mcc_targets::Target;

use mcc_kernel::kir::Kernel;

/// A kernel in a file.
pub struct Case {
    /// The file's path.
    pub path: PathBuf,
    /// Its text.
    pub source: String,
    /// The parsed kernel.
    pub kernel: Kernel,
}

impl Case {
    fn read(path: PathBuf) -> Case {
        let source = fs::read_to_string(&path).expect("a case");
        let kernel: Kernel = source.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let again: Kernel = kernel.to_string().parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(again == kernel, "{}: printed and parsed:\n{again}", path.display());
        Case { path, source, kernel }
    }

    /// The targets that lines such as `// for x86_64-unknown-linux-gnu x86-64-v3` name, and their names.
    pub fn targets(&self) -> Vec<(&str, Target)> {
        let machines = self.source.lines().filter_map(|l| l.strip_prefix("// for "));
        let target = |words: &str| {
            let (triple, cpu) = words.split_once(' ')?;
            Target::new(triple, Some(cpu)).ok()
        };
        machines.map(|words| (words, target(words).unwrap_or_else(|| panic!("{words}: what machine?")))).collect()
    }

    /// Compares with the snapshot beside the case.
    pub fn snapshot(&self, text: &str) {
        insta::with_settings!({ snapshot_path => self.path.parent().expect("a folder"), prepend_module_to_snapshot => false,
                omit_expression => true }, {
            insta::assert_snapshot!(self.path.file_stem().and_then(|s| s.to_str()).expect("a name"), text);
        });
    }
}

/// Checks all cases of a folder, and reports those that fail.
pub fn every(folder: &str, check: impl Fn(&Case)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/kernels").join(folder);
    let entries = fs::read_dir(&root).expect("a folder of cases").map(|e| e.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "kir")).collect();
    paths.sort();
    assert!(paths.len() > 3, "only {} cases are in {}", paths.len(), root.display());
    let fails = |path: &&PathBuf| catch_unwind(AssertUnwindSafe(|| check(&Case::read((*path).clone())))).is_err();
    let failed: Vec<&PathBuf> = paths.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), paths.len());
}
