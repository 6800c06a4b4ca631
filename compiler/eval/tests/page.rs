//! Pages as a browser shows them: nothing is empty, cut off or wider than the screen, and there are no errors.
//! Needs Chromium (Debian: `chromium`). `MCC_PAGES=DIR` keeps the pages, for a look at them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mcc_data::{Port, Preprocess, Samples};
use mcc_eval::report::page;
use mcc_eval::{Evaluation, Interval, LayerRow, Measure, Outcome, Point, Report, Sweep, Worst, Worth};
use mcc_ir::{DType, Dim, Tensor, TensorType};
use serde_json::Value;

const WIDTHS: [u32; 2] = [1280, 400];

fn measure(name: &str, of_labels: bool) -> Measure {
    let metric = mcc_eval::metrics::find(name).unwrap();
    Measure { name: name.to_string(), about: metric.about.to_string(), higher_is_better: metric.higher, of_labels }
}

fn outcome(name: &str, n: usize, values: &[f64]) -> Outcome {
    let worth = |&value: &f64| Worth {
        value: Some(value).filter(|v| v.is_finite()),
        difference: (n > 0).then_some(Interval { value: -0.0021, low: -0.0043, high: 0.0002 }),
    };
    Outcome {
        name: name.to_string(),
        values: values.iter().map(worth).collect(),
        median_ms: Some(12.345 / (n + 1) as f64),
        file_bytes: 102_400_123 >> n,
        text_bytes: 412_345,
        weights_bytes: 102_223_344 >> (2 * n),
        arena_bytes: 3_456_789 >> n,
    }
}

fn worst(samples: &Samples) -> Vec<Worst> {
    let one = |sample: usize| Worst {
        sample,
        name: samples.name(sample).to_string(),
        value: 0.0,
        first: 1.0,
        label: Some("7".to_string()),
        said: vec!["7 (0.912)".to_string(), "1 (0.532)".to_string()],
    };
    (0..samples.len()).map(one).collect()
}

fn layer(n: usize) -> LayerRow {
    let name = ["/features/features.0/conv/Conv", "/layer1/0/conv1", "fc & <out>"][n % 3];
    LayerRow {
        name: format!("{name}_{n}"),
        operator: ["Conv", "Conv", "Gemm"][n % 3].to_string(),
        zeros: n as f64 / 20.0,
        weight_bits: [32.0, 8.0, 4.125][n % 3],
        activation_bits: [32, 8, 8][n % 3],
        error: (!n.is_multiple_of(3)).then_some(0.00123 * n as f64),
        before_ms: Some(0.5 / (n + 1) as f64),
        after_ms: Some(0.2 / (n + 1) as f64),
        why: ["stays float: the first layer, int8 would cost 0.4 points", "int8: 2.5 times faster", ""][n % 3]
            .to_string(),
    }
}

/// A page with everything.
fn full(samples: &Samples) -> Report {
    let evaluation = Evaluation {
        samples: 10_000,
        labelled: true,
        metrics: vec![measure("top1", true), measure("top5", true), measure("sqnr", false)],
        models: vec![
            outcome("resnet50", 0, &[0.7613, 0.9286, f64::INFINITY]),
            outcome("resnet50.int8.pruned-70-percent-with-a-long-name", 1, &[0.7592, 0.9271, 31.4]),
            outcome("resnet50.int4", 2, &[0.7371, 0.9101, 22.8]),
        ],
        worst: worst(samples),
    };
    let point = |n: usize| Point {
        name: format!("sparsity = 0.{n}, bits = {}", 8 - n % 5),
        bytes: 26_000_000 - 2_000_000 * n as u64,
        median_ms: 12.0 - n as f64,
        value: 0.76 - 0.002 * (n * n % 7) as f64 - 0.001 * n as f64,
    };
    let sweep = Sweep { metric: "top1".to_string(), higher_is_better: true, points: (0..10).map(point).collect() };
    Report {
        title: "resnet50: int8 and 70 % of the weights zero".to_string(),
        evaluation,
        layers: (0..18).map(layer).collect(),
        sweep: Some(sweep),
        recipe: Some(
            "[[steps]]\nkind = \"prune\"\nshare = 0.7\n\n[[steps]]\nkind = \"quantize\"\nbits = 8\n".to_string(),
        ),
    }
}

