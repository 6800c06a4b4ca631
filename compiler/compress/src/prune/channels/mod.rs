//! Channels that disappear from a model.
//!
//! [`trace`] finds which channels can go, and which go together; [`order`] says in which order those of a family go;
//! [`narrow`] removes them, and all products are fitted again to the results of the model as it was.

mod families;
mod heads;
mod lists;
mod narrow;
mod ops;
mod order;
mod recurrent;
mod sets;
mod taylor;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use mcc_ir::random::Random;
use mcc_ir::{Error, Result};

use self::families::{Family, families};
use self::narrow::Narrow;
use self::order::{Reader, Solved};
use self::trace::{Trace, Traced};
use super::evidence::{ENOUGH, Evidence, Kept, Rows, evidence};
use super::masks::{Fitted, Work, rows_of};
use super::product::Product;
use super::rank::Ranking;
use super::{chunks, reference};
use crate::model::Model;
use crate::moments::GRAM_BYTES;
use crate::observe::Setting;
use crate::recipe::{Criterion, Prune, Scope};
use crate::session::Session;

/// The share of what may stay at the given share that stays of every family.
const LEAST_LEFT: f64 = 0.25;

/// Removes channels, and fits what is left.
///
/// # Errors
/// When no channel can go; when the model does not compile or run.
pub fn run(session: &mut Session, step: &Prune, seed: u64, setting: &Setting) -> Result<()> {
    let model = session.model.clone();
    let mut trace = Trace::of(&model, setting.options)?;
    let chosen: Vec<bool> = trace.products.iter().map(|p| step.selection().takes(&p.product.layer)).collect();
    let (families, stay) = families(&mut trace, |n| chosen[n]);
    let lanes = setting.options.config.target.lanes() as usize;
    let plans: Vec<Plan> = families.into_iter().map(|family| Plan::new(family, step, lanes)).collect();
    if plans.iter().all(|plan| plan.granules() == 0) {
        let why = |(n, reason): (&usize, &String)| format!("\"{}\": {reason}", trace.products[*n].product.layer.name);
        let mut reasons: Vec<String> = stay.iter().map(why).collect();
        reasons.dedup();
        return Err(Error::unsupported(format!("no channels can go: {}", reasons.join("; ")))
            .help("channels go where layers follow one another; leave fewer layers out"));
    }
    let orders = Orders { trace: &trace, model: &model, ranking: Ranking { step, seed } };
    let orders = setting.cache.get("orders", 0, || orders.all(&plans, setting))?;
    let gone = chosen_units(&plans, &orders, step);
    let narrow = Narrow { gone: &gone.iter().flat_map(|&(p, u)| plans[p].family.units[u].clone()).collect() };
    // Every member of a set goes, also those of values that no layer makes.
    let all = with_sets(&mut trace, narrow.gone);
    let narrow = Narrow { gone: &all };
    let products: Vec<Product> = trace.products.iter().map(|p| p.product.clone()).collect();
    let before = reference(session, &products);
    let kept: Kept = trace.products.iter().map(|p| (p.product.key(), narrow.kept(&p.makes))).collect();
    let edits = std::mem::take(&mut trace.edits);
    narrow.apply(&mut session.model, &edits)?;
    for (n, traced) in trace.products.iter().enumerate() {
        let (old, new) = (traced.makes.len(), kept[&traced.product.key()].len());
        // The gates of a unit are no channels of their own.
        let gates = old / traced.makes.iter().collect::<BTreeSet<_>>().len().max(1);
        let reason = match stay.get(&n) {
            Some(reason) if old == new => format!("its channels stay: {reason}"),
            _ => format!("{} of {} channels", new / gates, old / gates),
        };
        session.change(&traced.product.layer.output, |c| c.reason = reason);
    }
    fit(session, &before, &kept, Ranking { step, seed }, &products, setting)
}

