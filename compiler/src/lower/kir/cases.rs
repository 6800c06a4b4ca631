//! Kernels as files, `tests/cases/kernels`: what the verifier finds (`verify/`), and what [`tidy`](super::tidy) makes of them
//! (`tidy/`, with a snapshot beside each). Those of the emitters (`emit/`) are `codegen::tests::emit`'s.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mcc_targets::{Arch, Target};

use super::{Kernel, interp, tidy::tidy, verify};

/// A kernel that a file holds.
pub(crate) struct Case {
    pub path: PathBuf,
    pub source: String,
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

    /// The machines that lines such as `// for x86_64-unknown-linux-gnu x86-64-v3` name, and their names.
    pub(crate) fn targets(&self) -> Vec<(&str, Target)> {
        let machines = self.source.lines().filter_map(|l| l.strip_prefix("// for "));
        let target = |words: &str| {
            let (triple, cpu) = words.split_once(' ')?;
            Target::new(triple, Some(cpu)).ok()
        };
        machines.map(|words| (words, target(words).unwrap_or_else(|| panic!("{words}: what machine?")))).collect()
    }

    /// Compares with the snapshot beside the case.
    pub(crate) fn snapshot(&self, text: &str) {
        insta::with_settings!({ snapshot_path => self.path.parent().expect("a folder"), prepend_module_to_snapshot => false,
                omit_expression => true }, {
            insta::assert_snapshot!(self.path.file_stem().and_then(|s| s.to_str()).expect("a name"), text);
        });
    }
}

/// Checks all cases of a folder, and tells which of them fail.
pub(crate) fn every(folder: &str, check: impl Fn(&Case)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/kernels").join(folder);
    let entries = fs::read_dir(&root).expect("a folder of cases").map(|e| e.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "kir")).collect();
    paths.sort();
    assert!(paths.len() > 3, "only {} cases are in {}", paths.len(), root.display());
    let fails = |path: &&PathBuf| catch_unwind(AssertUnwindSafe(|| check(&Case::read((*path).clone())))).is_err();
    let failed: Vec<&PathBuf> = paths.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), paths.len());
}

/// The names of values in a text.
fn values(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|w| w.strip_prefix(['v', 'p']).is_some_and(|n| n.parse::<u32>().is_ok())).collect()
}

/// Comments behind statements are what the verifier tells of them: all of it, in order.
#[test]
fn what_is_wrong_is_told() {
    every("verify", |case| {
        let mut told = verify::violations(&case.kernel).into_iter();
        for line in case.source.lines() {
            let Some((code, comment)) = line.split_once("//").filter(|(code, _)| !code.trim().is_empty()) else {
                continue;
            };
            for wanted in comment.split(';').map(str::trim) {
                let violation = told.next().unwrap_or_else(|| panic!("`{wanted}` is not told"));
                assert!(violation.contains(wanted), "`{wanted}` is told as `{violation}`");
                let (named, here) = (values(&violation), values(code));
                assert!(named.is_empty() || named.iter().any(|v| here.contains(v)), "`{violation}` of `{code}`");
            }
        }
        assert_eq!(told.collect::<Vec<_>>(), Vec::<String>::new());
        assert!(verify::verify(&case.kernel).is_err(), "nothing is wrong");
    });
}

/// A tidied kernel is sound and does the same; tidying it again changes nothing.
#[test]
fn tidied() {
    every("tidy", |case| {
        let arch = case.targets().first().map_or(Arch::X86_64, |(_, target)| target.arch);
        let before = &case.kernel;
        let after = tidy(before, arch);
        let run = |kernel: &Kernel| {
            let buffer = (0..512u16).flat_map(|n| i64::from(n % 5).to_le_bytes()).collect::<Vec<u8>>();
            let mut memory = vec![buffer; kernel.pointers as usize];
            let symbols = vec![2; kernel.symbols.len()];
            interp::run(kernel, &mut memory, &symbols).unwrap_or_else(|e| panic!("{e}"));
            memory
        };
        assert!(run(before) == run(&after), "it does something else:\n{after}");
        assert_eq!(tidy(&after, arch).to_string(), after.to_string(), "tidied again");
        case.snapshot(&after.to_string());
    });
}