/// A page of one model without labels.
fn small(title: &str, samples: &Samples) -> Report {
    let evaluation = Evaluation {
        samples: samples.len(),
        labelled: false,
        metrics: vec![measure("relative-l2", false)],
        models: vec![outcome("vad", 0, &[0.0])],
        worst: worst(samples),
    };
    Report { title: title.to_string(), evaluation, layers: Vec::new(), sweep: None, recipe: None }
}

fn images(dir: &Path) -> Samples {
    fs::create_dir_all(dir.join("images")).unwrap();
    for n in 0..3u32 {
        let side = [8, 300, 90][n as usize];
        let pixel = |x: u32, y: u32| image::Rgb([(x * 255 / side) as u8, (y * 255 / side) as u8, 80 * n as u8]);
        image::RgbImage::from_fn(side, side, pixel).save(dir.join(format!("images/{n}.png"))).unwrap();
    }
    let file = dir.join("images.toml");
    fs::write(&file, "source = \"image\"\n[input]\nsteps = [{ resize = { size = [4, 4] } }]").unwrap();
    open(&dir.join("images"), &file, port(DType::F32, &[1, 3, 4, 4]))
}

fn port(dtype: DType, dims: &[usize]) -> Port {
    Port { name: "x".to_string(), ty: TensorType::fixed(dtype, dims) }
}

fn open(data: &Path, file: &Path, port: Port) -> Samples {
    Samples::open(&[data.to_path_buf()], &[port], Some(&Preprocess::open(file).unwrap())).unwrap()
}

fn sound(dir: &Path) -> Samples {
    let tone = |i: u32| ((f64::from(i) / 20.0).sin() * 20000.0 * (f64::from(i) / 1500.0).sin()) as i16;
    let bytes: Vec<u8> = (0..8000).flat_map(|i| tone(i).to_le_bytes()).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + bytes.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    wav.extend((bytes.len() as u32).to_le_bytes());
    wav.extend(bytes);
    fs::create_dir_all(dir.join("sound")).unwrap();
    fs::write(dir.join("sound/a tone.wav"), wav).unwrap();
    let file = dir.join("sound.toml");
    fs::write(&file, "source = \"sound\"\n[input]\nsteps = [{ length = { size = 10 } }]").unwrap();
    open(&dir.join("sound"), &file, port(DType::F32, &[1, 10]))
}

fn text(dir: &Path) -> Samples {
    fs::create_dir_all(dir.join("text")).unwrap();
    let long = "aVeryLongWordWithoutAnyBlankInIt".repeat(20);
    fs::write(dir.join("text/lines.txt"), format!("<script>alert('no')</script>\n{long}\n")).unwrap();
    let file = dir.join("text.toml");
    fs::write(&file, "source = \"lines\"\n[input]\nsteps = [\"bytes\", { length = { size = 10 } }]").unwrap();
    let ty = TensorType::new(DType::I64, vec![Dim::sym("batch"), Dim::sym("length")]);
    open(&dir.join("text"), &file, Port { name: "x".to_string(), ty })
}

fn tensors() -> Samples {
    let picture = mcc_ir::random::noise(DType::F32, &[1, 1, 12, 16], 1).unwrap();
    Samples::from_tensors(vec![vec![picture], vec![Tensor::zeros(DType::F32, vec![1, 40])]])
}

