//! Cranelift's view of a target.

use std::sync::Arc;

use cranelift_codegen::isa::{self, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use mcc_targets::{Arch, Target};
use target_lexicon::BinaryFormat;

use mcc_ir::{Error, Result};

/// Cranelift's own checks: of its IR, and of the register allocation.
const CHECKS: &[&str] = &["enable_verifier", "regalloc_checker"];

/// Settings of every compilation, and the reasons:
/// - `opt_level=none`: the mid-end moves computations to where a block's end needs them, which makes unrolled inner
///   loops spill; the emitter tidies kernels itself (measured: 79 % of the peak with it, 98 % without).
/// - `is_pic=false`: with it, aarch64 addresses even local data through the GOT. All addressed symbols are local or
///   marked as colocated, so the code is position-independent anyway.
/// - `probestack_strategy=inline`: Windows commits stack page by page, and objects import no function that touches it.
const SETTINGS: &[(&str, &str)] = &[
    ("opt_level", "none"),
    ("regalloc_algorithm", "backtracking"),
    ("is_pic", "false"),
    ("use_colocated_libcalls", "true"),
    ("unwind_info", "true"),
    ("enable_probestack", "true"),
    ("probestack_strategy", "inline"),
];

/// Cranelift's code generator for a target.
///
/// # Errors
/// When Cranelift does not support the target or one of its features.
pub fn isa(target: &Target, checked: bool) -> Result<Arc<dyn TargetIsa>> {
    let fail = |e: &dyn std::fmt::Display| Error::internal(format!("cranelift, target {}: {e}", target.triple));
    if target.arch == Arch::Aarch64 && target.triple.binary_format == BinaryFormat::Coff {
        // cranelift-object cannot write aarch64's page-relative relocations to COFF.
        return Err(Error::unsupported(format!("target {}: 64-bit Arm on Windows", target.triple)));
    }
    let mut flags = settings::builder();
    for (name, value) in SETTINGS {
        flags.set(name, value).map_err(|e| fail(&e))?;
    }
    for name in CHECKS {
        flags.set(name, if checked { "true" } else { "false" }).map_err(|e| fail(&e))?;
    }
    let mut builder = isa::lookup(target.triple.clone()).map_err(|e| fail(&e))?;
    for flag in target.features.iter().filter_map(|f| f.row().cranelift) {
        builder.enable(flag).map_err(|e| fail(&e))?;
    }
    if target.has_landing_pads() {
        builder.enable("use_bti").map_err(|e| fail(&e))?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| fail(&e))
}