/// All channels whose sets have a channel that goes.
fn with_sets(trace: &mut Trace, gone: &BTreeSet<usize>) -> BTreeSet<usize> {
    let roots: BTreeSet<usize> = gone.iter().map(|&c| trace.sets.find(c)).collect();
    (0..trace.sets.len()).filter(|&c| roots.contains(&trace.sets.find(c))).collect()
}

/// Fits all products of a narrower model to the results of the reference.
fn fit(
    session: &mut Session,
    before: &Model,
    kept: &Kept,
    ranking: Ranking,
    products: &[Product],
    setting: &Setting,
) -> Result<()> {
    if !ranking.step.reconstruct {
        return Ok(());
    }
    let found: Vec<Product> = products.iter().map(|p| p.again(&session.model)).collect::<Result<_>>()?;
    let mut errors: BTreeMap<String, f64> = BTreeMap::new();
    for (n, chunk) in chunks(&found).into_iter().enumerate() {
        let fitted = setting.cache.get("fit", n, || {
            setting.progress.begin("fit of what is left", setting.samples.len());
            let evidence = evidence(before, &session.model, kept, chunk, ENOUGH, setting)?;
            let fitted = |(product, groups): (&Product, &Vec<Evidence>)| {
                Work { ranking: &ranking, reference: before, kept, product, groups }.run(&session.model, None)
            };
            chunk.iter().zip(&evidence).map(fitted).collect::<Result<Vec<Fitted>>>()
        })?;
        for (product, fitted) in chunk.iter().zip(fitted) {
            let error = fitted.apply(product, &mut session.model)?;
            let zeros = product.again(&session.model)?.matrix(&session.model)?.zero_share();
            // Of the products of a recurrent node, the one that loses most stands for all.
            let error = errors.entry(product.layer.output.clone()).and_modify(|e| *e = e.max(error)).or_insert(error);
            session.change(&product.layer.output, |c| (c.zeros, c.error) = (zeros, *error));
        }
        session.model.tidy()?;
    }
    Ok(())
}

/// How many units of a family may go.
struct Plan {
    family: Family,
    /// Units that go at once, so that counts fill vectors.
    granule: usize,
    /// Units that go if all families lose the same share.
    removed: usize,
    /// Units that go at most.
    most: usize,
}

impl Plan {
    fn new(family: Family, step: &Prune, lanes: usize) -> Plan {
        let units = family.units.len();
        // A vector's lanes, or fewer for layers with few channels.
        let mut granule = lanes.div_ceil(family.per_layer).max(1);
        while granule > 1 && granule * 2 > units {
            granule /= 2;
        }
        let rounded = |kept: f64| ((kept / granule as f64).round() as usize).max(1) * granule;
        let kept = |share: f64| rounded(units as f64 * (1.0 - share)).min(units);
        let removed = units - kept(step.share());
        let most = match step.scope {
            Scope::Layer => removed,
            Scope::Global => units - kept(1.0 - (1.0 - step.share()) * LEAST_LEFT),
        };
        Plan { family, granule, removed, most }
    }

    fn granules(&self) -> usize {
        self.most.div_ceil(self.granule)
    }

    /// Channels that all layers lose with a unit.
    fn width(&self) -> usize {
        self.family.units.iter().map(Vec::len).sum::<usize>() / self.family.units.len()
    }
}

/// Which units go: a plan's number and a unit's.
fn chosen_units(plans: &[Plan], orders: &[Vec<(usize, f64)>], step: &Prune) -> Vec<(usize, usize)> {
    let mut counts: Vec<usize> = plans.iter().map(|plan| plan.removed).collect();
    if step.scope == Scope::Global {
        let total: usize = plans.iter().map(|plan| plan.width() * plan.family.units.len()).sum();
        let wanted = (step.share() * total as f64) as usize;
        let mut gone = 0;
        counts = vec![0; plans.len()];
        while gone < wanted {
            // The next units of each family: with a first step that makes counts fill vectors.
            let next = |p: usize| -> usize {
                let units = plans[p].family.units.len();
                let odd = (units - counts[p]) % plans[p].granule;
                if odd > 0 { odd } else { plans[p].granule }
            };
            let price = |p: usize| -> Option<f64> {
                let upto = counts[p] + next(p);
                let some = orders[p].get(counts[p]..upto).filter(|_| upto <= plans[p].most)?;
                Some(some.iter().map(|o| o.1).sum::<f64>() / (next(p) * plans[p].width()) as f64)
            };
            let prices = (0..plans.len()).filter_map(|p| Some((p, price(p)?)));
            let Some((best, _)) = prices.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            gone += next(best) * plans[best].width();
            counts[best] += next(best);
        }
    }
    let of = |(p, order): (usize, &Vec<(usize, f64)>)| -> Vec<(usize, usize)> {
        order.iter().take(counts[p]).map(|&(unit, _)| (p, unit)).collect()
    };
    orders.iter().enumerate().flat_map(of).collect()
}

