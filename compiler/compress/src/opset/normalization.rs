//! Normalizations.

use mcc_ir::{Error, Result};

use super::change::{Change, int};

/// BatchNormalization and Dropout 7: inference is what they do.
pub fn is_test(c: &mut Change<'_, '_>) -> Result<()> {
    if c.int("is_test", 0)? == 0 {
        return Err(Error::unsupported("training mode (is_test is 0)").help("export the model for inference"));
    }
    c.take("is_test");
    Ok(())
}

/// BatchNormalization 9: a channel has one mean and variance.
pub fn spatial(c: &mut Change<'_, '_>) -> Result<()> {
    if c.int("spatial", 1)? == 0 {
        return Err(Error::unsupported("attribute spatial is 0: statistics per element instead of per channel"));
    }
    c.take("spatial");
    Ok(())
}

/// BatchNormalization 14: statistics of the batch are given in training mode only, where they have another meaning.
pub fn training(c: &mut Change<'_, '_>) -> Result<()> {
    let used = c.node.output.iter().skip(1).find(|o| c.is_used(o));
    if let Some(name) = used {
        return Err(Error::unsupported(format!("output \"{name}\" is a statistic of training"))
            .help("export the model for inference"));
    }
    c.node.output.truncate(1);
    Ok(())
}

/// GroupNormalization 21: scale and bias have an element per channel instead of one per group.
pub fn group(c: &mut Change<'_, '_>) -> Result<()> {
    let groups = c.int("num_groups", 0)?;
    let x = c.input(0).to_string();
    let channels = c.compute("Shape", &[&x], vec![int("start", 1), int("end", 2)]);
    let groups = c.ints("num_groups", &[groups])?;
    let size = c.compute("Div", &[&channels, &groups], vec![]);
    let one = c.ints("one", &[1])?;
    let repeated = c.compute("Concat", &[&one, &size], vec![int("axis", 0)]);
    let flat = c.ints("flat", &[-1])?;
    for n in [1, 2] {
        let parameter = c.input(n).to_string();
        let column = c.compute("Unsqueeze", &[&parameter, &one], vec![]);
        let rows = c.compute("Expand", &[&column, &repeated], vec![]);
        let parameter = c.compute("Reshape", &[&rows, &flat], vec![]);
        c.set_input(n, parameter);
    }
    Ok(())
}
