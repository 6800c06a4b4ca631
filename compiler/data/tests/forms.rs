//! Every form of tensors as data, and every way in which they may not fit.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mcc_data::{Port, Samples, npy};
use mcc_ir::{DType, Dim, Tensor, TensorType};
use mcc_proto::{Message, TensorProto};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An input; dimensions that are not numbers are symbolic.
fn port(name: &str, dtype: DType, dims: &str) -> Port {
    let dim = |text: &str| text.parse::<i64>().map_or_else(|_| Dim::sym(text), Dim::from);
    Port { name: name.to_string(), ty: TensorType::new(dtype, dims.split_whitespace().map(dim).collect()) }
}

/// A tensor that counts from `first`.
fn count(dtype: DType, shape: &[usize], first: i64) -> Tensor {
    let values: Vec<i64> = (first..).take(shape.iter().product()).collect();
    Tensor::from_i64s(dtype, shape.to_vec(), &values).unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut file = Vec::new();
    npy::write_to(&mut file, tensor).unwrap();
    file
}

fn put(path: PathBuf, contents: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents).unwrap();
    path
}

fn archive(path: PathBuf, method: CompressionMethod, arrays: &[(&str, &Tensor)]) -> PathBuf {
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, tensor) in arrays {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(&bytes(tensor)).unwrap();
    }
    zip.finish().unwrap();
    path
}

fn open(data: &[&Path], inputs: &[Port]) -> mcc_ir::Result<Samples> {
    Samples::open(&data.iter().map(|p| p.to_path_buf()).collect::<Vec<_>>(), inputs, None)
}

/// Name, shapes and first element of each input, of every sample.
fn shown(samples: &Samples) -> Vec<String> {
    let one = |n: usize| {
        let tensors = samples.read(n).unwrap();
        let each = tensors.iter().map(|t| format!("{} from {}", t.ty(), t.f64_at(0))).collect::<Vec<_>>();
        format!("{}: {}", samples.name(n), each.join(", "))
    };
    (0..samples.len()).map(one).collect()
}

fn refusal(data: &[&Path], inputs: &[Port]) -> String {
    open(data, inputs).unwrap_err().to_string()
}

const F32: DType = DType::F32;

#[test]
fn one_file_a_sample_or_many() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("a/x2.npy"), &bytes(&count(F32, &[2, 2], 0)));
    put(dir.path().join("a/x10.npy"), &bytes(&count(F32, &[1, 2, 2], 4)));
    put(dir.path().join("b.npy"), &bytes(&count(F32, &[2, 2, 2], 8)));
    put(dir.path().join("README"), b"not data");
    let inputs = [port("x", F32, "1 2 2")];
    let (whole, one) = (dir.path().join("a"), dir.path().join("b.npy"));
    assert_eq!(
        shown(&open(&[&whole], &inputs).unwrap()),
        ["x2.npy: f32[1, 2, 2] from 0", "x10.npy: f32[1, 2, 2] from 4"]
    );
    // Folders below a folder of tensors are not looked into.
    assert_eq!(open(&[dir.path()], &inputs).unwrap().len(), 2);
    let both = open(&[&whole, &one], &[port("x", F32, "batch 2 n")]).unwrap();
    assert_eq!(both.len(), 4);
    assert_eq!(shown(&both)[3], format!("{} [1]: f32[1, 2, 2] from 12", one.display()));
}

#[test]
fn a_file_for_each_input() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("stacked/ids.npy"), &bytes(&count(DType::I32, &[3, 4], 0)));
    put(dir.path().join("stacked/input_1.npy"), &bytes(&count(DType::F64, &[3, 1, 4], 100)));
    put(dir.path().join("stacked/labels.npy"), &bytes(&count(DType::I64, &[3], 0)));
    let inputs = [port("ids", DType::I64, "batch seq"), port("a/b:0", F32, "batch seq")];
    let samples = open(&[&dir.path().join("stacked")], &inputs).unwrap();
    assert_eq!(shown(&samples)[2], "stacked [2]: i64[1, 4] from 8, f32[1, 4] from 108");
    for (n, name) in ["s9", "s10"].iter().enumerate() {
        let base = n as i64 * 10;
        put(dir.path().join(format!("each/{name}/ids.npy")), &bytes(&count(DType::I64, &[2, 4], base)));
        put(dir.path().join(format!("each/{name}/input_1.npy")), &bytes(&count(F32, &[2, 4], base + 1)));
    }
    let samples = open(&[&dir.path().join("each")], &inputs).unwrap();
    assert_eq!(
        shown(&samples),
        ["s9: i64[2, 4] from 0, f32[2, 4] from 1", "s10: i64[2, 4] from 10, f32[2, 4] from 11"]
    );
    // A model with one input takes the same form.
    assert_eq!(shown(&open(&[&dir.path().join("each")], &inputs[..1]).unwrap()).len(), 2);
}

