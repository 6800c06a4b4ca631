//! Kernels as files, `tests/cases/kernels`: what the verifier finds (`verify/`), and what [`tidy`] makes of them (`tidy/`,
//! with a snapshot beside each). Those of the emitters (`emit/`) are a test of `mcc-codegen`.

use mcc_kernel::kir::{Kernel, interp, tidy::tidy, verify};
use mcc_targets::Arch;
use mcc_testing::kernel_cases::every;

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
