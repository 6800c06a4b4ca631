//! Images, sound and text with a file of preprocessing, and every fault of such a file.

use std::fs;
use std::path::{Path, PathBuf};

use mcc_data::{Port, Preprocess, Samples};
use mcc_ir::{DType, Dim, Tensor, TensorType};
use tempfile::TempDir;

fn port(name: &str, dtype: DType, dims: &str) -> Port {
    let dim = |text: &str| text.parse::<i64>().map_or_else(|_| Dim::sym(text), Dim::from);
    Port { name: name.to_string(), ty: TensorType::new(dtype, dims.split_whitespace().map(dim).collect()) }
}

fn put(dir: &TempDir, name: &str, contents: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents).unwrap();
    path
}

/// The samples in `dir`/data, with a file of preprocessing.
fn open(dir: &TempDir, toml: &str, inputs: &[Port]) -> mcc_ir::Result<Samples> {
    let file = put(dir, "preprocess.toml", toml.as_bytes());
    Samples::open(&[dir.path().join("data")], inputs, Some(&Preprocess::open(&file)?))
}

fn one(dir: &TempDir, toml: &str, input: Port) -> Tensor {
    open(dir, toml, &[input]).unwrap().read(0).unwrap().remove(0)
}

fn refusal(dir: &TempDir, toml: &str, inputs: &[Port]) -> String {
    open(dir, toml, inputs).unwrap_err().to_string()
}

/// A picture of 8x6 pixels with a pattern.
fn picture(dir: &TempDir, name: &str) -> PathBuf {
    let path = put(dir, name, b"");
    let pattern = |x: u32, y: u32| image::Rgb([0, 1, 2].map(|c| ((x * 37 + y * 91 + c * 53) % 256) as u8));
    image::RgbImage::from_fn(8, 6, pattern).save(&path).unwrap();
    path
}

#[test]
fn pictures_are_scaled_as_pillow_does() {
    let dir = TempDir::new().unwrap();
    picture(&dir, "data/a.png");
    // What Pillow 12 gives for the first channel of the same pattern.
    let cases: &[(&str, [i64; 12])] = &[
        ("nearest", [128, 202, 20, 94, 54, 128, 202, 20, 236, 54, 128, 202]),
        ("bilinear", [86, 126, 141, 105, 112, 105, 127, 131, 145, 117, 95, 132]),
        ("bicubic", [80, 131, 146, 98, 113, 98, 129, 134, 150, 119, 86, 135]),
        ("lanczos", [81, 129, 148, 96, 113, 102, 129, 131, 147, 119, 87, 137]),
    ];
    for (filter, want) in cases {
        let toml =
            format!("source = \"image\"\n[input]\nsteps = [{{ resize = {{ size = [3, 4], filter = \"{filter}\" }} }}]");
        let got = one(&dir, &toml, port("x", DType::U8, "1 3 3 4")).to_i64s();
        let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).max().unwrap();
        // The order of rows and columns differs, and each pass rounds.
        assert!(worst <= 1, "{filter}: {got:?}, {want:?}");
    }
}

#[test]
fn every_format_of_pictures() {
    let dir = TempDir::new().unwrap();
    for name in ["a.png", "b.bmp", "c.ppm", "d.gif", "e.webp", "f.jpeg", "sub/g.pgm"] {
        let path = put(&dir, &format!("data/{name}"), b"");
        let gray = image::GrayImage::from_fn(8, 6, |x, y| image::Luma([(x * 20 + y * 3) as u8]));
        match name.ends_with("pgm") {
            true => gray.save(&path).unwrap(),
            false => image::DynamicImage::from(gray).into_rgb8().save(&path).unwrap(),
        }
    }
    put(&dir, "data/notes.md", b"not a picture");
    let toml = "source = \"image\"\n[input]\nsteps = [{ color = \"gray\" }]";
    let samples = open(&dir, toml, &[port("x", DType::F32, "batch 1 6 8")]).unwrap();
    assert_eq!(
        (0..7).map(|n| samples.name(n)).collect::<Vec<_>>().join(" "),
        "a.png b.bmp c.ppm d.gif e.webp f.jpeg sub/g.pgm"
    );
    for n in 0..7 {
        let tensor = samples.read(n).unwrap().remove(0);
        let (a, b) = (tensor.f64_at(0), tensor.f64_at(47));
        // JPEG and GIF lose a little.
        assert!(a.abs() <= 4.0 && (b - 155.0).abs() <= 4.0, "{}: {a} {b}", samples.name(n));
    }
}