/// Finds the order in which channels go.
struct Orders<'a, 'm> {
    trace: &'a Trace<'m>,
    model: &'a Model,
    ranking: Ranking<'a>,
}

impl Orders<'_, '_> {
    /// The order of each family, as far as units may go.
    fn all(&self, plans: &[Plan], setting: &Setting) -> Result<Vec<Vec<(usize, f64)>>> {
        if self.ranking.step.criterion == Criterion::Taylor {
            let scores = taylor::scores(self.model, &self.trace.products, plans, self.ranking.seed, setting)?;
            return Ok(plans.iter().zip(scores).map(|(plan, scores)| order::by_score(&scores, plan.most)).collect());
        }
        let (mut orders, mut from) = (Vec::new(), 0);
        // Families that many of the same products read are looked at together.
        let (mut readers, mut held) = (BTreeSet::new(), 0);
        for (n, plan) in plans.iter().enumerate() {
            let bytes = |readers: &BTreeSet<usize>| -> usize {
                let fresh = plan.family.readers.iter().filter(|r| !readers.contains(r));
                fresh.map(|&r| self.trace.products[r].product.layer.gram_bytes()).sum()
            };
            if n > from && held + bytes(&readers) > GRAM_BYTES {
                orders.extend(self.some(&plans[from..n], &readers, setting)?);
                (readers, held, from) = (BTreeSet::new(), 0, n);
            }
            held += bytes(&readers);
            readers.extend(plan.family.readers.iter().copied());
        }
        orders.extend(self.some(&plans[from..], &readers, setting)?);
        Ok(orders)
    }

    fn some(&self, plans: &[Plan], readers: &BTreeSet<usize>, setting: &Setting) -> Result<Vec<Vec<(usize, f64)>>> {
        let mut known = BTreeMap::new();
        if self.ranking.needs_data() && !readers.is_empty() {
            let some: Vec<Product> = readers.iter().map(|&n| self.trace.products[n].product.clone()).collect();
            setting.progress.begin("ranking of channels", setting.samples.len());
            let found = evidence(self.model, self.model, &Kept::new(), &some, ENOUGH, setting)?;
            for ((&n, product), groups) in readers.iter().zip(&some).zip(found) {
                known.insert(n, self.known(product, groups)?);
            }
        }
        plans.iter().enumerate().map(|(n, plan)| self.order(n, plan, &known)).collect()
    }

    /// What the order of the channels that a product reads depends on.
    fn known(&self, product: &Product, groups: Vec<Evidence>) -> Result<Vec<Known>> {
        let matrix = product.matrix(self.model)?;
        let (free, count) = (product.layer.bias.is_some(), groups.len());
        let of = |(group, evidence): (usize, Evidence)| {
            let rows = rows_of(&matrix, group, count);
            Ok(match self.ranking.step.criterion {
                Criterion::Error => Known::Solved(Solved::new(&evidence.problem(&rows, &rows, free), rows)?),
                _ => Known::Rows(rows, (0..evidence.gram.ncols()).map(|j| evidence.gram[(j, j)]).collect()),
            })
        };
        groups.into_iter().enumerate().map(of).collect()
    }

