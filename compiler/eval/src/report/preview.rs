//! Samples as a page shows them: pictures, sound and text as such, tensors as pictures where they look like ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcc_data::Samples;
use mcc_data::preprocess::image::Picture;
use mcc_data::preprocess::value::Value;
use mcc_ir::{Result, Tensor};

use super::html::escape;
use super::plots;

/// Pixels of a picture's longer side.
const SIDE: usize = 240;

/// Characters of a text.
const CHARACTERS: usize = 400;

/// Sample `n` as HTML.
///
/// # Errors
/// When it cannot be read any more.
pub fn show(samples: &Samples, n: usize) -> Result<String> {
    match samples.raw(n)? {
        Some(Value::Picture(picture)) => image(picture),
        Some(Value::Sound(sound)) => {
            let seconds = sound.channels.first().map_or(0, Vec::len) as f64 / f64::from(sound.rate.max(1));
            let svg = plots::waveform(&sound.mono().channels.concat())?;
            Ok(format!("{svg}<p class=\"note\">{seconds:.2} s</p>\n"))
        }
        Some(Value::Text(text)) => Ok(excerpt(&text)),
        Some(Value::Bytes(bytes)) => Ok(excerpt(&String::from_utf8_lossy(&bytes[..bytes.len().min(CHARACTERS)]))),
        _ => tensors(&samples.read(n)?),
    }
}

fn excerpt(text: &str) -> String {
    let cut = if text.chars().nth(CHARACTERS).is_some() { "…" } else { "" };
    let start: String = text.chars().take(CHARACTERS).collect();
    format!("<pre>{}{cut}</pre>\n", escape(&start))
}

fn image(picture: Picture) -> Result<String> {
    // Small pictures are enlarged by whole factors, so that each pixel shows.
    let size = [picture.width, picture.height];
    let factor = (SIDE / picture.height.max(picture.width).max(1)).max(1);
    let png = picture.thumbnail(SIDE)?.png()?;
    let (width, class) = (size[0] * factor, if factor > 1 { " class=\"pixels\"" } else { "" });
    let width = if factor > 1 { format!(" width=\"{width}\"") } else { String::new() };
    Ok(format!(
        "<img{class}{width} alt=\"{}x{} pixels\" src=\"data:image/png;base64,{}\">\n",
        size[0],
        size[1],
        STANDARD.encode(png)
    ))
}

fn tensors(tensors: &[Tensor]) -> Result<String> {
    match tensors.iter().find_map(picture) {
        Some(picture) => image(picture),
        None => {
            let line = |t: &Tensor| {
                let first: Vec<String> = (0..t.numel().min(6)).map(|i| format!("{:.4}", t.f64_at(i))).collect();
                format!("{} {}{}", t.ty(), first.join(" "), if t.numel() > 6 { " …" } else { "" })
            };
            Ok(format!("<pre>{}</pre>\n", escape(&tensors.iter().map(line).collect::<Vec<_>>().join("\n"))))
        }
    }
}

/// A tensor as a picture, if its axes are those of one; values are stretched to black and white.
fn picture(tensor: &Tensor) -> Option<Picture> {
    const SMALLEST: usize = 4;
    let [1, a, b, c] = *tensor.shape() else { return None };
    let (channels, height, width, first) = match (a, c) {
        (1 | 3, _) => (a, b, c, true),
        (_, 1 | 3) => (c, a, b, false),
        _ => return None,
    };
    if height < SMALLEST || width < SMALLEST || !(tensor.dtype().is_float() || tensor.dtype().size() == 1) {
        return None;
    }
    let values = tensor.to_f64s();
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let level = |v: f64| if high > low { ((v - low) / (high - low) * 255.0).round() as f32 } else { 0.0 };
    let at = |y: usize, x: usize, k: usize| match first {
        true => values[(k * height + y) * width + x],
        false => values[(y * width + x) * channels + k],
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let data = pixels.flat_map(|(y, x)| (0..channels).map(move |k| (y, x, k))).map(|(y, x, k)| level(at(y, x, k)));
    Some(Picture { height, width, channels, data: data.collect() })
}