#[test]
fn a_whole_recipe_for_pictures() {
    let dir = TempDir::new().unwrap();
    picture(&dir, "data/a.png");
    let toml = r#"
        source = "image"
        [inputs.x]
        steps = [
            { crop = [2, 2] },
            { color = "bgr" },
            { scale = 0.00392156862745098 },
            { normalise = { mean = [0.5, 0.0, 0.0], std = [0.5, 1.0, 1.0] } },
            { layout = "NHWC" },
        ]
        [inputs.size]
        value = 6
    "#;
    let inputs = [port("x", DType::F32, "1 2 2 3"), port("size", DType::I64, "batch 2")];
    let tensors = open(&dir, toml, &inputs).unwrap().read(0).unwrap();
    let pixel = |c: u32| f64::from((3 * 37 + 2 * 91 + c * 53) % 256) / 255.0;
    let want = [(pixel(2) - 0.5) / 0.5, pixel(1), pixel(0)];
    for (c, want) in want.iter().enumerate() {
        assert!((tensors[0].f64_at(c) - want).abs() < 1e-6);
    }
    assert_eq!((tensors[1].shape(), tensors[1].to_i64s()), ([1, 2].as_slice(), vec![6, 6]));
    // An integer input takes whole numbers only.
    let halves = "source = \"image\"\n[input]\nsteps = [{ scale = 0.5 }]";
    let message = refusal(&dir, halves, &[port("x", DType::U8, "1 3 6 8")]);
    assert!(message.contains("step dtype = \"u8\""), "{message}");
    let rounded = "source = \"image\"\n[input]\nsteps = [{ scale = 2.5 }, { dtype = \"u8\" }]";
    assert_eq!(one(&dir, rounded, port("x", DType::U8, "1 3 6 8")).to_i64s()[..3], [0, 92, 185]);
}

/// A file of sound with samples of 16 bits.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * 2).to_le_bytes());
    file.extend((channels * 2).to_le_bytes());
    file.extend(b"\x10\0data");
    file.extend((bytes.len() as u32).to_le_bytes());
    [file, bytes].concat()
}

#[test]
fn sound_as_samples_and_frames() {
    let dir = TempDir::new().unwrap();
    let samples: Vec<i16> = (0..10).flat_map(|i| [i * 1000, i * 3000]).collect();
    put(&dir, "data/a.wav", &wav(8000, 2, &samples));
    let toml = "source = \"sound\"\n[input]\nsteps = [\"mono\", { length = { size = 12 } }]";
    let tensor = one(&dir, toml, port("x", DType::F32, "1 12"));
    assert_eq!((tensor.f64_at(3), tensor.f64_at(10)), (6000.0 / 32768.0, 0.0));
    let frames = "source = \"sound\"\n[input]\nsteps = [\"mono\", { frames = { size = 4, hop = 3 } }, \"transpose\"]";
    let tensor = one(&dir, frames, port("x", DType::F32, "4 n"));
    assert_eq!((tensor.shape(), tensor.f64_at(1)), ([4, 3].as_slice(), 6000.0 / 32768.0));
    let message = refusal(
        &dir,
        "source = \"sound\"\n[input]\nsteps = [{ frames = { size = 4, hop = 3 } }]",
        &[port("x", DType::F32, "n 4")],
    );
    assert!(
        message.contains("2 channels") && message.contains("step 1 (frames)") && message.contains("a.wav"),
        "{message}"
    );
    put(&dir, "data/b.wav", b"RIFFnonsense");
    let message = refusal(&dir, toml, &[port("x", DType::F32, "1 12")]);
    assert!(message.contains("b.wav: not readable sound"), "{message}");
}

