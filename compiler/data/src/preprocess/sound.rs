//! Sound.

use std::path::Path;

use mcc_ir::{Error, Result};
use mcc_onnx::file::open_regular;
use realfft::RealFftPlanner;
use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Resampler};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::array::Array;
use super::schema::{Formula, Frames, Mel, Window};

/// A signal of one or several channels, from -1 to 1 when it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// The samples of each channel.
    pub channels: Vec<Vec<f32>>,
}

fn broken(path: &Path, e: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{}: not readable sound: {e}", path.display()))
}

fn open(path: &Path) -> Result<Box<dyn FormatReader>> {
    let stream = MediaSourceStream::new(Box::new(open_regular(path)?), Default::default());
    let mut hint = Hint::new();
    if let Some(extension) = path.extension() {
        hint.with_extension(&extension.to_string_lossy());
    }
    let (format, meta) = (FormatOptions::default(), MetadataOptions::default());
    symphonia::default::get_probe().probe(&hint, stream, format, meta).map_err(|e| broken(path, e))
}

/// Checks that a file begins like sound.
///
/// # Errors
/// When it does not.
pub fn probe(path: &Path) -> Result<()> {
    open(path).map(drop)
}

/// Reads a file of sound.
///
/// # Errors
/// When it is not sound that can be decoded.
pub fn read(path: &Path) -> Result<Sound> {
    let mut format = open(path)?;
    let track = format.default_track(TrackType::Audio).ok_or_else(|| broken(path, "it has no track of sound"))?;
    let id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio());
    let parameters = parameters.ok_or_else(|| broken(path, "its track has no parameters"))?;
    let codecs = symphonia::default::get_codecs();
    let decoder = codecs.make_audio_decoder(parameters, &AudioDecoderOptions::default());
    let mut decoder = decoder.map_err(|e| broken(path, e))?;
    let mut sound = Sound { rate: parameters.sample_rate.unwrap_or(0), channels: Vec::new() };
    let mut block: Vec<f32> = Vec::new();
    while let Some(packet) = format.next_packet().map_err(|e| broken(path, e))? {
        if packet.track_id != id {
            continue;
        }
        let decoded = decoder.decode(&packet).map_err(|e| broken(path, e))?;
        let count = decoded.spec().channels().count();
        if sound.channels.is_empty() {
            (sound.rate, sound.channels) = (decoded.spec().rate(), vec![Vec::new(); count]);
        }
        if count != sound.channels.len() || decoded.spec().rate() != sound.rate {
            return Err(broken(path, "its channels or its rate change"));
        }
        block.resize(decoded.samples_interleaved(), 0.0);
        decoded.copy_to_slice_interleaved(&mut block);
        for (n, channel) in sound.channels.iter_mut().enumerate() {
            channel.extend(block.iter().skip(n).step_by(count));
        }
    }
    match sound.channels.first() {
        Some(first) if !first.is_empty() => Ok(sound),
        _ => Err(broken(path, "it has no samples")),
    }
}

impl Sound {
    /// The mean of all channels.
    pub fn mono(self) -> Sound {
        let count = self.channels.len();
        if count == 1 {
            return self;
        }
        let length = self.channels.iter().map(Vec::len).min().unwrap_or(0);
        let mean = |i: usize| self.channels.iter().map(|c| c[i]).sum::<f32>() / count as f32;
        Sound { rate: self.rate, channels: vec![(0..length).map(mean).collect()] }
    }

    /// Changes the samples per second, band-limited.
    ///
    /// # Errors
    /// When a rate is 0.
    pub fn resample(self, rate: u32) -> Result<Sound> {
        if rate == self.rate {
            return Ok(self);
        }
        let failed = |e: &dyn std::fmt::Display| Error::invalid(format!("from {} to {rate} Hz: {e}", self.rate));
        let (count, length) = (self.channels.len(), self.channels.first().map_or(0, Vec::len));
        let (from, to) = (self.rate as usize, rate as usize);
        let mut resampler =
            Fft::<f32>::new(from, to, even_chunk(from, to), count, FixedSync::Both).map_err(|e| failed(&e))?;
        let given = SequentialSliceOfVecs::new(&self.channels, count, length).map_err(|e| failed(&e))?;
        let mixed = resampler.process_all(&given, length, None).map_err(|e| failed(&e))?.take_data();
        let channel = |n: usize| mixed.iter().skip(n).step_by(count).copied().collect();
        Ok(Sound { rate, channels: (0..count).map(channel).collect() })
    }

    /// Applies a function to each sample.
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Sound {
        self.channels.iter_mut().flatten().for_each(|v| *v = f(*v));
        self
    }

    /// The samples: of one channel without an axis for channels.
    pub fn array(self) -> Array {
        let (count, length) = (self.channels.len(), self.channels.first().map_or(0, Vec::len));
        let shape = if count == 1 { vec![length] } else { vec![count, length] };
        Array { shape, data: self.channels.concat() }
    }

