//! Labels in every form, and every way in which they may not match.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use mcc_data::{Label, Labels, Port, Samples, npy};
use mcc_ir::{DType, Tensor, TensorType};
use tempfile::TempDir;

/// Samples named `0.npy`, `1.npy` and so on.
fn samples(dir: &TempDir, count: usize) -> Samples {
    let port = Port { name: "x".to_string(), ty: TensorType::fixed(DType::F32, &[1]) };
    let data = dir.path().join("data");
    fs::create_dir_all(&data).unwrap();
    for n in 0..count {
        fs::write(data.join(format!("{n}.npy")), array(&Tensor::zeros(DType::F32, vec![1]))).unwrap();
    }
    Samples::open(&[data], &[port], None).unwrap()
}

fn array(tensor: &Tensor) -> Vec<u8> {
    let mut file = Vec::new();
    npy::write_to(&mut file, tensor).unwrap();
    file
}

fn put(dir: &TempDir, name: &str, contents: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, contents).unwrap();
    path
}

fn classes(labels: &[Label]) -> Vec<usize> {
    labels.iter().map(|label| label.class().unwrap()).collect()
}

#[test]
fn every_form() {
    let dir = TempDir::new().unwrap();
    let samples = samples(&dir, 3);
    let of = |file: PathBuf| Labels::open(&file).and_then(|labels| labels.of(&samples)).unwrap();
    let numbers = Tensor::from_i64s(DType::U8, vec![3], &[4, 5, 6]).unwrap();
    assert_eq!(classes(&of(put(&dir, "l.npy", &array(&numbers)))), [4, 5, 6]);
    assert_eq!(classes(&of(put(&dir, "l.txt", b"4\n5\n6\n"))), [4, 5, 6]);
    assert_eq!(classes(&of(put(&dir, "l.csv", b"label\n4\n5\n6\n"))), [4, 5, 6]);
    assert_eq!(classes(&of(put(&dir, "l.csv", b"sample,label\n2,6\n0.npy,4\n1,5\n"))), [4, 5, 6]);
    let texts = of(put(&dir, "l.csv", b"0,\"a, b\"\n1,007\n2, c\n"));
    assert_eq!(texts.iter().map(|l| l.text().unwrap()).collect::<Vec<_>>(), ["a, b", "007", " c"]);
    assert_eq!(of(put(&dir, "l.txt", b"1.5 2\n3,4\n5;6\n"))[0].numbers().unwrap(), [1.5, 2.0]);
    let targets = Tensor::from_f64s(DType::F32, vec![3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(dir.path().join("l.npz")).unwrap());
    for (name, tensor) in [("x", &targets), ("y", &numbers)] {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&array(tensor)).unwrap();
    }
    zip.finish().unwrap();
    assert_eq!(classes(&of(dir.path().join("l.npz"))), [4, 5, 6]);
    assert_eq!(of(dir.path().join("l.npz:x"))[1].numbers().unwrap(), [2.0, 3.0]);
    assert!(Labels::open(&dir.path().join("l.npz:z")).unwrap_err().to_string().contains("its arrays are x, y"));
}

#[test]
fn a_subset_keeps_its_labels() {
    let dir = TempDir::new().unwrap();
    let all = samples(&dir, 20);
    let lines: String = (0..20).map(|n| format!("{n}\n")).collect();
    let rows: String = (0..20).rev().map(|n| format!("{n},{n}\n")).collect();
    let some = all.take(5, 7);
    for (name, text) in [("l.txt", lines), ("l.csv", rows)] {
        let labels = Labels::open(&put(&dir, name, text.as_bytes())).unwrap().of(&some).unwrap();
        let names: Vec<String> = classes(&labels).iter().map(|n| format!("{n}.npy")).collect();
        assert_eq!(names, (0..5).map(|n| some.name(n)).collect::<Vec<_>>());
    }
}

#[test]
fn what_does_not_match_is_told() {
    let dir = TempDir::new().unwrap();
    let samples = samples(&dir, 3);
    let refusal = |name: &str, text: &[u8]| {
        let labels = Labels::open(&put(&dir, name, text)).and_then(|labels| labels.of(&samples));
        labels.unwrap_err().to_string()
    };
    assert!(refusal("l.txt", b"1\n2\n").contains("2 labels for 3 samples"));
    let message = refusal("l.csv", b"0,1\n1,1\nx,1\n");
    assert!(
        message.contains("no label for 1 of 3 samples, such as \"2.npy\"") && message.contains("\"x\""),
        "{message}"
    );
    assert!(refusal("l.csv", b"0,1\n1,1\n2,1\n3,1\n").contains("1 labels are of no sample, such as that of \"3\""));
    assert!(refusal("l.csv", b"0,1\n0,1\n1,1\n2,2\n").contains("two labels for \"0\""));
    assert!(refusal("l.csv", b"0,1\n1\n").contains("not a readable .csv"));
    let nan = Tensor::from_f64s(DType::F32, vec![3], &[0.0, f64::NAN, 1.0]).unwrap();
    assert!(refusal("l.npy", &array(&nan)).contains("not a finite number"));
    assert!(refusal("l.npy", &array(&Tensor::zeros(DType::F32, vec![]))).contains("a single number"));
}
