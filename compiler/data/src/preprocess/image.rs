//! Pictures.

use image::imageops::FilterType;
use image::{ImageBuffer, ImageReader, Luma, Pixel, Rgb};
use std::io::BufReader;
use std::path::Path;

use mcc_ir::{Error, Result};
use mcc_onnx::file::open_regular;

use super::array::Array;
use super::schema::{Color, Filter, Layout, Pad, Place, Resize};

/// A picture of 8-bit values, or of any after they are scaled; row by row, channels last.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 3 or 1.
    pub channels: usize,
    /// The values.
    pub data: Vec<f32>,
}

/// Pixels that a step may make; more is a mistake in its numbers.
const MAX_PIXELS: usize = 1 << 28;

fn reader(path: &Path) -> Result<ImageReader<BufReader<std::fs::File>>> {
    let reader = ImageReader::new(BufReader::new(open_regular(path)?));
    reader.with_guessed_format().map_err(|e| Error::io(path.display(), &e))
}

/// Checks that a file begins like a picture.
///
/// # Errors
/// When it does not.
pub fn probe(path: &Path) -> Result<()> {
    let found = reader(path)?.into_dimensions();
    found.map(drop).map_err(|e| Error::invalid(format!("{}: not a readable picture: {e}", path.display())))
}

/// Reads a picture as red, green, blue.
///
/// # Errors
/// When the file is not a picture.
pub fn read(path: &Path) -> Result<Picture> {
    let found = reader(path)?.decode();
    let found = found.map_err(|e| Error::invalid(format!("{}: not a readable picture: {e}", path.display())))?;
    let rgb = found.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Picture { height, width, channels: 3, data: rgb.into_raw().into_iter().map(f32::from).collect() })
}

impl Picture {
    /// Changes the channels.
    pub fn color(self, to: Color) -> Picture {
        let [r, g, b] = match self.channels {
            1 => [0, 0, 0],
            _ => [0, 1, 2],
        };
        let pixels = self.data.chunks_exact(self.channels);
        let data: Vec<f32> = match to {
            Color::Rgb => pixels.flat_map(|p| [p[r], p[g], p[b]]).collect(),
            Color::Bgr => pixels.flat_map(|p| [p[b], p[g], p[r]]).collect(),
            Color::Gray if self.channels == 1 => return self,
            // In integers, as Pillow does.
            Color::Gray => pixels
                .map(|p| ((p[0] as u32 * 19595 + p[1] as u32 * 38470 + p[2] as u32 * 7471 + 0x8000) >> 16) as f32)
                .collect(),
        };
        Picture { channels: if to == Color::Gray { 1 } else { 3 }, data, ..self }
    }

    /// Scales the picture.
    ///
    /// # Errors
    /// When the result has no pixels, or too many.
    pub fn resize(self, how: &Resize) -> Result<Picture> {
        let (h, w) = (self.height as f64, self.width as f64);
        let of = |ratio: f64| [h * ratio, w * ratio];
        let sides = match how {
            Resize { size: Some(size), keep_aspect: false, .. } => size.map(|side| side as f64),
            Resize { size: Some([height, width]), .. } => of((*height as f64 / h).min(*width as f64 / w)),
            Resize { shorter: Some(side), .. } => of(*side as f64 / h.min(w)),
            Resize { longer: Some(side), .. } => of(*side as f64 / h.max(w)),
            Resize { height: Some(side), .. } => of(*side as f64 / h),
            Resize { width: Some(side), .. } => of(*side as f64 / w),
            Resize { multiple: Some(_), .. } => [h, w],
            _ => return Err(Error::internal("a resize without a size")),
        };
        let whole = |side: f64| match how.multiple {
            Some(n) => ((side / n as f64).round().max(1.0) * n as f64) as usize,
            None => side.round().max(1.0) as usize,
        };
        let scaled = self.scaled(sides.map(whole), how.filter)?;
        match how.size.filter(|_| how.keep_aspect) {
            Some(size) => scaled.padded(size, how.value, how.at),
            None => Ok(scaled),
        }
    }

    fn scaled(self, [height, width]: [usize; 2], filter: Filter) -> Result<Picture> {
        check([height, width])?;
        if [height, width] == [self.height, self.width] {
            return Ok(self);
        }
        let how = match filter {
            Filter::Nearest => FilterType::Nearest,
            Filter::Bilinear => FilterType::Triangle,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Linear => return Ok(self.linear([height, width])),
        };
        match self.channels {
            1 => self.filtered::<Luma<u8>>([height, width], how),
            _ => self.filtered::<Rgb<u8>>([height, width], how),
        }
    }

