//! The table of emitters: each level has one, each row is used, and kernels call only the functions that their emitter
//! names.

use cranelift_module::{FuncId, ModuleRelocTarget};
use mcc_targets::CPU_LEVELS;

use super::*;
use crate::emitter::{Symbols, Vectors};
use crate::{EMITTERS, emitter_of};

/// One target per level.
fn targets() -> impl Iterator<Item = Target> {
    CPU_LEVELS.iter().map(|level| {
        let triple = format!("{}-unknown-linux-gnu", if level.arch == Arch::X86_64 { "x86_64" } else { "aarch64" });
        Target::new(&triple, Some(level.name)).expect("a level of the table")
    })
}

/// Every emitter with every kind of registers that some level selects it for.
pub(super) fn chosen() -> Vec<(&'static str, Vectors)> {
    let row = |t: Target| (emitter_of(&t).expect("an emitter").name, Vectors { arch: t.arch, bytes: t.vector_bytes });
    let mut rows: Vec<_> = targets().map(row).collect();
    rows.sort_by_key(|(name, vectors)| (*name, vectors.bytes));
    rows.dedup();
    rows
}

#[test]
fn every_emitter_is_chosen() {
    let chosen = chosen();
    for emitter in EMITTERS {
        assert!(chosen.iter().any(|(name, _)| *name == emitter.name), "no level chooses {}", emitter.name);
    }
    for (name, vectors) in chosen {
        let emitter = EMITTERS.iter().find(|e| e.name == name).expect("a row");
        assert!(emitter.vectors.contains(&vectors), "{name}: {vectors:?}");
    }
}

#[test]
fn kernels_call_what_their_emitter_says() {
    let mut k = Builder::new("moves", 2);
    let (from, to, n) = (k.pointer(0), k.pointer(1), k.dim(&Dim::sym("n")));
    k.copy(to, from, n);
    k.fill_zero(from, n);
    let kernel = k.finish();
    for target in targets() {
        let info = emitter_of(&target).expect("an emitter");
        let emitter = (info.new)(&target, true).expect("a target that it takes");
        let imports: Vec<FuncId> = (0..info.imports.len() as u32).map(FuncId::from_u32).collect();
        let symbols = Symbols { own: FuncId::from_u32(100), imports: &imports };
        let code = emitter.compile(&kernel, &symbols).unwrap_or_else(|e| panic!("{e}"));
        let called: Vec<ModuleRelocTarget> = code.relocations.into_iter().map(|r| r.name).collect();
        let wanted: Vec<ModuleRelocTarget> = imports.iter().map(|&id| id.into()).collect();
        assert_eq!(format!("{called:?}"), format!("{wanted:?}"), "{}", info.name);
    }
}
