//! Runners (`--emit runner`), for this machine's kind and for 64-bit Arm under qemu, and `mcc report`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").canonicalize().unwrap()
}

fn digits() -> String {
    tests().join("models/digits.onnx").display().to_string()
}

fn case(name: &str) -> PathBuf {
    tests().join("cases/models").join(name)
}

/// Runs a command, checks its exit status, and returns stdout and stderr.
fn expect(status: i32, command: &mut Command) -> (String, String) {
    let out = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(status), "{command:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

fn mcc(status: i32, arguments: &[&str]) -> (String, String) {
    expect(status, Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments))
}

/// A machine, and the emulator that runs its programs here, if it is not of this machine's kind.
#[derive(Clone, Copy)]
struct Machine {
    triple: &'static str,
    emulator: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine { triple: "x86_64-unknown-linux-gnu", emulator: "qemu-x86_64 -cpu max" },
    Machine { triple: "aarch64-linux-android", emulator: "qemu-aarch64" },
];

/// A runner in a folder of its own.
struct Runner {
    folder: tempfile::TempDir,
    machine: Machine,
}

impl Runner {
    fn of(model: &str, machine: Machine, options: &[&str]) -> Runner {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runner").display().to_string();
        mcc(0, &[&[model, "--emit", "runner", "--target", machine.triple, "-o", &file], options].concat());
        Runner { folder, machine }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self, status: i32, arguments: &[&str]) -> (String, String) {
        let words = self.machine.emulator.split(' ');
        let here = self.machine.triple.starts_with(std::env::consts::ARCH);
        let words = if here { Vec::new() } else { words.map(str::to_string).collect() };
        let words = [words, vec![self.path("runner")]].concat();
        expect(status, Command::new(&words[0]).args(&words[1..]).args(arguments))
    }

    /// The report of a command, and what `mcc report` makes of it.
    fn report(&self, arguments: &[&str]) -> (Value, String) {
        let file = self.path("report.json");
        self.run(0, &[arguments, &["--json", &file]].concat());
        let report = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        (report, mcc(0, &["report", &file]).0)
    }
}

#[test]
fn runners_come_alone_and_are_static() {
    for machine in MACHINES {
        let runner = Runner::of(&digits(), machine, &[]);
        let names: Vec<_> = std::fs::read_dir(runner.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["runner"]);
        let readelf = Command::new("readelf").args(["-lW", &runner.path("runner")]).output().unwrap();
        let headers = String::from_utf8(readelf.stdout).unwrap();
        assert!(headers.contains("EXEC (Executable file)"), "{headers}");
        for word in ["INTERP", "DYNAMIC", "RWE"] {
            assert!(!headers.contains(word), "{headers}");
        }
        // Reproducible.
        let other = Runner::of(&digits(), machine, &[]);
        assert!(std::fs::read(runner.path("runner")).unwrap() == std::fs::read(other.path("runner")).unwrap());
    }
}

#[test]
fn models_are_timed() {
    for machine in MACHINES {
        let runner = Runner::of(&digits(), machine, &[]);
        let input = format!("image={}", tests().join("models/digits/sample_3_label3.npy").display());
        let (report, text) = runner.report(&["--seconds", "0.1", "-i", &input]);
        let m = &report["measurements"][0];
        let ms = |key: &str| m[key].as_f64().unwrap();
        let order = ["min_ms", "p10_ms", "median_ms", "p90_ms", "p99_ms", "max_ms"].map(ms);
        assert!(order[0] > 0.0 && order.is_sorted(), "{m}");
        assert!(ms("mean_ms") >= order[0] && ms("mean_ms") <= order[5], "{m}");
        assert!(m["runs"].as_u64().unwrap() >= 5 && ms("drift") > 0.0, "{m}");
        assert_eq!(m["part_medians_ms"].as_array().unwrap().len(), 10);
        assert!(m.get("step_ms").is_none() && !text.contains("kernel"), "{text}");
        assert!(text.contains("median") && text.contains("input image: [1,1,8,8]"), "{text}");
        let (plain, _) = runner.run(0, &["time", "--seconds", "0"]);
        assert!(plain.contains(" ms minimum") && plain.contains("of 5 runs\ndrift"), "{plain}");
    }
}