    fn filtered<P: Pixel<Subpixel = u8> + 'static>(self, size: [usize; 2], filter: FilterType) -> Result<Picture> {
        let bytes: Vec<u8> = self.data.iter().map(|&v| v.clamp(0.0, 255.0).round() as u8).collect();
        let buffer = ImageBuffer::<P, Vec<u8>>::from_raw(self.width as u32, self.height as u32, bytes);
        let buffer = buffer.ok_or_else(|| Error::internal("a picture of another size"))?;
        let [height, width] = size;
        let data = image::imageops::resize(&buffer, width as u32, height as u32, filter).into_raw();
        Ok(Picture { height, width, channels: self.channels, data: data.into_iter().map(f32::from).collect() })
    }

    /// Of the four nearest pixels, with the centres of pixels at halves, rounded to 8 bits.
    fn linear(self, [height, width]: [usize; 2]) -> Picture {
        let places = |to: usize, from: usize| -> Vec<Between> {
            let place = |i: usize| {
                let at = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
                let low = at.floor() as usize;
                Between { low, high: (low + 1).min(from - 1), share: at - low as f32 }
            };
            (0..to).map(place).collect()
        };
        let (rows, columns) = (places(height, self.height), places(width, self.width));
        let mut data = Vec::with_capacity(height * width * self.channels);
        for row in &rows {
            for column in &columns {
                for c in 0..self.channels {
                    let pixel = |y: usize, x: usize| self.data[(y * self.width + x) * self.channels + c];
                    let across = |y| {
                        let (a, b) = (pixel(y, column.low), pixel(y, column.high));
                        a + (b - a) * column.share
                    };
                    let (above, below) = (across(row.low), across(row.high));
                    data.push((above + (below - above) * row.share).round());
                }
            }
        }
        Picture { height, width, data, ..self }
    }

    /// Cuts a size out of the middle.
    ///
    /// # Errors
    /// When the picture is smaller.
    pub fn crop(self, [height, width]: [usize; 2]) -> Result<Picture> {
        if height > self.height || width > self.width {
            let text = format!("the picture is {}x{}, smaller than {height}x{width}", self.height, self.width);
            return Err(Error::invalid(text).help("resize before it, or pad"));
        }
        // As torchvision rounds the middle.
        let middle = |outer: usize, inner: usize| ((outer - inner) as f64 / 2.0).round_ties_even() as usize;
        let (top, left) = (middle(self.height, height), middle(self.width, width));
        let row = |y: usize| {
            let start = ((top + y) * self.width + left) * self.channels;
            self.data[start..start + width * self.channels].iter().copied()
        };
        let data = (0..height).flat_map(row).collect();
        Ok(Picture { height, width, channels: self.channels, data })
    }

    /// Adds pixels.
    ///
    /// # Errors
    /// When the picture is larger.
    pub fn pad(self, how: &Pad) -> Result<Picture> {
        let multiple = how.multiple.unwrap_or(1);
        let size = how.size.unwrap_or([self.height, self.width].map(|side| side.next_multiple_of(multiple)));
        self.padded(size, how.value, how.at)
    }

    fn padded(self, [height, width]: [usize; 2], value: f32, at: Place) -> Result<Picture> {
        check([height, width])?;
        if height < self.height || width < self.width {
            let text = format!("the picture is {}x{}, larger than {height}x{width}", self.height, self.width);
            return Err(Error::invalid(text).help("resize before it, or crop"));
        }
        let before = |outer: usize, inner: usize| if at == Place::Centre { (outer - inner) / 2 } else { 0 };
        let (top, left) = (before(height, self.height), before(width, self.width));
        let mut data = vec![value; height * width * self.channels];
        for y in 0..self.height {
            let (from, to) = (y * self.width * self.channels, ((top + y) * width + left) * self.channels);
            let length = self.width * self.channels;
            data[to..to + length].copy_from_slice(&self.data[from..from + length]);
        }
        Ok(Picture { height, width, data, ..self })
    }

    /// Applies a function to each value; it knows the channel.
    pub fn map(mut self, f: impl Fn(f32, usize) -> f32) -> Picture {
        let channels = self.channels;
        self.data.iter_mut().enumerate().for_each(|(i, v)| *v = f(*v, i % channels));
        self
    }

    /// The values with their axes in an order.
    pub fn layout(self, layout: Layout) -> Array {
        let Picture { height, width, channels, data } = self;
        match layout {
            Layout::Hwc => Array { shape: vec![height, width, channels], data },
            Layout::Chw => {
                let plane = |c: usize| data.iter().skip(c).step_by(channels).copied();
                Array { shape: vec![channels, height, width], data: (0..channels).flat_map(plane).collect() }
            }
        }
    }

    /// The picture as a PNG, for a report. Values that are not of 8 bits are stretched to them.
    ///
    /// # Errors
    /// When it cannot be encoded, which does not depend on the picture.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (low, high) = self.data.iter().fold((0f32, 255f32), |(a, b), &v| (a.min(v), b.max(v)));
        let bytes = self.data.iter().map(|v| ((v - low) / (high - low) * 255.0).round() as u8).collect::<Vec<_>>();
        let color = if self.channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
        let mut png = std::io::Cursor::new(Vec::new());
        let (width, height) = (self.width as u32, self.height as u32);
        image::write_buffer_with_format(&mut png, &bytes, width, height, color, image::ImageFormat::Png)
            .map_err(|e| Error::internal(format!("a picture is not encoded: {e}")))?;
        Ok(png.into_inner())
    }

    /// A smaller picture for a report, if it is larger than `side`.
    pub fn thumbnail(self, side: usize) -> Result<Picture> {
        match self.height.max(self.width) > side {
            true => self.resize(&Resize { longer: Some(side), ..Resize::default() }),
            false => Ok(self),
        }
    }
}

