//! Reads pictures of digits (8x8, plain PGM) and prints what the compiled model sees in them.
//!
//! `cargo run --manifest-path examples/rust/Cargo.toml -- tests/models/digits/sample_3_label3.pgm`

use std::process::ExitCode;

const PIXELS: usize = 64;
const CLASSES: usize = 10;

mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

fn classify(image: &[f32; PIXELS], arena: &mut digits::Arena) -> Result<[f32; CLASSES], mcc_runtime::Error> {
    let mut probabilities = [0.0; CLASSES];
    digits::run(image, &mut probabilities, arena)?;
    Ok(probabilities)
}

fn read_pgm(path: &str) -> Option<[f32; PIXELS]> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    if words.next()? != "P2" || words.next()? != "8" || words.next()? != "8" {
        return None;
    }
    let mut numbers = words.map(|w| w.parse::<f32>().ok());
    let white = numbers.next()??;
    let mut image = [0.0; PIXELS];
    for pixel in &mut image {
        *pixel = numbers.next()?? / white;
    }
    Some(image)
}

fn main() -> ExitCode {
    let mut arena = Box::new(digits::Arena::new());
    for path in std::env::args().skip(1) {
        let Some(image) = read_pgm(&path) else {
            eprintln!("{path}: not an 8x8 plain PGM picture");
            return ExitCode::FAILURE;
        };
        match classify(&image, &mut arena) {
            Ok(p) => {
                let best = (0..CLASSES).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap_or(0);
                println!("{path}: {best} ({:.1} %)", 100.0 * p[best]);
            }
            Err(e) => {
                eprintln!("{path}: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