#[test]
fn cpus_are_chosen() {
    let runner = Runner::of(&digits(), MACHINES[0], &[]);
    for which in ["big", "little", "all", "0"] {
        let (report, _) = runner.report(&["--seconds", "0", "--cpus", which]);
        let used = report["measurements"][0]["cpus"].as_str().unwrap();
        assert!(used.starts_with(|c: char| c.is_ascii_digit()) && (which != "0" || used == "0"), "{which}: {used}");
    }
    let (report, text) = runner.report(&["--seconds", "0", "--cpus", "each"]);
    let groups = report["cpu_groups"].as_array().unwrap().len();
    assert_eq!(report["measurements"].as_array().unwrap().len(), groups);
    assert_eq!(text.matches("90th").count(), groups);
    runner.run(1, &["--cpus", "255"]);
    for bad in ["", "3-1", "x", "0-", "9999999999999999999"] {
        assert!(runner.run(2, &["--cpus", bad]).1.contains("expected big, little"), "{bad}");
    }
}

/// Every step of the level that runs has a time, and `mcc report` prints the table of `mcc bench --profile`.
#[test]
fn steps_are_profiled() {
    for machine in MACHINES {
        let runner = Runner::of(&digits(), machine, &[]);
        let (report, text) = runner.report(&["profile", "--seconds", "0.2"]);
        let (m, levels) = (&report["measurements"][0], report["model"]["levels"].as_array().unwrap());
        let ran = m["level"].as_u64().unwrap() as usize;
        let mut times = m["step_ms"].as_array().unwrap().iter();
        for (n, level) in levels.iter().enumerate() {
            for _ in level["steps"].as_array().unwrap() {
                assert_eq!(times.next().unwrap().is_number(), n == ran, "{m}");
            }
        }
        assert!(times.next().is_none());
        for word in ["kernel (calls)", "packed_conv (3)", "conv2", "all (9)", "GFLOP/s", " %"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let line = mcc(0, &["report", &runner.path("report.json"), "--json"]).0;
        let profile: Value = serde_json::from_str(&line).unwrap();
        let steps = profile["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 9);
        let [sum, total] =
            [steps.iter().map(|s| s["ms"].as_f64().unwrap()).sum(), profile["total_ms"].as_f64().unwrap()];
        // Steps take less than the whole run, which contains reading the clock.
        assert!((sum / total - 1.0).abs() < 1e-9 && total > 0.0 && total < m["max_ms"].as_f64().unwrap(), "{line}");
        let (plain, _) = runner.run(0, &["profile", "--seconds", "0"]);
        assert!(plain.contains("kernel, node") && plain.contains("conv2"), "{plain}");
    }
}

/// The level that runs is the CPU's best, its steps are those with times, and both levels give the recorded results.
#[test]
fn the_cpu_decides_the_level() {
    let model = case("if_quantized").join("model.onnx").display().to_string();
    let runner = Runner::of(&model, MACHINES[1], &[]);
    for (cpu, level) in [("cortex-a53", 0), ("cortex-a76", 1)] {
        let of = |arguments: &[&str]| {
            let mut command = Command::new("qemu-aarch64");
            expect(0, command.args(["-cpu", cpu, &runner.path("runner")]).args(arguments)).0
        };
        let report: Value =
            serde_json::from_str(&of(&["profile", "--seconds", "0", "--json", "--shape", "x=3x16"])).unwrap();
        let m = &report["measurements"][0];
        assert_eq!(m["level"], level, "{cpu}");
        let levels = report["model"]["levels"].as_array().unwrap();
        let counts: Vec<usize> = levels.iter().map(|level| level["steps"].as_array().unwrap().len()).collect();
        let (plain, better) = m["step_ms"].as_array().unwrap().split_at(counts[0]);
        let ran = [plain, better].map(|times| times.iter().any(Value::is_number));
        assert_eq!(ran, [level == 0, level == 1], "{cpu}: {m}");
        // Only the second of these CPUs multiplies bytes in one instruction.
        assert_eq!(m["peak_int8_gops"].as_f64().unwrap() > 0.0, level == 1, "{cpu}");
        assert!(of(&["verify", &case("if_quantized").display().to_string()]).contains(" passed, 0 failed"));
    }
}

/// Amounts of work are those of the dimensions that ran; branches that were not taken have no time.
#[test]
fn dimensions_are_given() {
    let model = case("if_convolutions").join("model.onnx").display().to_string();
    for machine in MACHINES {
        let runner = Runner::of(&model, machine, &[]);
        let (_, stderr) = runner.run(2, &["profile"]);
        assert!(stderr.contains("--shape NAME=1x2x3") && stderr.contains("\"x\": f32[n, 4, 9, w]"), "{stderr}");
        let refused = ["profile", "--shape", "x=2x3x9x8", "--json"];
        let (stdout, stderr) = runner.run(1, &refused);
        assert!(stdout.is_empty() && stderr.contains("the model refuses its inputs: "), "{stdout}{stderr}");
        runner.run(1, &[&refused[..], &[&runner.path("none.json")]].concat());
        assert!(!Path::new(&runner.path("none.json")).exists());
        let _ = runner.report(&["profile", "--seconds", "0", "--shape", "x=2x4x9x8"]);
        let line = mcc(0, &["report", &runner.path("report.json"), "--json"]).0;
        let profile: Value = serde_json::from_str(&line).unwrap();
        let work: f64 = profile["steps"].as_array().unwrap().iter().map(|s| s["multiply_adds"].as_f64().unwrap()).sum();
        assert_eq!(work, f64::from(2592 * 2 * 8), "{line}");
    }
}

#[test]
fn recorded_cases_are_checked() {
    for machine in MACHINES {
        for (name, sets) in [("if_chain", 12), ("quantize_ties_f16", 1), ("counted_extent_alone", 3)] {
            let runner = Runner::of(&case(name).join("model.onnx").display().to_string(), machine, &[]);
            let folder = case(name).display().to_string();
            let (stdout, _) = runner.run(0, &["verify", &folder]);
            assert!(stdout.ends_with(&format!("\n{sets} passed, 0 failed\n")), "{stdout}");
            let (one, _) = runner.run(0, &["verify", &format!("{folder}/test_data_set_0"), &folder, "--cpus", "all"]);
            assert!(one.ends_with(&format!("\n{} passed, 0 failed\n", sets + 1)), "{one}");
        }
    }
}

/// A folder of arrays: inputs and outputs of the sample model, as `mcc run` computes them.
fn recorded(folder: &Path) {
    let sample = tests().join("models/digits/sample_3_label3.npy");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(&sample, folder.join("input_0.npy")).unwrap();
    let (input, to) = (sample.display().to_string(), folder.display().to_string());
    mcc(0, &["run", &digits(), "-i", &input, "-o", &to]);
    std::fs::rename(folder.join("probabilities.npy"), folder.join("output_0.npy")).unwrap();
}

#[test]
fn wrong_results_are_told() {
    for machine in MACHINES {
        let runner = Runner::of(&digits(), machine, &[]);
        let cases = runner.path("cases");
        let set = Path::new(&cases).join("test_data_set_7");
        recorded(&set);
        assert!(runner.run(0, &["verify", &cases]).0.contains("test_data_set_7\n1 passed, 0 failed"));
        let output = set.join("output_0.npy");
        let right = std::fs::read(&output).unwrap();
        let last = right.len() - 4;
        let mut wrong = right.clone();
        wrong[last..].copy_from_slice(&1.5f32.to_le_bytes());
        std::fs::write(&output, &wrong).unwrap();
        let (stdout, _) = runner.run(1, &["verify", &cases]);
        assert!(stdout.contains("\"probabilities\": 1 of 10 elements differ; element [0, 9] is "), "{stdout}");
        assert!(stdout.contains("expected 1.500000e0\n0 passed, 1 failed"), "{stdout}");
        runner.run(0, &["verify", &cases, "--atol", "2"]);
        // As in mcc verify, a file beside the data sets has the tolerances.
        std::fs::write(Path::new(&cases).join("tolerance"), "1e-3 1.6\n").unwrap();
        runner.run(0, &["verify", &cases]);
        std::fs::write(Path::new(&cases).join("tolerance"), "much\n").unwrap();
        assert!(runner.run(1, &["verify", &cases]).1.contains("RTOL ATOL"));
        std::fs::remove_file(Path::new(&cases).join("tolerance")).unwrap();
        // NaN agrees with nothing else, and cut or missing files are no results.
        wrong[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&output, &wrong).unwrap();
        assert!(runner.run(1, &["verify", &cases, "--atol", "9"]).0.contains("expected NaN"));
        std::fs::write(&output, &right[..last]).unwrap();
        assert!(runner.run(1, &["verify", &cases]).1.contains("more or fewer elements"));
        std::fs::remove_file(&output).unwrap();
        assert!(runner.run(1, &["verify", &cases]).1.contains("no output_0.pb"));
        assert!(runner.run(1, &["verify", &runner.path("none")]).1.contains("no folder"));
    }
}

/// Files that are cut, or of other contents, end with a message, never with a signal.
#[test]
fn broken_files_are_refused() {
    let runner = Runner::of(&digits(), MACHINES[0], &[]);
    let array = std::fs::read(tests().join("models/digits/sample_3_label3.npy")).unwrap();
    let proto = case("if_chain").join("test_data_set_0/input_0.pb");
    let proto = std::fs::read(proto).unwrap();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    let mut mutants: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, file) in [("m.npy", &array), ("m.pb", &proto)] {
        mutants.extend((0..file.len().min(150)).map(|n| (name, file[..n].to_vec())));
        mutants.extend((0..150).map(|_| {
            let mut other = file.clone();
            let at = next() % other.len().min(130);
            other[at] = next() as u8;
            (name, other)
        }));
    }
    for (name, bytes) in mutants {
        let file = runner.path(name);
        std::fs::write(&file, &bytes).unwrap();
        let out = Command::new(runner.path("runner")).args(["--seconds", "0", "-i", &file]).output();
        let status = out.unwrap().status.code();
        assert!(matches!(status, Some(0 | 1)), "{status:?}: {name} {bytes:?}");
    }
}

#[test]
fn threads_give_the_same() {
    for machine in MACHINES {
        let runner =
            Runner::of(&case("if_convolutions").join("model.onnx").display().to_string(), machine, &["--threads=4"]);
        let folder = case("if_convolutions").display().to_string();
        runner.run(0, &["verify", "--threads", "4", &folder]);
        let (report, _) = runner.report(&["--threads", "3", "--seconds", "0.1", "--shape", "x=16x4x9x200"]);
        assert_eq!(report["measurements"][0]["threads"], 3);
        assert!(runner.run(2, &["--threads", "5", "--shape", "x=1x4x9x8"]).1.contains("mcc --threads"));
    }
}

#[test]
fn weights_may_be_a_file() {
    let runner = Runner::of(&digits(), MACHINES[1], &["--weights", "separate"]);
    let set = runner.folder.path().join("set");
    recorded(&set);
    let set = set.display().to_string();
    assert!(runner.run(2, &["verify", &set]).1.contains("--weights"));
    runner.run(0, &["verify", &set, "--weights", &runner.path("runner.weights")]);
    let weights = std::fs::read(runner.path("runner.weights")).unwrap();
    std::fs::write(runner.path("other"), vec![0; weights.len()]).unwrap();
    let (_, stderr) = runner.run(1, &["verify", &set, "--weights", &runner.path("other")]);
    assert!(stderr.contains("must be the file of weights"), "{stderr}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r").display().to_string();
    for (target, word) in [("aarch64-apple-ios", "Linux and Android"), ("x86_64-pc-windows-gnu", "Linux and Android")] {
        let (_, stderr) = mcc(1, &[&digits(), "--emit", "runner", "--target", target, "-o", &file]);
        assert!(stderr.contains(word), "{stderr}");
    }
    let (_, stderr) = mcc(2, &[&digits(), "--emit", "runner", "-o", &file, "--header", "x.h"]);
    assert!(stderr.contains("--header has no effect on --emit runner"), "{stderr}");
    std::fs::write(&file, "{").unwrap();
    assert!(mcc(1, &["report", &file]).1.contains("not JSON"));
    std::fs::write(&file, "{}").unwrap();
    assert!(mcc(1, &["report", &file]).1.contains("--emit runner"));
    let runner = Runner::of(&digits(), MACHINES[0], &[]);
    for arguments in [&["walk"][..], &["--seconds"], &["--seconds", "x"], &["--fast"], &["time", "x"], &["verify"]] {
        let (_, stderr) = runner.run(2, arguments);
        assert!(stderr.starts_with("mcc runner: "), "{stderr}");
    }
    assert!(runner.run(2, &["-i", "a.npy", "-i", "b.npy"]).1.contains("\"image\": f32[1, 1, 8, 8]"));
    assert!(runner.run(0, &["--help"]).0.contains("usage: runner"));
}
