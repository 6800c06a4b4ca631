//! What is searched: sites, each of which takes one of the options, and the borders between them.

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::{Dim, Result};

use super::option::Opt;
use crate::layers::{self, Layer};
use crate::model::Model;
use crate::recipe::{Recipe, Selection, Step};

/// The option of each site: 0 leaves it as it is.
pub type Assignment = Vec<usize>;

/// What is searched.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What takes one option each.
    pub sites: Vec<Site>,
    /// The options: the first is to leave a site as it is.
    pub options: Vec<&'static Opt>,
    /// Where data goes from site to site.
    pub borders: Vec<Border>,
    /// The site of each layer's result.
    pub by_output: BTreeMap<String, usize>,
}

/// Layers that take the same option: usually one; several if a recipe cannot tell them apart by name.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The first layer's name.
    pub name: String,
    /// Names as a recipe's `only` has them.
    pub names: Vec<String>,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// Data that goes from one site to a later one, through whatever lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Border {
    /// Who gives it.
    pub from: usize,
    /// Who reads it.
    pub to: usize,
    /// Its elements, where run-time dimensions count as one.
    pub elements: f64,
}

impl Problem {
    /// The sites and borders of a model.
    ///
    /// # Errors
    /// When the model does not compile.
    pub fn new(model: &Model, options: Vec<&'static Opt>, compile: &mcc::Options) -> Result<Problem> {
        let layers = layers::find(model);
        let sites = sites(&layers);
        let by_output: BTreeMap<String, usize> = sites
            .iter()
            .enumerate()
            .flat_map(|(n, site)| site.layers.iter().map(move |l| (l.output.clone(), n)))
            .collect();
        let owners = owners(model, &by_output);
        let inputs: Vec<&str> = layers.iter().map(|l| l.input.as_str()).collect();
        let types = if inputs.is_empty() { Vec::new() } else { model.types(&unique(&inputs), compile)? };
        let types: BTreeMap<&str, _> = unique(&inputs).into_iter().zip(types).collect();
        let mut borders: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for layer in &layers {
            let to = by_output[&layer.output];
            let Some(&from) = owners.get(layer.input.as_str()).filter(|&&from| from != to) else { continue };
            let extent = |d: &Dim| d.as_const().unwrap_or(1).max(1) as f64;
            *borders.entry((from, to)).or_default() +=
                types[layer.input.as_str()].shape.iter().map(extent).product::<f64>();
        }
        let borders = borders.into_iter().map(|((from, to), elements)| Border { from, to, elements }).collect();
        Ok(Problem { sites, options, borders, by_output })
    }

    /// Borders whose sides compute with different types of data.
    pub fn crossed<'a>(&'a self, assignment: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        let bytes = |site: usize| self.options[assignment[site]].bytes;
        let crossed = move |b: &Border| bytes(b.from) != bytes(b.to);
        self.borders.iter().enumerate().filter(move |(_, b)| crossed(b)).map(|(n, _)| n)
    }

    /// All sites with one option.
    pub fn uniform(&self, option: usize) -> Assignment {
        vec![option; self.sites.len()]
    }

    /// The recipe of an assignment: one without steps, and each step that some options have, for the layers of those
    /// options.
    pub fn recipe(&self, assignment: &[usize], plain: &Recipe) -> Recipe {
        let mut steps: Vec<(Step, BTreeSet<usize>)> = Vec::new();
        for (site, &option) in assignment.iter().enumerate() {
            for step in self.options[option].steps() {
                match steps.iter_mut().find(|s| s.0 == step) {
                    Some((_, sites)) => drop(sites.insert(site)),
                    None => steps.push((step, BTreeSet::from([site]))),
                }
            }
        }
        // Zeros first: what is quantized stays as it is.
        steps.sort_by_key(|(step, _)| matches!(step, Step::Quantize(_)));
        let restrict = |(mut step, sites): (Step, BTreeSet<usize>)| {
            let names = |inside: bool| {
                let chosen = (0..self.sites.len()).filter(|n| sites.contains(n) == inside);
                chosen.flat_map(|n| self.sites[n].names.clone()).collect::<Vec<String>>()
            };
            let (inside, outside) = (names(true), names(false));
            let (only, except) = match &mut step {
                Step::Quantize(s) => (&mut s.only, &mut s.except),
                Step::Prune(s) => (&mut s.only, &mut s.except),
            };
            if outside.len() < inside.len() {
                *except = outside
            } else {
                *only = inside
            }
            step
        };
        Recipe { steps: steps.into_iter().map(restrict).collect(), ..plain.clone() }
    }
}