#[test]
fn archives() {
    let dir = TempDir::new().unwrap();
    let (x, s) = (count(F32, &[3, 2, 2], 0), count(DType::I64, &[3], 7));
    let inputs = [port("x", F32, "1 2 2"), port("s", DType::I64, "")];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let file = archive(dir.path().join("all.npz"), method, &[("s", &s), ("x", &x)]);
        let samples = open(&[&file], &inputs).unwrap();
        assert_eq!(shown(&samples)[2], format!("{} [2]: f32[1, 2, 2] from 8, i64[] from 9", file.display()));
        let file = archive(dir.path().join("all.npz"), method, &[("arr_0", &x), ("arr_1", &s)]);
        assert_eq!(shown(&open(&[&file], &inputs).unwrap()).len(), 3);
        archive(dir.path().join("all.npz"), method, &[("image", &count(F32, &[2, 2], 5))]);
        assert_eq!(shown(&open(&[dir.path()], &inputs[..1]).unwrap()), ["all.npz: f32[1, 2, 2] from 5"]);
    }
}

fn serialized(name: &str, tensor: &Tensor) -> Vec<u8> {
    let proto = TensorProto {
        name: name.to_string(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: tensor.dtype().code(),
        raw_data: tensor.data().clone(),
        ..TensorProto::default()
    };
    proto.encode_to_vec()
}

#[test]
fn the_layout_of_onnx() {
    let dir = TempDir::new().unwrap();
    for n in [0, 1, 10, 2] {
        let set = dir.path().join(format!("case/test_data_set_{n}"));
        put(set.join("input_0.pb"), &serialized("s", &count(DType::I64, &[], n)));
        put(set.join("input_1.pb"), &serialized("", &count(F32, &[4, 2], n + 1)));
        put(set.join("output_0.pb"), b"not read");
    }
    let inputs = [port("s", DType::I64, ""), port("x", F32, "batch 2")];
    let samples = open(&[&dir.path().join("case")], &inputs).unwrap();
    assert_eq!(shown(&samples)[3], "test_data_set_10: i64[] from 10, f32[4, 2] from 11");
    assert_eq!(open(&[dir.path()], &inputs).unwrap().len(), 4);
    let set = dir.path().join("case/test_data_set_2");
    assert_eq!(open(&[&set], &inputs).unwrap().name(0), "test_data_set_2");
    let message = refusal(&[&set], &[port("s", DType::I64, ""), port("x", F32, "batch 3"), port("y", F32, "1")]);
    assert!(message.contains("no data for input \"y\""), "{message}");
    // One file for the only input.
    let file = set.join("input_1.pb");
    assert_eq!(shown(&open(&[&file], &inputs[1..]).unwrap()).len(), 4);
}

#[test]
fn all_faults_are_listed() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("x.npy"), &bytes(&count(F32, &[3, 8, 8], 0)));
    put(dir.path().join("ids.npy"), &bytes(&count(DType::U8, &[3, 4], 0)));
    put(dir.path().join("mask.npy"), &bytes(&count(F32, &[3, 5], 0)));
    let x = port("x", F32, "1 3 9 9");
    let message = refusal(&[dir.path()], &[x.clone(), port("ids", DType::I64, "1 4"), port("other", F32, "1")]);
    assert!(message.contains("no other.npy for input \"other\": f32[1]"), "{message}");
    assert!(message.contains("ids.npy, mask.npy, x.npy"), "{message}");
    let message = refusal(&[dir.path()], &[x, port("ids", DType::I64, "1 4")]);
    assert!(message.contains("the shape is [3, 8, 8]"), "{message}");
    assert!(message.contains("elements are u8, the input takes i64") && message.contains("astype('i8')"), "{message}");
    // Dimensions of one name agree.
    let message = refusal(&[dir.path()], &[port("mask", F32, "b seq"), port("ids", DType::U8, "b seq")]);
    assert!(message.contains("dimension seq is 5") && message.contains("but 4 in"), "{message}");
    let message = refusal(&[dir.path()], &[port("mask", F32, "1 5"), port("x", F32, "3 8 8")]);
    assert!(message.contains("different numbers of samples"), "{message}");
}

