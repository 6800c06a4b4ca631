//! Recognises files that are not ONNX models by their first bytes, so that the error can give a remedy.

use mcc_ir::{Error, Result};

/// A kind of file: its description, and the remedy.
type Kind = (&'static str, &'static str);

/// Bytes at an offset where no ONNX model has them.
const SIGNATURES: &[(usize, &[u8], Kind)] = &[
    (
        0,
        b"version https://git-lfs",
        ("a Git LFS pointer, not the file itself", "git lfs pull fetches the model itself"),
    ),
    (
        4,
        b"TFL3",
        ("a TensorFlow Lite model", "convert it: python -m tf2onnx.convert --tflite FILE --output model.onnx"),
    ),
    (4, b"ORTM", ("a model in ONNX Runtime's own format", "give the .onnx file that it was made from")),
    (0, b"GGUF", ("a GGUF file of llama.cpp", "export the original model to ONNX, such as with optimum-cli")),
    (0, b"lmgg", ("a GGML file of llama.cpp", "export the original model to ONNX, such as with optimum-cli")),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        (
            "an HDF5 file, such as Keras writes (.h5)",
            "load it in Keras, then model.export(\"model.onnx\", format=\"onnx\")",
        ),
    ),
    (0, b"\x1f\x8b", ("compressed by gzip", "unpack it first: gunzip")),
    (0, b"BZh", ("compressed by bzip2", "unpack it first: bunzip2")),
    (0, b"\xfd7zXZ\0", ("compressed by xz", "unpack it first: unxz")),
    (0, b"\x28\xb5\x2f\xfd", ("compressed by zstd", "unpack it first: unzstd")),
    (0, b"7z\xbc\xaf\x27\x1c", ("a 7-Zip archive", "unpack it first")),
    (257, b"ustar", ("a tar archive", "unpack it first: tar xf")),
    (0, b"\x93NUMPY", ("an array of NumPy", "it can be an input (-i), not the model")),
    (0, b"\x7fELF", ("an object or a program", "give the .onnx file that it was made from")),
    (0, b"\x89PNG", ("a picture", "give the .onnx file")),
    (0, b"\xff\xd8\xff", ("a picture", "give the .onnx file")),
];

const TORCH: Kind = (
    "a checkpoint of PyTorch (.pt, .pth)",
    "load it in PyTorch, then torch.onnx.export(model, inputs, \"model.onnx\")",
);
const KERAS: Kind = ("a Keras model (.keras)", "load it in Keras, then model.export(\"model.onnx\", format=\"onnx\")");
const ARRAYS: Kind = ("arrays of NumPy (.npz)", "they can be inputs, not the model");
const ZIP: Kind = ("a zip archive", "unpack it first, and give the .onnx file in it");
const PICKLE: Kind = (
    "a pickle of Python, as PyTorch and scikit-learn write",
    "load it in Python, then export: torch.onnx.export, or skl2onnx.to_onnx",
);
const SAFETENSORS: Kind = (
    "weights without a model (safetensors)",
    "export the model that they belong to, such as with optimum-cli export onnx",
);
const WEB_PAGE: Kind =
    ("a web page", "the download is a page about the model, or an error page: fetch the file itself");
const OPENVINO: Kind = ("an OpenVINO model", "give the .onnx file that it was made from");
const TEXT: Kind = ("text", "mcc reads ONNX's binary format");

/// Bytes that are searched if the first ones are not conclusive.
const SEARCHED_BYTES: usize = 4096;

/// Refuses files of other known kinds.
///
/// # Errors
/// When the bytes are not an ONNX model's; the error names the kind of file.
pub fn refuse(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::invalid("not an ONNX model: the file is empty").help("is the download complete?"));
    }
    match kind(bytes) {
        Some((what, help)) => Err(Error::invalid(format!("not an ONNX model, but {what}")).help(help)),
        None => Ok(()),
    }
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    let at = |place: usize, signature: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(signature));
    if let Some((_, _, kind)) = SIGNATURES.iter().find(|(place, signature, _)| at(*place, signature)) {
        return Some(*kind);
    }
    if at(0, b"PK\x03\x04") || at(0, b"PK\x05\x06") {
        return Some(archive(bytes));
    }
    // Protocols 2 to 5, each followed by one of these opcodes.
    if let [0x80, 2..=5, b'\x8a' | b'\x95' | b'}' | b']' | b'c' | b'(' | b'X', ..] = bytes {
        return Some(PICKLE);
    }
    if let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let fits = usize::try_from(u64::from_le_bytes(*length)).is_ok_and(|n| n <= rest.len());
        if fits && rest.first() == Some(&b'{') {
            return Some(SAFETENSORS);
        }
    }
    let start = text(bytes)?.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    match () {
        () if start.starts_with("<?xml") && start.contains("<net ") => Some(OPENVINO),
        () if start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with('<') => {
            Some(WEB_PAGE)
        }
        () => Some(TEXT),
    }
}

/// Zip archives are distinguished by the names in them.
fn archive(bytes: &[u8]) -> Kind {
    // A name is at the beginning of its file, and all names are together at the end.
    let ends = [&bytes[..bytes.len().min(SEARCHED_BYTES)], &bytes[bytes.len().saturating_sub(16 * SEARCHED_BYTES)..]];
    let has = |name: &[u8]| ends.iter().any(|part| part.windows(name.len()).any(|w| w == name));
    match () {
        () if has(b"data.pkl") || has(b"constants.pkl") => TORCH,
        () if has(b"model.weights.h5") => KERAS,
        () if has(b".npy") => ARRAYS,
        () => ZIP,
    }
}

/// The first bytes as text, if they are text.
fn text(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(SEARCHED_BYTES)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(e) if e.error_len().is_none() && bytes.len() > SEARCHED_BYTES => {
            std::str::from_utf8(&start[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    text.chars().all(printed).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_named() {
        let tar = [&[b'x'; 257][..], b"ustar\x0000"].concat();
        let safetensors = [&8u64.to_le_bytes()[..], b"{\"a\":{}}", &[0; 40]].concat();
        let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        let long_text = "é".repeat(4000);
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (lfs.as_bytes(), "Git LFS pointer"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"<html lang=\"en\">", "web page"),
            (b"<?xml version=\"1.0\"?><net name=\"m\" version=\"11\">", "OpenVINO"),
            (b"\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"),
            (b"\x28\0\0\0ORTM", "ONNX Runtime's own format"),
            (b"PK\x03\x04\0\0\0\0archive/data.pkl", "PyTorch"),
            (b"PK\x03\x04\0\0metadata.json..model.weights.h5", "Keras"),
            (b"PK\x03\x04\0\0x.npy", "npz"),
            (b"PK\x03\x04\0\0model.onnx", "zip archive"),
            (b"\x80\x02\x8a\x0al\xfc", "pickle"),
            (b"\x80\x04\x95\0", "pickle"),
            (&safetensors, "safetensors"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (&tar, "tar archive"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"\x93NUMPY\x01\0", "NumPy"),
            (b"{\"model\": 1}", "text"),
            (long_text.as_bytes(), "text"),
        ];
        for (bytes, want) in cases {
            let error = refuse(bytes).expect_err(want);
            assert!(error.to_string().contains(want) && error.report().help.is_some(), "{error}");
        }
    }

    #[test]
    fn models_are_none_of_them() {
        for bytes in [&b"\x08\x08\x12\x07pytorch"[..], &[0x3a, 0x10, 0x0a], &[8, 10, 0x42, 2, 16, 17], &[0xff; 64]] {
            assert!(refuse(bytes).is_ok(), "{bytes:?}");
        }
    }
}
