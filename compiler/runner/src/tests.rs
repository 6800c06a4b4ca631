use std::path::{Path, PathBuf};
use std::process::Command;

use object::Object;

use super::*;

fn device() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("device")
}

fn build(argument: &Path) -> String {
    let out = Command::new(device().join("build.sh")).arg(argument).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Whoever changes a source must also run `device/build.sh`; where the compilers are those that made the images, they
/// make the same bytes again.
#[test]
fn images_are_of_their_sources() {
    let images = device().join("../images");
    let recorded = |name: &str| std::fs::read_to_string(images.join(name)).unwrap();
    assert_eq!(build(Path::new("--digest")), recorded("sources.sha256"), "run compiler/runner/device/build.sh");
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    if std::fs::read_to_string(dir.path().join("compilers.txt")).unwrap() != recorded("compilers.txt") {
        return;
    }
    for name in ["x86_64", "aarch64"] {
        let [old, new] = [&images, dir.path()].map(|folder| std::fs::read(folder.join(name)).unwrap());
        assert!(old == new, "{name}: run compiler/runner/device/build.sh");
    }
}

#[test]
fn images_export_what_models_import() {
    for (arch, bytes) in IMAGES {
        let image = ElfFile64::<object::Endianness>::parse(*bytes).unwrap();
        assert_eq!(image.architecture(), *arch);
        let has = |name: &str| image.symbols().any(|s| s.is_definition() && s.name() == Ok(name));
        for name in ["memcpy", "memset", "getauxval", "mcc_step", "mcc_runner_card"] {
            assert!(has(name), "{arch:?}: {name}");
        }
        assert!(image.symbols().all(|s| s.is_definition() || s.name() == Ok("")), "{arch:?} imports something");
    }
}

#[test]
fn other_objects_are_refused() {
    let card = Card { name: "m", manifest: "{}", levels: &[], file_inputs: &[], separate_weights: false };
    assert!(link(b"no object", &card).is_err());
}
