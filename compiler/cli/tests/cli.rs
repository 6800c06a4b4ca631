//! The command line, as scripts see it: files, output, exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mcc_proto::{Message, TensorProto};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn digits() -> String {
    models().join("digits.onnx").to_str().unwrap().to_string()
}

fn sample(n: usize) -> PathBuf {
    models().join(format!("digits/sample_{n}_label{n}.npy"))
}

fn mcc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).output().unwrap()
}

/// Runs mcc, checks the exit status, and returns stdout and stderr.
fn expect(status: i32, arguments: &[&str]) -> (String, String) {
    let out = mcc(arguments);
    let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(status), "mcc {arguments:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

/// The numbers of an f32 `.npy` file, after the header, whose length is in bytes 8 and 9.
fn floats(npy: &Path) -> Vec<f32> {
    let bytes = std::fs::read(npy).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn run_reads_every_digit() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..10 {
        let input = format!("image={}", sample(n).display());
        expect(0, &["run", &digits(), "-i", &input, "-o", dir.path().to_str().unwrap()]);
        let p = floats(&dir.path().join("probabilities.npy"));
        assert_eq!(p.len(), 10);
        let best = (0..10).max_by(|&a, &b| p[a].total_cmp(&p[b]));
        assert_eq!(best, Some(n), "{p:?}");
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let (stdout, _) = expect(0, &["run", &digits(), "-i", sample(3).to_str().unwrap()]);
    assert!(stdout.starts_with("probabilities: f32[1, 10] ["), "{stdout}");
}

#[test]
fn objects_are_reproducible_and_come_alone() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for target in ["x86_64-unknown-linux-gnu", "aarch64-linux-android", "aarch64-apple-ios", "x86_64-pc-windows-gnu"] {
        let files = [&a, &b].map(|dir| {
            let object = dir.path().join("m.o");
            expect(0, &[&digits(), "-o", object.to_str().unwrap(), "--target", target, "--name", "digits"]);
            let mut names: Vec<_> =
                std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            assert_eq!(names, ["m.h", "m.o"]);
            (std::fs::read(object).unwrap(), std::fs::read(dir.path().join("m.h")).unwrap())
        });
        assert!(files[0] == files[1], "{target}");
    }
}

#[test]
fn a_profile_tells_of_every_step() {
    let (stdout, _) = expect(0, &["bench", &digits(), "--seconds", "0", "--profile", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let rows = |key: &str| report[key].as_array().unwrap().clone();
    let (steps, kernels) = (rows("steps"), rows("kernels"));
    let (inspected, _) = expect(0, &["inspect", &digits(), "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(steps.len(), inspected["steps"].as_array().unwrap().len());
    assert!(steps.iter().any(|s| s["multiply_adds"].as_f64() > Some(0.0)), "{report}");
    let total = |rows: &[serde_json::Value]| rows.iter().map(|r| r["ms"].as_f64().unwrap()).sum::<f64>();
    assert!((total(&steps) - total(&kernels)).abs() < 1e-6, "{report}");
    let (stdout, _) = expect(0, &["bench", &digits(), "--seconds", "0", "--profile"]);
    assert!(stdout.contains("of peak") && stdout.lines().count() > steps.len(), "{stdout}");
}

#[test]
fn bad_usage_is_2() {
    for arguments in [
        &[][..],
        &["model.onnx"],
        &["run"],
        &["--no-such-option"],
        &["run", "m.onnx", "--cpu", "no-such-cpu"],
        &["m.onnx", "-o", "m.o", "--target", "no-such-target"],
        &["m.onnx", "-o", "m.o", "--name", "not a name"],
        &["m.onnx", "-o", "m.h"],
        &["m.onnx", "-o", "no-such-folder/m.o"],
        &["m.onnx", "-o", "."],
        &["m.onnx", "-o", "-", "--emit", "graph", "--header", "m.h"],
        &["m.onnx", "-o", "-", "--emit", "graph", "--weights", "separate"],
        &["m.onnx", "-o", "m.o", "--target", "aarch64-linux-android", "--round-weights", "f16"],
        &["inspect", "m.onnx", "--target", "no-such-target"],
        &["bench", "m.onnx", "--dim", "seq"],
        &["m.onnx", "-o", "m.o", "--dim", "seq=1", "--dim", "seq=2"],
        &["m.onnx", "-o", "m.o", "--shape", "x=1", "--shape", "x=2"],
        &["bench", "m.onnx", "--shape", "x=1xbx2"],
    ] {
        let (stdout, stderr) = expect(2, arguments);
        assert!(stdout.is_empty() && stderr.contains("error"), "{arguments:?}: {stderr}");
    }
    let (_, stderr) = expect(2, &["run", &digits()]);
    assert!(stderr.contains("\"image\": f32[1, 1, 8, 8]"), "{stderr}");
    let (_, stderr) = expect(2, &["run", &digits(), "-i", "picture=x.npy"]);
    assert!(stderr.contains("\"picture\"") && stderr.contains("\"image\""), "{stderr}");
}

#[test]
fn bad_models_are_1() {
    let dir = tempfile::tempdir().unwrap();
    let (model, object) = (dir.path().join("bad.onnx"), dir.path().join("bad.o"));
    let arguments = [model.to_str().unwrap(), "-o", object.to_str().unwrap()];
    let (_, stderr) = expect(1, &arguments);
    assert!(stderr.contains("bad.onnx"), "{stderr}");
    let whole = std::fs::read(digits()).unwrap();
    for len in (0..whole.len()).step_by(whole.len() / 40) {
        std::fs::write(&model, &whole[..len]).unwrap();
        let (_, stderr) = expect(1, &arguments);
        assert!(stderr.starts_with("mcc: error: ") && stderr.contains("bad.onnx"), "{len}: {stderr}");
        assert!(!object.exists());
    }
}

/// Lays out a test case of the sample model; `expected` are its outputs.
fn case(dir: &Path, name: &str, expected: &[f32]) -> String {
    let tensor = |dims: &[i64], data: &[f32]| TensorProto {
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: data.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<u8>>().into(),
        ..Default::default()
    };
    let folder = dir.join(name);
    let set = folder.join("test_data_set_0");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::copy(digits(), folder.join("model.onnx")).unwrap();
    let write = |file: &str, t: TensorProto| std::fs::write(set.join(file), t.encode_to_vec()).unwrap();
    write("input_0.pb", tensor(&[1, 1, 8, 8], &floats(&sample(3))));
    write("output_0.pb", tensor(&[1, expected.len() as i64], expected));
    folder.to_str().unwrap().to_string()
}

#[test]
fn verify_tells_right_from_wrong() {
    let dir = tempfile::tempdir().unwrap();
    expect(0, &["run", &digits(), "-i", sample(3).to_str().unwrap(), "-o", dir.path().to_str().unwrap()]);
    let right = floats(&dir.path().join("probabilities.npy"));
    let mut wrong = right.clone();
    wrong[7] += 0.01;
    let cases = dir.path().join("cases");
    let good = case(&cases, "good", &right);
    let bad = case(&cases, "bad", &wrong);
    let short = case(&cases, "short", &right[..9]);
    let (stdout, _) = expect(0, &["verify", &good]);
    assert_eq!(stdout, format!("pass {good}\n1 passed, 0 failed\n"));
    expect(0, &["verify", &bad, "--atol", "0.02"]);
    std::fs::write(Path::new(&bad).join("tolerance"), "0 0.02\n").unwrap();
    expect(0, &["verify", &bad]);
    expect(1, &["verify", &bad, "--atol", "0"]);
    std::fs::write(Path::new(&bad).join("tolerance"), "0 0.001\n").unwrap();

    let json = dir.path().join("result.json");
    let (stdout, _) = expect(1, &["verify", cases.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert!(stdout.ends_with("1 passed, 2 failed\n"), "{stdout}");
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let of = |folder: &str| result["cases"].as_array().unwrap().iter().find(|c| c["case"] == folder).unwrap().clone();
    assert_eq!((&result["passed"], &result["failed"]), (&1.into(), &2.into()));
    assert_eq!(of(&good)["status"], "pass");
    assert!(of(&bad)["reason"].as_str().unwrap().contains("1 of 10 elements differ; element [0,7]"), "{result}");
    assert!(of(&short)["reason"].as_str().unwrap().contains("shape is [1, 10], expected [1, 9]"), "{result}");
}

#[test]
fn bench_and_inspect_speak_json() {
    let (stdout, _) = expect(0, &["bench", &digits(), "--json", "--seconds", "0.01"]);
    let row: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for key in ["min_ms", "median_ms", "runs", "arena_bytes", "text_bytes", "weights_bytes", "load_ms"] {
        assert!(row[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {row}");
    }
    let (stdout, _) = expect(0, &["inspect", &digits(), "--json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["inputs"][0]["name"], "image");
    assert!(expect(0, &["inspect", &digits()]).0.contains("output probabilities: f32[1, 10]"));
    // For another machine, with its forms and times, as JSON, text and a page.
    let phone = [&["inspect", &digits(), "--target", "aarch64-linux-android", "--cpu", "cortex-a55"], &["--json"][..]];
    let (stdout, _) = expect(0, &phone.concat());
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["cpus"][0], "cortex-a55");
    let steps = report["steps"].as_array().unwrap();
    let sum = |key: &str| steps.iter().map(|s| s[key].as_f64().unwrap()).sum::<f64>();
    assert_eq!(sum("weights_bytes"), report["weights_bytes"].as_f64().unwrap());
    assert_eq!(sum("multiply_adds"), report["multiply_adds"].as_f64().unwrap());
    assert!(sum("predicted_us") > 0.0);
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("p.html").display().to_string();
    expect(0, &[phone[0], &["--html", &page]].concat());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("cortex-a55") && html.matches("class=bar").count() == steps.len(), "{html}");
    assert!(!html.contains("http"), "a page loads nothing");
    expect(2, &[phone[0], &["--html", &digits()]].concat());
}

#[test]
fn several_cpus_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let (input, out) = (format!("image={}", sample(3).display()), dir.path().to_str().unwrap());
        expect(0, &[&["run", &digits(), "-i", &input, "-o", out], arguments].concat());
        floats(&dir.path().join("probabilities.npy"))
    };
    let want = run(&[]);
    let levels = if cfg!(target_arch = "x86_64") { "x86-64-v2,x86-64-v3,native" } else { "generic,+dotprod,native" };
    for arguments in [&["--cpu", levels][..], &["--threads", "3"], &["--cpu", levels, "--threads", "2"]] {
        let got = run(arguments);
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{arguments:?}: {got:?}");
    }
    let (json, _) = expect(0, &["bench", &digits(), "--threads", "2", "--seconds", "0", "--json"]);
    assert!(json.contains("\"threads\":2"), "{json}");

    // An object for several CPUs is larger than that for the best one, and its functions are the same.
    let sizes = ["generic+dotprod", "generic,+dotprod,+i8mm"].map(|cpu| {
        let object = dir.path().join("m.o");
        let target = ["--target", "aarch64-linux-android", "--cpu", cpu, "--threads=2", "--name", "digits"];
        expect(0, &[&[digits().as_str(), "-o", object.to_str().unwrap()], &target[..]].concat());
        let header = std::fs::read_to_string(dir.path().join("m.h")).unwrap();
        assert!(header.contains("size_t arena_size, const mcc_pool *pool);"), "{header}");
        std::fs::metadata(object).unwrap().len()
    });
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    let (_, message) =
        expect(2, &[&digits(), "-o", "m.o", "--target", "aarch64-apple-ios", "--cpu", "generic,apple-m2"]);
    assert!(message.contains("apple-m1"), "{message}");
}

/// Any machine can imitate the plainest of its family.
#[test]
fn a_machine_passes_for_a_lesser_one() {
    let on = |level: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcc"));
        let out = command.args(arguments).env("MCC_TEST_CPU", level).output().unwrap();
        let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.code(), text)
    };
    let (level, above) = match cfg!(target_arch = "x86_64") {
        true => ("x86-64-v2", "x86-64-v3"),
        false => ("generic", "generic+dotprod"),
    };
    let model = digits();
    let input = sample(3);
    let run = ["run", &model, "-i", input.to_str().unwrap(), "--cpu"];
    let (code, listed) = on(level, &["cpus"]);
    assert_eq!(code, Some(0), "{listed}");
    assert!(listed.contains("native") && listed.contains("runs here") && listed.contains("lacks "), "{listed}");
    // By default for what it has; not for what it lacks; of several levels, those that it runs.
    assert_eq!(on(level, &run[..4]).0, Some(0));
    assert_eq!(on(level, &[&run[..], &["native"]].concat()).0, Some(0));
    assert_eq!(on(level, &[&run[..], &[&format!("{level},{above}")]].concat()).0, Some(0));
    let (code, stderr) = on(level, &[&run[..], &[above]].concat());
    assert!(code == Some(2) && stderr.contains("this processor lacks"), "{stderr}");
    let (code, stderr) = on("i386", &[&run[..], &["native"]].concat());
    assert!(code == Some(2) && stderr.contains("MCC_TEST_CPU=i386"), "{stderr}");
}

/// Checks change only messages.
#[test]
fn checked_objects_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let objects = [&[][..], &["--verify"]].map(|checks: &[&str]| {
        let object = dir.path().join("m.o");
        expect(0, &[&[digits().as_str(), "-o", object.to_str().unwrap()], checks].concat());
        std::fs::read(object).unwrap()
    });
    assert_eq!(objects[0], objects[1]);
}

/// Times that say that the cost model errs make it change, towards the fast candidates; others do not.
#[test]
fn figures_are_fitted_to_times() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("choices.json").to_str().unwrap().to_string();
    let fit = |rounds: &str| {
        let options = ["--cpu", "native", "--measured", &file, "--rounds", rounds, "--json"];
        let (out, _) = expect(0, &[&["fit", &digits()], &options[..]].concat());
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    std::fs::write(&file, r#"{"choices": []}"#).unwrap();
    let (_, told) = expect(2, &["fit", &digits(), "--cpu", "native", "--measured", &file]);
    assert!(told.contains("belongs to these models"), "{told}");
    expect(0, &["bench", &digits(), "--cpu", "native", "--seconds", "0", "--tune", &file]);
    // Every candidate is as fast as the others; then, for convolutions, all but the default are ten times as fast. Other
    // problems follow from the fastest convolutions, which differ from run to run.
    let text = std::fs::read_to_string(&file).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut write = |fast: f64| {
        for choice in json["choices"].as_array_mut().unwrap() {
            let default = choice["default"].to_string();
            let is_fast = choice["knob"] == "filtering";
            for (candidate, time) in choice["us"].as_object_mut().unwrap() {
                *time = if is_fast && *candidate != default { fast } else { 10.0 }.into();
            }
        }
        std::fs::write(&file, json.to_string()).unwrap();
    };
    write(10.0);
    let report = fit("1");
    assert!(report["figures"].as_array().unwrap().is_empty(), "{report}");
    write(1.0);
    let lost = |report: &serde_json::Value, when: &str| {
        report[when].as_array().unwrap().iter().map(|row| row["lost_us"].as_f64().unwrap()).sum::<f64>()
    };
    let (first, report) = (fit("0"), fit("2"));
    assert_eq!(lost(&first, "before"), lost(&first, "after"));
    assert!(lost(&report, "after") < lost(&report, "before"), "{report}");
    assert!(!report["figures"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn tuning_writes_choices_that_compiling_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (file, object) = (path("choices.json"), |n: usize| path(&format!("{n}.o")));
    expect(0, &["bench", &digits(), "--cpu", "native", "--seconds", "0", "--tune", &file]);
    let text = std::fs::read_to_string(&file).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let choices = json["choices"].as_array().unwrap();
    assert!(choices.iter().any(|c| c["us"].as_object().unwrap().len() > 1), "{text}");
    // The same choices give the same bytes, and no warnings.
    for n in [1, 2] {
        let (_, stderr) =
            expect(0, &[&digits(), "--cpu", "native", "-o", &object(n), "--choices", &file, "--name", "d"]);
        assert!(!stderr.contains("warning"), "{stderr}");
    }
    assert_eq!(std::fs::read(object(1)).unwrap(), std::fs::read(object(2)).unwrap());
    // Choices that are not candidates are ignored with a warning.
    let first = choices[0]["choice"].to_string();
    let foreign = text.replacen(&format!("\"choice\": {first}"), "\"choice\": 77", 1);
    std::fs::write(&file, foreign.replacen("\"problem\": \"", "\"problem\": \"no ", 2).replacen("no ", "", 1)).unwrap();
    let (_, stderr) =
        expect(0, &["run", &digits(), "--cpu", "native", "--choices", &file, "-i", sample(3).to_str().unwrap()]);
    assert!(
        stderr.contains("77 is not among the candidates") && stderr.contains("that this model does not have"),
        "{stderr}"
    );
    std::fs::write(&file, "{").unwrap();
    let (_, stderr) = expect(2, &["run", &digits(), "--choices", &file]);
    assert!(stderr.contains("choices.json"), "{stderr}");
}

#[test]
fn targets_are_listed_and_found_by_their_other_names() {
    let (list, _) = expect(0, &["--target", "help"]);
    for line in
        ["aarch64-linux-android", "  object  ELF; code for generic, generic+dotprod (--cpu)", "  object  Mach-O; "]
    {
        assert!(list.contains(line), "{list}");
    }
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("m.o");
    let of = |target: &str| {
        expect(0, &[&digits(), "-o", object.to_str().unwrap(), "--target", target]);
        std::fs::read(&object).unwrap()
    };
    assert!(of("arm64-v8a") == of("aarch64-none-linux-android29"));
    assert!(of("arm64-apple-ios17.0-simulator") == of("aarch64-apple-ios17.0-sim"));
    let (_, stderr) = expect(2, &[&digits(), "-o", "m.o", "--target", "aarch64-linux-andriod"]);
    assert!(stderr.contains("did you mean aarch64-linux-android?"), "{stderr}");
}

/// The entries of a library's dynamic section, as `llvm-readelf` prints them.
fn dynamic(library: &Path) -> String {
    let out = Command::new("llvm-readelf-19").args(["-d", "--dyn-syms"]).arg(library).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn shared_libraries_name_what_they_need_and_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libreads digits.so");
    let of = |target: &[&str]| {
        expect(0, &[&[&digits(), "-o", library.to_str().unwrap(), "--name", "digits"], target].concat());
        dynamic(&library)
    };
    // Two CPU levels ask the system for the CPU's features.
    let asks = of(&["--target", "aarch64-linux-android", "--cpu", "generic,+dotprod"]);
    assert!(asks.contains("NEEDED") && asks.contains("[libc.so]") && asks.contains(" getauxval"), "{asks}");
    assert!(asks.contains("Library soname: [libreads digits.so]"), "{asks}");
    assert!(!asks.contains("TEXTREL") && asks.contains(" digits_run"), "{asks}");
    let alone = of(&["--target", "aarch64-linux-android", "--cpu", "generic"]);
    assert!(!alone.contains("NEEDED") && alone.contains("Library soname: [libreads digits.so]"), "{alone}");
    let copies = of(&["--target", "x86_64-linux-android", "--cpu", "x86-64-v2"]);
    assert_eq!(copies.contains("[libc.so]"), copies.contains(" memcpy") || copies.contains(" memset"), "{copies}");
    let glibc = of(&["--target", "aarch64-linux-gnu", "--cpu", "generic,+dotprod"]);
    assert!(glibc.contains("[libc.so.6]"), "{glibc}");
    let unknown = of(&["--target", "x86_64-unknown-freebsd", "--cpu", "x86-64-v2"]);
    assert!(!unknown.contains("NEEDED"), "{unknown}");
    let (_, stderr) = expect(2, &[&digits(), "-o", "m.dll", "--target", "aarch64-linux-android"]);
    assert!(stderr.contains(".so"), "{stderr}");
}