    fn order(&self, n: usize, plan: &Plan, known: &BTreeMap<usize, Vec<Known>>) -> Result<Vec<(usize, f64)>> {
        let criterion = self.ranking.step.criterion;
        let mut scores = vec![0.0; plan.family.units.len()];
        let mut readers = Vec::new();
        for n in plan.family.readers.iter().filter(|_| self.ranking.needs_data()) {
            for (group, known) in known[n].iter().enumerate() {
                let columns = self.columns(plan, &self.trace.products[*n], group);
                match known {
                    Known::Solved(solved) => readers.push(Reader::new(solved, &columns)),
                    Known::Rows(rows, energies) => add_activations(rows, energies, &columns, &mut scores),
                }
            }
        }
        if criterion == Criterion::Error && !readers.is_empty() {
            return order::by_error(readers, plan.family.units.len(), plan.most);
        }
        let mut random = Random::new(self.ranking.seed ^ n as u64);
        match criterion {
            Criterion::Random => scores.iter_mut().for_each(|s| *s = random.real() + 1.0),
            Criterion::Activation if !plan.family.readers.is_empty() => {}
            _ => self.add_norms(plan, &mut scores)?,
        }
        Ok(order::by_score(&scores, plan.most))
    }

    /// The columns of each unit in a group of a layer that reads them.
    fn columns(&self, plan: &Plan, reader: &Traced, group: usize) -> Vec<Vec<usize>> {
        let reads = reader.reads.as_deref().unwrap_or_default();
        let per_group = reads.len() / reader.product.layer.kind.groups();
        let taps = reader.product.layer.columns() / per_group.max(1);
        let own = &reads[group * per_group..][..per_group];
        let unit_of: BTreeMap<usize, usize> =
            plan.family.units.iter().enumerate().map(|(n, unit)| (self.trace.sets.root(unit[0]), n)).collect();
        let mut columns = vec![Vec::new(); plan.family.units.len()];
        for (i, &channel) in own.iter().enumerate() {
            if let Some(&unit) = unit_of.get(&self.trace.sets.root(channel)) {
                columns[unit].extend(i * taps..(i + 1) * taps);
            }
        }
        columns
    }

    /// Adds the norms of the weights that make each unit, relative to the layer's.
    fn add_norms(&self, plan: &Plan, scores: &mut [f64]) -> Result<()> {
        for &maker in &plan.family.makers {
            let traced = &self.trace.products[maker];
            let matrix = traced.product.matrix(self.model)?;
            let norm = |row: &[f32]| -> f64 {
                row.iter()
                    .map(|&w| {
                        if self.ranking.step.criterion == Criterion::L1 { w.abs().into() } else { f64::from(w).powi(2) }
                    })
                    .sum()
            };
            let norms: Vec<f64> = (0..matrix.rows).map(|r| norm(matrix.row(r))).collect();
            let all = norms.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            let mut rows_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            traced.makes.iter().enumerate().for_each(|(row, &c)| rows_of.entry(c).or_default().push(row));
            for (score, unit) in scores.iter_mut().zip(&plan.family.units) {
                *score += unit.iter().filter_map(|c| rows_of.get(c)).flatten().map(|&r| norms[r]).sum::<f64>() / all;
            }
        }
        Ok(())
    }
}

/// What is known of the rows of a group of a product that reads channels.
enum Known {
    /// What errors depend on.
    Solved(Solved),
    /// The rows, and the squares of their inputs.
    Rows(Rows, Vec<f64>),
}

/// Adds the magnitude of what each unit adds to a reader's result, relative to all.
fn add_activations(rows: &Rows, energies: &[f64], columns: &[Vec<usize>], scores: &mut [f64]) {
    let squares = |j: usize| (0..rows.ncols()).map(|r| rows[(j, r)].powi(2)).sum::<f64>() * energies[j];
    let all: f64 = (0..rows.nrows()).map(squares).sum::<f64>().max(f64::MIN_POSITIVE);
    for (score, columns) in scores.iter_mut().zip(columns) {
        *score += columns.iter().map(|&j| squares(j)).sum::<f64>() / all;
    }
}