#[test]
fn mel_spectrograms_are_of_the_definition() {
    let dir = TempDir::new().unwrap();
    let tone = |i: u32| {
        let turns = |hertz: f64| std::f64::consts::TAU * hertz * f64::from(i) / 8000.0;
        (12000.0 * turns(440.0).sin() + 6000.0 * turns(1800.0).cos()).round() as i16
    };
    put(&dir, "data/a.wav", &wav(8000, 1, &(0..1000).map(tone).collect::<Vec<_>>()));
    // Column 5 of what NumPy gives in doubles.
    let htk = [-1.45857, 2.66421, 2.26045, -3.43739, 0.31906, 2.18973, 0.60896, -6.33655];
    let slaney = [-0.11461, 0.23129, -4.33567, -7.09284, -2.36914, -0.49812, -2.09846, -9.15056];
    for (more, want) in [("", htk), (", formula = \"slaney\", by-width = true", slaney)] {
        let toml = format!(
            "source = \"sound\"\n[input]\nsteps = [\n{{ mel = {{ fft = 256, window = 200, hop = 80, bands = 8{more} }} }},\n\
             {{ log = {{ decimal = true }} }},\n]"
        );
        let tensor = one(&dir, &toml, port("x", DType::F32, "1 8 13"));
        for (band, want) in want.iter().enumerate() {
            let got = tensor.f64_at(band * 13 + 5);
            // Bands without energy hold rounding errors.
            assert!((got - want).abs() < if *want < -3.0 { 0.05 } else { 1e-3 }, "{band}: {got}, {want}");
        }
    }
}

#[test]
fn text_by_word_pieces() {
    let dir = TempDir::new().unwrap();
    put(&dir, "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nworld\n##s\n");
    put(&dir, "data/all.txt", "Hello worlds\r\n\nhello\n".as_bytes());
    let toml = r#"
        source = "lines"
        [inputs.ids]
        steps = [{ wordpiece = { vocabulary = "vocab.txt" } }, { length = { size = 6 } }]
        [inputs.mask]
        mask-of = "ids"
        [inputs.types]
        types-of = "ids"
    "#;
    let inputs = ["ids", "mask", "types"].map(|name| port(name, DType::I64, "batch seq"));
    let samples = open(&dir, toml, &inputs).unwrap();
    assert_eq!((samples.len(), samples.name(1)), (2, "all.txt:3"));
    let rows = |n: usize| samples.read(n).unwrap().iter().map(Tensor::to_i64s).collect::<Vec<_>>();
    assert_eq!(rows(0), [[2, 4, 5, 6, 3, 0], [1, 1, 1, 1, 1, 0], [0; 6]]);
    assert_eq!(rows(1)[1], [1, 1, 1, 0, 0, 0]);
    put(&dir, "vocab.txt", b"a\nb\n");
    assert!(refusal(&dir, toml, &inputs).contains("no token \"[UNK]\""));
}

#[test]
fn text_by_characters_and_bytes() {
    let dir = TempDir::new().unwrap();
    put(&dir, "chars.txt", b"a\nb\n?\n");
    put(&dir, "data/x.txt", b" abc ");
    let toml = |vocabulary: &str| {
        format!(
            "source = \"text\"\n[input]\nsteps = [\"strip\", {{ characters = {{ vocabulary = \"chars.txt\"{vocabulary} }} }}]"
        )
    };
    let x = || port("x", DType::I32, "n");
    assert_eq!(one(&dir, &toml(", unknown = \"?\""), x()).to_i64s(), [0, 1, 2]);
    assert!(refusal(&dir, &toml(""), &[x()]).contains("no character 'c'"));
    let bytes = "source = \"bytes\"\n[input]\nsteps = [\"bytes\", { length = { first = 3, last = 2, pad = 256 } }]";
    put(&dir, "data/x.txt", &[0xff, 1, 2, 3, 4]);
    assert_eq!(one(&dir, bytes, port("x", DType::I32, "1 5")).to_i64s(), [255, 1, 2, 3, 4]);
    let message = refusal(&dir, bytes, &[port("x", DType::I32, "1 6")]);
    assert!(message.contains("i32[1, 5]") && message.contains("i32[1, 6]"), "{message}");
    let message = refusal(&dir, bytes, &[port("x", DType::I8, "1 5")]);
    assert!(message.contains("255 is not of type i8"), "{message}");
}

