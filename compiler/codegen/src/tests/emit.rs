//! The emitters' code for inner loops: `tests/cases/kernels/emit/*.kir`, each for the machines named in its first
//! lines.

use std::cell::RefCell;

use super::*;
use crate::emitter::Vectors;
use crate::emitter_of;
use mcc_testing::kernel_cases as cases;

/// The innermost loop of a listing, or all of it: from the target of the shortest backward jump to that jump.
fn inner_loop(listing: &str) -> String {
    let lines: Vec<&str> = listing.lines().collect();
    let loops = lines.iter().enumerate().filter_map(|(end, line)| {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        // Cranelift writes `label1` for a jump to the block `block1`.
        let labels = words.map(|w| w.strip_prefix("label").map_or(format!("{w}:"), |n| format!("block{n}:")));
        let starts = labels.filter_map(|label| lines[..end].iter().rposition(|l| *l == label));
        starts.max().map(|start| start..end + 1)
    });
    loops.min_by_key(|range| range.len()).map_or(listing.to_string(), |range| lines[range].join("\n") + "\n")
}

/// An emitter with registers of its own needs cases of its own.
#[test]
fn inner_loops() {
    let covered = RefCell::new(Vec::new());
    cases::every("emit", |case| {
        mcc_kernel::kir::verify::verify(&case.kernel).unwrap_or_else(|e| panic!("{e}"));
        let sizes = vec![4096; case.kernel.pointers as usize - 1];
        let mut text = String::new();
        for (machine, target) in case.targets() {
            let program = program(case.kernel.clone(), &sizes, 4096);
            let vectors = Vectors { arch: target.arch, bytes: target.vector_bytes };
            covered.borrow_mut().push((emitter_of(&target).unwrap_or_else(|e| panic!("{e}")).name, vectors));
            let listing = crate::asm_text(&program, &target).unwrap_or_else(|e| panic!("{e}"));
            text += &format!("// {machine}\n{}\n", inner_loop(&listing));
        }
        assert!(!text.is_empty(), "{} names no machine", case.path.display());
        case.snapshot(text.trim_end());
    });
    for row in emitters::chosen() {
        assert!(covered.borrow().contains(&row), "no case in tests/cases/kernels/emit is for {row:?}");
    }
}