/// Loads each page at each width, and says what it finds.
const HARNESS: &str = r#"
const found = [];
for (const [name, html] of Object.entries(PAGES)) for (const width of WIDTHS) {
  const frame = document.createElement('iframe');
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  const loaded = new Promise(done => frame.onload = done);
  frame.srcdoc = html;
  document.body.append(frame);
  await loaded;
  const doc = frame.contentDocument, faults = [];
  await Promise.all([...doc.images].map(image => image.decode().catch(() => faults.push('an image is not shown'))));
  const root = doc.documentElement;
  if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} pixels wide`);
  for (const e of doc.body.querySelectorAll('*')) {
    if (e.closest('svg') || e.closest('.scroll') && !e.matches('.scroll')) continue;
    const box = e.getBoundingClientRect(), label = `${e.tagName} "${e.textContent.slice(0, 30)}"`;
    if (box.right > width + 0.5 || box.left < -0.5) faults.push(`${label} ends at ${box.right}`);
    if (!e.matches('.scroll') && e.clientWidth && e.scrollWidth > e.clientWidth + 1) faults.push(`${label} overflows`);
  }
  const plots = [...doc.querySelectorAll('svg')];
  for (const svg of plots) {
    const shapes = [...svg.querySelectorAll('rect, circle, line, polyline, path, polygon')];
    if (!shapes.some(s => s.getBBox().width + s.getBBox().height > 1)) faults.push('a plot is empty');
    const view = svg.viewBox.baseVal;
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBBox();
      if (box.x < -1 || box.x + box.width > view.width + 1) faults.push(`the text "${text.textContent}" of a plot is cut off`);
    }
  }
  const figures = [...doc.querySelectorAll('td.figure')];
  if (figures.some(cell => frame.contentWindow.getComputedStyle(cell).textAlign !== 'right')) faults.push('figures are not at the right');
  found.push({name, width, faults, plots: plots.length, images: doc.images.length, figures: figures.length, scripts: doc.scripts.length});
}
await fetch('/result', {method: 'POST', body: JSON.stringify(found)});
"#;

#[test]
fn pages_show_everything_on_wide_and_narrow_screens() {
    let dir = tempfile::tempdir().unwrap();
    let (images, sound, text, tensors) = (images(dir.path()), sound(dir.path()), text(dir.path()), tensors());
    let pages: Vec<(&str, String)> = vec![
        ("full", page(&full(&images), &images).unwrap()),
        ("sound", page(&small("sound", &sound), &sound).unwrap()),
        ("text", page(&small("text", &text), &text).unwrap()),
        ("tensors", page(&small("tensors", &tensors), &tensors).unwrap()),
    ];
    if let Some(kept) = std::env::var_os("MCC_PAGES") {
        pages.iter().for_each(|(name, html)| fs::write(Path::new(&kept).join(format!("{name}.html")), html).unwrap());
    }
    for (name, html) in &pages {
        // Nothing is loaded from elsewhere.
        let sources = html.split("src=\"").skip(1).chain(html.split("href=\"").skip(1));
        assert!(sources.clone().all(|source| source.starts_with("data:")), "{name}");
    }
    let found = look(dir.path(), &pages);
    assert_eq!(found.len(), pages.len() * WIDTHS.len());
    for page in &found {
        assert_eq!(page["faults"], Value::Array(Vec::new()), "{page}");
        assert_eq!(page["scripts"], 0, "{page}");
    }
    let of = |name: &str, what: &str| found.iter().find(|page| page["name"] == name).unwrap()[what].as_u64().unwrap();
    assert_eq!((of("full", "plots"), of("full", "images")), (2 + 3 + 2, 3));
    assert!(of("full", "figures") > 18 * 6);
    assert_eq!((of("sound", "plots"), of("tensors", "images"), of("text", "images")), (4, 1, 0));
}

/// What Chromium finds of the pages. It loads the harness from this process and sends the result back.
fn look(dir: &Path, pages: &[(&str, String)]) -> Vec<Value> {
    let pages: serde_json::Map<String, Value> =
        pages.iter().map(|(name, html)| (name.to_string(), Value::String(html.clone()))).collect();
    // Within a script `</` would end it.
    let pages = Value::Object(pages).to_string().replace("</", "<\\/");
    let script = format!("const PAGES = {pages}; const WIDTHS = {WIDTHS:?};\n{HARNESS}");
    let icon = "<link rel=icon href='data:,'>";
    let harness = format!("<!doctype html><meta charset=utf-8>{icon}<body><script type=module>{script}</script>");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = dir.join("log");
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .args(["--window-size=1400,1000", &format!("--user-data-dir={}", dir.join("profile").display())])
        .arg(format!("http://{}/", listener.local_addr().unwrap()))
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .expect("chromium is installed (Debian: apt-get install chromium)");
    let result = serve(&listener, &harness);
    browser.kill().unwrap();
    browser.wait().unwrap();
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    serde_json::from_str(&result.unwrap_or_else(|| panic!("no result\n{log}"))).unwrap()
}

/// Answers with the harness until something is posted; `None` if nothing is in time.
fn serve(listener: &TcpListener, harness: &str) -> Option<String> {
    const SECONDS: u64 = 300;
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(SECONDS) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        if let Ok(Some(result)) = answer(stream, harness) {
            return Some(result);
        }
    }
    None
}

/// Answers a request; returns what it posts.
fn answer(stream: TcpStream, harness: &str) -> std::io::Result<Option<String>> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first)?;
    while reader.read_line(&mut line)? > 2 {
        let header = line.to_ascii_lowercase();
        length = header.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let posted = first.starts_with("POST");
    let text = if posted { "" } else { harness };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nContent-Length:";
    write!(reader.get_mut(), "{head} {}\r\n\r\n{text}", text.len())?;
    Ok(posted.then(|| String::from_utf8_lossy(&body).into_owned()))
}