    /// The only channel.
    ///
    /// # Errors
    /// When there are several.
    fn only(&self) -> Result<&[f32]> {
        match self.channels.as_slice() {
            [one] => Ok(one),
            several => Err(Error::invalid(format!("the sound has {} channels", several.len()))
                .help("put the step \"mono\" before it")),
        }
    }

    /// Overlapping parts: \[frames, size\]. What does not fill a frame is left out.
    ///
    /// # Errors
    /// When the sound is shorter than a frame, or has several channels.
    pub fn frames(&self, how: &Frames) -> Result<Array> {
        let signal = self.only()?;
        if signal.len() < how.size {
            let text = format!("the sound has {} samples, less than a frame of {}", signal.len(), how.size);
            return Err(Error::invalid(text).help("put a step length = { size = ... } before it"));
        }
        let count = (signal.len() - how.size) / how.hop + 1;
        let window = window(how.window, how.size);
        let frame = |n: usize| signal[n * how.hop..][..how.size].iter().zip(&window).map(|(s, w)| s * w);
        Ok(Array { shape: vec![count, how.size], data: (0..count).flat_map(frame).collect() })
    }

    /// A mel spectrogram: \[bands, frames\].
    ///
    /// # Errors
    /// When the sound is too short, or has several channels.
    pub fn mel(&self, how: &Mel) -> Result<Array> {
        let padded;
        let signal = match how.centre {
            true => {
                padded = mirrored(self.only()?, how.fft / 2)?;
                &padded
            }
            false => self.only()?,
        };
        if signal.len() < how.fft {
            let text = format!("the sound has {} samples, less than a transform of {}", signal.len(), how.fft);
            return Err(Error::invalid(text).help("put a step length = { size = ... } before it"));
        }
        let size = how.window.unwrap_or(how.fft);
        let mut window_of_fft = vec![0.0; how.fft];
        let at = (how.fft - size) / 2;
        window_of_fft[at..at + size].copy_from_slice(&window(Window::Hann, size));
        let transform = RealFftPlanner::<f32>::new().plan_fft_forward(how.fft);
        let (mut input, mut output) = (transform.make_input_vec(), transform.make_output_vec());
        let count = (signal.len() - how.fft) / how.hop + 1;
        let filters = filters(how, self.rate)?;
        let mut data = vec![0.0; how.bands * count];
        for n in 0..count {
            let frame = signal[n * how.hop..][..how.fft].iter().zip(&window_of_fft);
            input.iter_mut().zip(frame).for_each(|(to, (s, w))| *to = s * w);
            transform
                .process(&mut input, &mut output)
                .map_err(|e| Error::internal(format!("a transform of another length: {e}")))?;
            let energy: Vec<f32> = output.iter().map(|c| c.norm().powf(how.power)).collect();
            for (band, filter) in filters.iter().enumerate() {
                data[band * count + n] = filter.iter().zip(&energy).map(|(a, b)| a * b).sum();
            }
        }
        Ok(Array { shape: vec![how.bands, count], data })
    }
}

/// Samples of a transform of the resampler. It delays by half of them, which is cut off afterwards: a whole number of
/// samples before and after only if both halves are whole.
fn even_chunk(from: usize, to: usize) -> usize {
    const LEAST: usize = 1024;
    let (mut a, mut b) = (from.max(1), to);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let block = from / a * 2;
    block * LEAST.div_ceil(block.max(1))
}

/// A periodic window.
fn window(kind: Window, size: usize) -> Vec<f32> {
    let cosine = |i: usize| (std::f64::consts::TAU * i as f64 / size as f64).cos();
    let at = |i: usize| match kind {
        Window::None => 1.0,
        Window::Hann => 0.5 - 0.5 * cosine(i),
        Window::Hamming => 0.54 - 0.46 * cosine(i),
    };
    (0..size).map(|i| at(i) as f32).collect()
}

/// A signal with `by` samples at each end, mirrored without repeating the last one.
fn mirrored(signal: &[f32], by: usize) -> Result<Vec<f32>> {
    if signal.len() <= by {
        let text = format!("the sound has {} samples, too few to be mirrored by {by}", signal.len());
        return Err(Error::invalid(text).help("put a step length = { size = ... } before it"));
    }
    let before = signal[1..=by].iter().rev();
    let after = signal[signal.len() - 1 - by..signal.len() - 1].iter().rev();
    Ok(before.chain(signal).chain(after).copied().collect())
}