#[test]
fn remedies_are_told() {
    let dir = TempDir::new().unwrap();
    let x = put(dir.path().join("x.npy"), &bytes(&count(F32, &[6, 5, 3], 0)));
    let message = refusal(&[&x], &[port("x", F32, "1 3 h w")]);
    assert!(message.contains("a.transpose(..., -1, -3, -2)"), "{message}");
    let message = refusal(&[&x], &[port("x", F32, "1 3 6 5")]);
    assert!(message.contains("a.reshape(...)"), "{message}");
    let picture = put(dir.path().join("pictures/x.png"), b"");
    for data in [picture.as_path(), picture.parent().unwrap()] {
        let message = refusal(&[data], &[port("x", F32, "1 3 6 5")]);
        assert!(message.contains("--preprocess FILE.toml") && message.contains("source = \"image\""), "{message}");
    }
    let message = refusal(&[&dir.path().join("none")], &[port("x", F32, "1")]);
    assert!(message.contains("none:"), "{message}");
    fs::create_dir(dir.path().join("empty")).unwrap();
    let message = refusal(&[&dir.path().join("empty")], &[port("x", F32, "1")]);
    assert!(message.contains("no samples found"), "{message}");
    let zero = put(dir.path().join("zero.npy"), &bytes(&count(F32, &[0, 3], 0)));
    assert!(refusal(&[&zero], &[port("x", F32, "1 3")]).contains("no samples"));
}

#[test]
fn damaged_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let inputs = [port("x", F32, "1 3")];
    let mut cut = bytes(&count(F32, &[2, 3], 0));
    cut.truncate(cut.len() - 1);
    let cut = put(dir.path().join("cut.npy"), &cut);
    assert!(refusal(&[&cut], &inputs).contains("24 bytes of elements, but there are 23"));
    let not = put(dir.path().join("not.npz"), b"PK\x03\x04");
    assert!(refusal(&[&not], &inputs).contains("not a readable .npz file"));
    let file = |header: &str, data: &[u8]| {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let order = file("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", &[0; 24]);
    assert!(refusal(&[&put(dir.path().join("x.npy"), &order)], &inputs).contains("np.ascontiguousarray"));
    let huge = file("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 3), }\n", &[]);
    assert!(refusal(&[&put(dir.path().join("x.npy"), &huge)], &inputs).contains("larger than the address space"));
    let text = file("{'descr': '<U3', 'fortran_order': False, 'shape': (2, 3), }\n", &[0; 72]);
    assert!(refusal(&[&put(dir.path().join("x.npy"), &text)], &inputs).contains("elements are '<U3'"));
}

#[test]
fn values_that_are_not_numbers_are_found() {
    let dir = TempDir::new().unwrap();
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let tensor = Tensor::from_f64s(DType::F64, vec![2, 3], &[0.0, 1.0, 2.0, 3.0, value, 5.0]).unwrap();
        let file = put(dir.path().join("x.npy"), &bytes(&tensor));
        let message = refusal(&[&file], &[port("x", F32, "1 3")]);
        assert!(message.contains(&format!("element 1 is {text}")) && message.contains("x.npy [1]"), "{message}");
    }
    // Large data is checked when it is read.
    let mut large = vec![0.0; 5 << 20];
    large[4 << 20] = f64::NAN;
    let file = put(dir.path().join("x.npy"), &bytes(&Tensor::from_f64s(F32, vec![5, 1 << 20], &large).unwrap()));
    let samples = open(&[&file], &[port("x", F32, "batch 1048576")]).unwrap();
    assert!(samples.read(3).is_ok());
    assert!(samples.read(4).unwrap_err().to_string().contains("element 0 is NaN"));
}

#[test]
fn many_faults_are_counted() {
    let dir = TempDir::new().unwrap();
    for n in 0..15 {
        put(dir.path().join(format!("{n}.npy")), &bytes(&count(F32, &[4], 0)));
    }
    let message = refusal(&[dir.path()], &[port("x", F32, "1 3")]);
    assert!(
        message.contains("5 more such faults") && message.contains("9.npy") && !message.contains("10.npy"),
        "{message}"
    );
}

#[test]
fn subsets_are_of_the_seed() {
    let samples = Samples::from_tensors((0..100).map(|n| vec![count(F32, &[1], n)]).collect());
    let names = |samples: &Samples| (0..samples.len()).map(|n| samples.name(n).to_string()).collect::<Vec<_>>();
    let (a, b) = (samples.take(10, 1), samples.take(10, 2));
    assert_eq!((a.len(), names(&a)), (10, names(&samples.take(10, 1))));
    assert_ne!(names(&a), names(&b));
    let mut order: Vec<f64> = (0..10).map(|n| a.read(n).unwrap()[0].f64_at(0)).collect();
    assert_eq!(format!("sample {}", order[3]), a.name(3));
    order.dedup();
    assert!(order.len() == 10 && order.is_sorted());
    assert_eq!(names(&samples.take(1000, 3)), names(&samples));
    assert!(samples.take(0, 0).is_empty());
}