fn unique<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Layers in sites: a name that a recipe's pattern takes together with others makes one site of all of them.
fn sites(layers: &[Layer]) -> Vec<Site> {
    let mut site: Vec<usize> = (0..layers.len()).collect();
    for (n, layer) in layers.iter().enumerate() {
        let only = [layer.name.clone()];
        let taken = Selection { only: &only, except: &[] };
        let together: Vec<usize> = (0..layers.len()).filter(|&m| m == n || taken.takes(&layers[m])).collect();
        let first = together.iter().map(|&m| site[m]).min().unwrap_or(n);
        let merged: BTreeSet<usize> = together.iter().map(|&m| site[m]).collect();
        site.iter_mut().filter(|s| merged.contains(s)).for_each(|s| *s = first);
    }
    let mut sites: BTreeMap<usize, Site> = BTreeMap::new();
    for (n, layer) in layers.iter().enumerate() {
        let entry = sites.entry(site[n]).or_insert_with(|| Site { name: layer.name.clone(), ..Site::default() });
        if !entry.names.contains(&layer.name) {
            entry.names.push(layer.name.clone());
        }
        entry.layers.push(layer.clone());
    }
    sites.into_values().collect()
}

/// For each name of a model, the site on whose result it depends through the first inputs of nodes.
pub fn owners<'m>(model: &'m Model, by_output: &BTreeMap<String, usize>) -> BTreeMap<&'m str, usize> {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for node in model.nodes() {
        let own = node.output.iter().find_map(|o| by_output.get(o)).copied();
        let given = node.input.iter().find_map(|i| owners.get(i.as_str()).copied());
        if let Some(owner) = own.or(given) {
            owners.extend(node.output.iter().map(|o| (o.as_str(), owner)));
        }
    }
    owners
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layers::Kind;
    use crate::search::option::{self, find};

    fn layer(name: &str, input: &str, output: &str) -> Layer {
        Layer {
            is_coded: false,
            name: name.into(),
            operator: "MatMul".into(),
            output: output.into(),
            input: input.into(),
            input_slot: 0,
            weights: String::new(),
            weights_slot: 1,
            shape: vec![2, 2],
            bias: None,
            kind: Kind::Product { transposed: false },
        }
    }

    /// Layers one behind the other, which stay as they are or become int8.
    pub fn chain(count: usize) -> Problem {
        let layers: Vec<Layer> =
            (0..count).map(|n| layer(&format!("l{n}"), &format!("v{n}"), &format!("v{}", n + 1))).collect();
        Problem {
            sites: sites(&layers),
            options: vec![&option::AS_IT_IS, find("int8").unwrap()],
            borders: (1..count).map(|to| Border { from: to - 1, to, elements: 100.0 }).collect(),
            by_output: layers.iter().enumerate().map(|(n, l)| (l.output.clone(), n)).collect(),
        }
    }

    #[test]
    fn a_recipe_takes_the_layers_of_its_options() {
        let problem = chain(5);
        for assignment in [[0, 1, 1, 0, 1], [1; 5], [0, 0, 0, 1, 0]] {
            let recipe = problem.recipe(&assignment, &Recipe::default());
            let [Step::Quantize(step)] = &recipe.steps[..] else { panic!("{recipe:?}") };
            let takes = |n: usize| usize::from(step.selection().takes(&problem.sites[n].layers[0]));
            assert_eq!((0..5).map(takes).collect::<Vec<_>>(), assignment);
            assert_eq!(Recipe::parse(&recipe.text().unwrap()).unwrap(), recipe);
        }
        assert_eq!(problem.recipe(&[0; 5], &Recipe::default()).steps, []);
    }

    #[test]
    fn names_that_patterns_confuse_are_one_site() {
        let names = ["a", "MatMul", "b*", "bc", "a"];
        let layers: Vec<Layer> = names.iter().map(|n| layer(n, "", "")).collect();
        // "MatMul" is every layer's operator.
        assert_eq!(sites(&layers).len(), 1);
        let layers: Vec<Layer> = ["a", "b*", "c", "bc", "a"].iter().map(|n| layer(n, "", "")).collect();
        let found: Vec<Vec<String>> = sites(&layers).into_iter().map(|s| s.names).collect();
        assert_eq!(found, [vec!["a"], vec!["b*", "bc"], vec!["c"]]);
    }
}
