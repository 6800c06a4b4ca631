//! Reads pictures of digits (8x8, plain PGM) and prints what the compiled model sees in them.
//!
//! `MCC=target/release/mcc cargo run --manifest-path examples/rust/Cargo.toml -- tests/models/digits/sample_3_label3.pgm`

use std::process::ExitCode;

const PIXELS: usize = 64;
const CLASSES: usize = 10;
/// `DIGITS_ARENA_SIZE` of the generated header is less; the model says so if it is ever not.
const ARENA: usize = 64 * 1024;

// What the generated header declares.
unsafe extern "C" {
    fn digits_run(image: *const f32, probabilities: *mut f32, arena: *mut u8, arena_size: usize) -> i32;
}

#[repr(align(64))]
struct Arena([u8; ARENA]);

fn classify(image: &[f32; PIXELS], arena: &mut Arena) -> Result<[f32; CLASSES], i32> {
    let mut probabilities = [0.0; CLASSES];
    // SAFETY: the pointers are valid for as many elements as the model's input and output have, and the arena is as large
    // and as aligned as it says; the model keeps none of them.
    let code = unsafe { digits_run(image.as_ptr(), probabilities.as_mut_ptr(), arena.0.as_mut_ptr(), ARENA) };
    if code == 0 { Ok(probabilities) } else { Err(code) }
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
    let mut arena = Box::new(Arena([0; ARENA]));
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
            Err(code) => {
                eprintln!("{path}: the model answers {code}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