/// A place between two pixels.
struct Between {
    low: usize,
    high: usize,
    share: f32,
}

fn check([height, width]: [usize; 2]) -> Result<()> {
    match height.checked_mul(width) {
        Some(pixels) if (1..=MAX_PIXELS).contains(&pixels) => Ok(()),
        _ => Err(Error::invalid(format!("a picture of {height}x{width} pixels"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Picture {
        let data = (0..height * width).flat_map(|i| [i as f32, i as f32 * 2.0, 255.0 - i as f32]).collect();
        Picture { height, width, channels: 3, data }
    }

    #[test]
    fn colors() {
        let p = Picture { height: 1, width: 2, channels: 3, data: vec![10.0, 20.0, 30.0, 255.0, 255.0, 255.0] };
        assert_eq!(p.clone().color(Color::Bgr).data[..3], [30.0, 20.0, 10.0]);
        // (10 * 19595 + 20 * 38470 + 30 * 7471 + 32768) >> 16
        assert_eq!(p.clone().color(Color::Gray).data, [18.0, 255.0]);
        assert_eq!(p.color(Color::Gray).color(Color::Rgb).data, [18.0, 18.0, 18.0, 255.0, 255.0, 255.0]);
    }

    #[test]
    fn sides_keep_the_aspect() {
        let sides = |how: Resize| {
            let p = ramp(6, 9).resize(&how).unwrap();
            (p.height, p.width)
        };
        assert_eq!(sides(Resize { shorter: Some(4), ..Resize::default() }), (4, 6));
        assert_eq!(sides(Resize { longer: Some(3), ..Resize::default() }), (2, 3));
        assert_eq!(sides(Resize { height: Some(12), filter: Filter::Linear, ..Resize::default() }), (12, 18));
        assert_eq!(sides(Resize { size: Some([5, 5]), ..Resize::default() }), (5, 5));
        assert_eq!(sides(Resize { multiple: Some(4), ..Resize::default() }), (8, 8));
        let boxed = Resize { size: Some([9, 9]), keep_aspect: true, value: 7.0, ..Resize::default() };
        let p = ramp(6, 9).resize(&boxed).unwrap();
        assert_eq!((p.height, p.width, p.data[0], p.data[6 * 9 * 3]), (9, 9, 0.0, 7.0));
        let centre = ramp(6, 9).resize(&Resize { at: Place::Centre, ..boxed }).unwrap();
        assert_eq!((centre.data[0], centre.data[9 * 3]), (7.0, 0.0));
    }

    #[test]
    fn linear_takes_the_nearest_four() {
        let p = Picture { height: 1, width: 4, channels: 1, data: vec![0.0, 10.0, 20.0, 30.0] };
        let half = p.clone().scaled([1, 2], Filter::Linear).unwrap();
        assert_eq!(half.data, [5.0, 25.0]);
        let double = p.scaled([1, 8], Filter::Linear).unwrap();
        // Halves round away from zero.
        assert_eq!(double.data, [0.0, 3.0, 8.0, 13.0, 18.0, 23.0, 28.0, 30.0]);
    }

    #[test]
    fn crops_and_pads() {
        let p = ramp(4, 5).crop([2, 2]).unwrap();
        // Offsets of 1 and 1.5, which rounds to 2.
        assert_eq!(p.data[0], 7.0);
        assert!(ramp(2, 2).crop([3, 1]).is_err());
        let p = ramp(3, 5).pad(&Pad { multiple: Some(4), value: -1.0, ..Pad::default() }).unwrap();
        assert_eq!((p.height, p.width, p.data[5 * 3]), (4, 8, -1.0));
        assert!(ramp(3, 5).pad(&Pad { size: Some([2, 8]), ..Pad::default() }).is_err());
    }

    #[test]
    fn axes() {
        let p = ramp(1, 2);
        assert_eq!(p.clone().layout(Layout::Chw).data, [0.0, 1.0, 0.0, 2.0, 255.0, 254.0]);
        assert_eq!(p.layout(Layout::Hwc).shape, [1, 2, 3]);
    }
}