#[test]
fn faults_of_the_file_name_key_and_remedy() {
    let dir = TempDir::new().unwrap();
    picture(&dir, "data/a.png");
    let x = [port("x", DType::F32, "1 3 6 8")];
    let with = |steps: &str| format!("source = \"image\"\n[input]\nsteps = [{steps}]");
    let cases: &[(String, &[&str])] = &[
        (with("{ resise = { size = [2, 2] } }"), &["line 3", "resise", "did you mean resize?"]),
        (with("{ resize = { sise = [2, 2] } }"), &["sise", "did you mean size?"]),
        ("source = \"imag\"".to_string(), &["imag", "did you mean image?"]),
        ("sorce = \"image\"".to_string(), &["sorce", "did you mean source?"]),
        (with("{ resize = { size = [2, 2], shorter = 3 } }"), &["step 1 (resize)", "exactly one of"]),
        (with("{ resize = {} }"), &["exactly one of"]),
        (with("{ scale = 2.0 }, { resize = { size = [2, 2] } }"), &["step 2 (resize)", "before scale"]),
        (with("\"mono\", { dtype = \"f33\" }"), &["step 1 (mono)", "a picture", "step 2 (dtype)", "did you mean f32?"]),
        (
            with("{ normalise = { mean = [1.0, 2.0], std = [1.0] } }"),
            &["step 1 (normalise)", "2 numbers for 3 channels", "a.png"],
        ),
        (with("{ normalise = { mean = [1.0], std = [0.0] } }"), &["std is 0"]),
        (with("{ crop = [20, 2] }"), &["step 1 (crop)", "6x8", "20x2"]),
        (with("{ crop = [2, 2] }"), &["f32[1, 3, 2, 2]", "f32[1, 3, 6, 8]"]),
        ("[input]\nsteps = []".to_string(), &["without a source"]),
        ("source = \"image\"".to_string(), &["no input is described"]),
        (
            "source = \"image\"\n[inputs.y]\nsteps = []".to_string(),
            &["no input \"y\"", "nothing makes the input \"x\""],
        ),
        ("source = \"image\"\n[input]\nvalue = 1\nmask-of = \"x\"".to_string(), &["one of steps"]),
        ("source = \"image\"\n[inputs.x]\nmask-of = \"z\"".to_string(), &["no steps for an input \"z\""]),
        ("[output]\nvocabulary = \"none.txt\"\nblank = 0".to_string(), &["none.txt"]),
    ];
    for (toml, wanted) in cases {
        let message = refusal(&dir, toml, &x);
        for text in *wanted {
            assert!(message.contains(text), "{toml}\ngives: {message}\nwithout: {text}");
        }
        assert!(message.contains("preprocess.toml") || message.contains("none.txt"), "{message}");
    }
    put(&dir, "data/b.png", b"\x89PNG\r\n\x1a\nrest");
    let message = refusal(&dir, &with(""), &x);
    assert!(message.contains("b.png: not a readable picture"), "{message}");
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    put(&dir, "data/x.txt", b"text");
    let message = refusal(&dir, &with(""), &x);
    assert!(message.contains("no pictures at or below it") && message.contains("png"), "{message}");
}

#[test]
fn outputs_have_characters() {
    let dir = TempDir::new().unwrap();
    put(&dir, "chars.txt", b"a\nb\n");
    let file = put(&dir, "p.toml", b"[output]\nvocabulary = \"chars.txt\"\nblank = 0\nmore = [\" \"]");
    let opened = Preprocess::open(&file).unwrap();
    assert_eq!(opened.ctc().unwrap().classes, ["", "a", "b", " "]);
    // Samples are tensors.
    assert!(opened.source().is_none());
    let file = put(&dir, "p.toml", b"[output]\nvocabulary = \"chars.txt\"\nblank = 5");
    assert!(Preprocess::open(Path::new(&file)).unwrap_err().to_string().contains("blank = 5"));
}
