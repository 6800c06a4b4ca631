//! `mcc.h` is generated from the interface's table and `mcc.h.in`. After a change of either run `MCC_WRITE_HEADER=1
//! cargo test -p mcc-runtime --test header`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use mcc_runtime::abi::{ARENA_ALIGN, ELEMENTS, KIND_BITS, LAYOUTS, STATUSES, VERSION};

fn header(template: &str) -> String {
    let (mut statuses, mut messages, mut layouts) = (String::new(), String::new(), String::new());
    for (status, name, message) in STATUSES {
        let _ = writeln!(statuses, "    {name} = {},", *status as i32);
        let _ = writeln!(messages, "    case {name}: return \"{message}\";");
    }
    let elements: Vec<String> = ELEMENTS.iter().map(|e| format!("    {} = {}", e.name, e.code)).collect();
    for layout in LAYOUTS {
        let _ = writeln!(layouts, "MCC_ASSERT_LAYOUT(sizeof({}) == {});", layout.name, layout.bytes);
        for (field, at) in layout.fields {
            let _ = writeln!(layouts, "MCC_ASSERT_LAYOUT(offsetof({}, {field}) == {at});", layout.name);
        }
    }
    [
        ("@VERSION@", VERSION.to_string()),
        ("@ALIGN@", ARENA_ALIGN.to_string()),
        ("@KIND@", ((1 << KIND_BITS) - 1).to_string()),
        ("@KIND_BITS@", KIND_BITS.to_string()),
        ("@STATUSES@", statuses),
        ("@MESSAGES@", messages),
        ("@ELEMENTS@", elements.join(",\n") + "\n"),
        ("@LAYOUTS@", layouts),
    ]
    .iter()
    .fold(template.to_string(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn header_says_what_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let template = fs::read_to_string(folder.join("mcc.h.in")).expect("the template");
    let (path, wanted) = (folder.join("mcc.h"), header(&template));
    if std::env::var_os("MCC_WRITE_HEADER").is_some() {
        fs::write(&path, &wanted).expect("mcc.h can be written");
    }
    assert!(
        fs::read_to_string(&path).expect("mcc.h") == wanted,
        "mcc.h is out of date: MCC_WRITE_HEADER=1 cargo test -p mcc-runtime --test header writes it"
    );
}
