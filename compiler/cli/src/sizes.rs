//! The sizes of a compiled model's files, and what makes them larger than the model.

use std::path::Path;

use mcc::driver::Compiled;
use mcc::ir::{Filters, Graph, Op, WeightFormat};
use mcc_eval::bytes;

/// What the files hold, in a line; and a second line if transformed filters take much of that.
pub fn report(object: &Path, length: usize, compiled: &Compiled) -> String {
    let code = &compiled.code;
    let name = object.display();
    let weights = match &compiled.weights {
        Some(apart) => format!("weights of {} are apart", bytes(apart.len() as u64)),
        None => format!("weights {}", bytes(code.weights_bytes as u64)),
    };
    let sizes = [length, code.text_bytes].map(|n| bytes(n as u64));
    let mut text = format!("mcc: {name}: {}, code {}, {weights}\n", sizes[0], sizes[1]);
    let grown = transformed(&compiled.graph);
    let all = compiled.weights.as_ref().map_or(code.weights_bytes, |apart| apart.len());
    if grown.more * LEAST_SHARE > all {
        text += &format!(
            "mcc: note: the filters of {} convolutions are stored transformed (Winograd's algorithm), which takes {} more; \
             --opt-size stores them as they are and transforms them in each run\n",
            grown.layers,
            bytes(grown.more as u64)
        );
    }
    text
}

/// The growth that is worth a note: a fifth of the weights.
const LEAST_SHARE: usize = 5;

/// Convolutions whose filters are stored in transformed space.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transformed {
    layers: usize,
    /// Bytes beyond those of the filters themselves.
    more: usize,
}

/// Those of a graph and its regions.
fn transformed(graph: &Graph) -> Transformed {
    let mut all = Transformed::default();
    for node in graph.topological() {
        for Transformed { layers, more } in graph.regions(node).into_iter().map(transformed) {
            all.layers += layers;
            all.more += more;
        }
        let Op::Packed(packed) = graph.op(node) else { continue };
        let WeightFormat::Filtered { filters: Filters::Transformed, .. } = &packed.weights else { continue };
        let Some(filters) = graph.operand(node, 1).and_then(|value| graph.as_constant(value)) else { continue };
        let taps: i64 = packed.kernel.iter().product();
        let (planes, bytes) = (filters.shape()[0], filters.data().len());
        all.layers += 1;
        all.more += bytes.saturating_sub(bytes / planes.max(1) * usize::try_from(taps).unwrap_or(0));
    }
    all
}

#[cfg(test)]
mod tests {
    use mcc::driver::{Options, compile_graph};
    use mcc::ir::{ConvSpec, DType, Layout, Output, Random, TensorType};
    use mcc_targets::Target;

    use super::*;

    /// A convolution of 32 channels with 3x3 windows.
    fn compiled(compact: bool) -> Compiled {
        let mut graph = Graph::new();
        let x = graph.add_input("x", TensorType::fixed(DType::F32, &[1, 32, 14, 14]));
        let w = graph.constant(Random::new(1).floats(&[32, 32, 3, 3], 1.0).unwrap());
        let spec = ConvSpec {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads: vec![(0, 0); 2],
            group: 1,
            layout: Layout::ChannelsFirst,
        };
        let y = graph.add(Op::Conv(spec), &[x, w]).unwrap();
        graph.outputs.push(Output { name: "y".to_string(), value: y });
        let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
        let mut options = Options::new(vec![target], "m").unwrap();
        options.config.compact = compact;
        compile_graph(graph, &options).unwrap()
    }

    #[test]
    fn transformed_filters_are_told_with_the_remedy() {
        let fast = compiled(false);
        let grown = transformed(&fast.graph);
        let planes = (grown.more + 32 * 32 * 9 * 4) / (32 * 32 * 4);
        assert!(grown.layers == 1 && [16, 36, 64].contains(&planes), "{grown:?}");
        let text = report(Path::new("m.o"), fast.object().len(), &fast);
        assert!(text.starts_with("mcc: m.o: ") && text.contains("--opt-size"), "{text}");
        let small = compiled(true);
        assert_eq!(transformed(&small.graph), Transformed::default());
        let text = report(Path::new("m.o"), small.object().len(), &small);
        assert!(text.contains("weights 36.9 kB") && !text.contains("note"), "{text}");
    }
}