/// The weight of each frequency of a transform in each band: triangles of equal width on the mel scale (Stevens,
/// Volkmann and Newman 1937; the formula of O'Shaughnessy 1987, or Slaney's).
fn filters(how: &Mel, rate: u32) -> Result<Vec<Vec<f32>>> {
    let half = f64::from(rate) / 2.0;
    let high = how.high.unwrap_or(half);
    if !(0.0 <= how.low && how.low < high && high <= half) {
        let text = format!("frequencies from {} to {high} Hz of sound of {rate} samples per second", how.low);
        return Err(Error::invalid(text).help(format!("0 <= low < high <= {half}")));
    }
    let (low, high) = (mel_of(how.low, how.formula), mel_of(high, how.formula));
    let edge = |n: usize| hertz_of(low + (high - low) * n as f64 / (how.bands + 1) as f64, how.formula);
    let edges: Vec<f64> = (0..how.bands + 2).map(edge).collect();
    let filter = |edges: &[f64]| {
        let [low, middle, high] = [edges[0], edges[1], edges[2]];
        let scale = if how.by_width { 2.0 / (high - low) } else { 1.0 };
        let weight = |bin: usize| {
            let f = bin as f64 * f64::from(rate) / how.fft as f64;
            let (up, down) = ((f - low) / (middle - low), (high - f) / (high - middle));
            (up.min(down).max(0.0) * scale) as f32
        };
        (0..how.fft / 2 + 1).map(weight).collect()
    };
    Ok(edges.windows(3).map(filter).collect())
}

/// Slaney's scale: linear up to 1 kHz, then 27 steps for each factor of 6.4.
const LINEAR_HERTZ: f64 = 200.0 / 3.0;
const LOG_START: f64 = 1000.0;

fn mel_of(hertz: f64, formula: Formula) -> f64 {
    match formula {
        Formula::Htk => 2595.0 * (1.0 + hertz / 700.0).log10(),
        Formula::Slaney if hertz < LOG_START => hertz / LINEAR_HERTZ,
        Formula::Slaney => LOG_START / LINEAR_HERTZ + (hertz / LOG_START).ln() / (6.4f64.ln() / 27.0),
    }
}

fn hertz_of(mel: f64, formula: Formula) -> f64 {
    let start = LOG_START / LINEAR_HERTZ;
    match formula {
        Formula::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
        Formula::Slaney if mel < start => mel * LINEAR_HERTZ,
        Formula::Slaney => LOG_START * ((mel - start) * (6.4f64.ln() / 27.0)).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f64, rate: u32, length: usize) -> Sound {
        let sample = |i: usize| (std::f64::consts::TAU * hertz * i as f64 / f64::from(rate)).sin() as f32;
        Sound { rate, channels: vec![(0..length).map(sample).collect()] }
    }

    #[test]
    fn resampling_keeps_tones() {
        let got = tone(440.0, 44100, 44100).resample(16000).unwrap();
        let want = tone(440.0, 16000, 16000);
        assert_eq!(got.channels[0].len(), 16000);
        // The ends lack half of what they are computed from.
        let worst = (500..15500).map(|i| (got.channels[0][i] - want.channels[0][i]).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
        // What the new rate cannot hold is gone.
        let gone = tone(12000.0, 44100, 44100).resample(16000).unwrap();
        assert!(gone.channels[0][500..15500].iter().all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn frames_and_windows() {
        let sound = Sound { rate: 8, channels: vec![(0..7).map(|i| i as f32).collect()] };
        let frames = sound.frames(&Frames { size: 4, hop: 2, window: Window::None }).unwrap();
        assert_eq!((frames.shape, &frames.data[4..]), (vec![2, 4], &[2.0, 3.0, 4.0, 5.0][..]));
        assert!(sound.frames(&Frames { size: 8, hop: 2, window: Window::None }).is_err());
        assert_eq!(window(Window::Hann, 4), [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(mirrored(&[1.0, 2.0, 3.0], 2).unwrap(), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
        let stereo = Sound { rate: 8, channels: vec![vec![1.0, 3.0], vec![2.0, 5.0]] };
        assert!(stereo.frames(&Frames { size: 1, hop: 1, window: Window::None }).is_err());
        assert_eq!(stereo.clone().array().shape, [2, 2]);
        assert_eq!(stereo.mono().channels, [[1.5, 4.0]]);
    }

    #[test]
    fn a_tone_is_in_its_band() {
        for formula in [Formula::Htk, Formula::Slaney] {
            for hertz in [300.0, 1000.0, 3000.0] {
                assert!((hertz_of(mel_of(hertz, formula), formula) - hertz).abs() < 1e-6);
                let how = Mel {
                    fft: 512,
                    window: Some(400),
                    hop: 160,
                    bands: 40,
                    low: 0.0,
                    high: None,
                    power: 2.0,
                    formula,
                    by_width: false,
                    centre: true,
                };
                let mel = tone(hertz, 16000, 16000).mel(&how).unwrap();
                assert_eq!(mel.shape, [40, 101]);
                let middle: Vec<f32> = (0..40).map(|b| mel.data[b * 101 + 50]).collect();
                let loudest = (0..40).max_by(|&a, &b| middle[a].total_cmp(&middle[b])).unwrap();
                let step = mel_of(8000.0, formula) / 41.0;
                let band = mel_of(hertz, formula) / step - 1.0;
                assert!((loudest as f64 - band).abs() <= 1.0, "{hertz}: {loudest}, {band}");
            }
        }
    }
}
