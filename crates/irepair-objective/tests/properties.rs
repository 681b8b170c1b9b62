//! Laws of the objectives (METHOD §2, §6, §7, §19), on logits drawn at random.

use irepair_core::Diagnose;
use irepair_core::spec::{Method, Needs, Number, Numbers, Side, Term};
use irepair_objective::{Counts, Error, Objective, Scores, TextLogits, counted_targets, target_log_probs};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const N_VOCAB: i64 = 5;

/// Texts of 2 to 5 tokens with logits under a model and under a reference; every position has logits of its own.
#[derive(Clone, Debug)]
struct Texts {
    rows: Vec<Vec<i64>>,
    model: Vec<f32>,
    reference: Vec<f32>,
}

/// A laid-out batch: ids, mask and both logits.
struct Batch {
    ids: Tensor,
    real: Tensor,
    model: Tensor,
    reference: Tensor,
}

impl Texts {
    fn any() -> impl Strategy<Value = Self> {
        let row = prop::collection::vec(0..N_VOCAB, 2..6);
        prop::collection::vec(row, 1..5).prop_flat_map(|rows| {
            let n = rows.iter().map(Vec::len).sum::<usize>() * N_VOCAB as usize;
            let logits = || prop::collection::vec(-6f32..6.0, n);
            (Just(rows), logits(), logits()).prop_map(|(rows, model, reference)| Self { rows, model, reference })
        })
    }

    /// Lays the texts out with `left` pad columns before and at least `right` after; pads hold rubbish.
    fn batch(&self, left: usize, right: usize) -> Batch {
        let n_cols = left + right + self.rows.iter().map(Vec::len).max().unwrap();
        let (mut ids, mut real, mut model, mut reference) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut at = 0;
        for row in &self.rows {
            for col in 0..n_cols {
                let inside = col >= left && col - left < row.len();
                real.push(inside);
                ids.push(if inside { row[col - left] } else { 3 });
                for i in 0..N_VOCAB as usize {
                    let rubbish = [3e3, -2e3, 7.0, 1e3, -5.0][i];
                    model.push(if inside { self.model[at + i] } else { rubbish });
                    reference.push(if inside { self.reference[at + i] } else { rubbish });
                }
                at += if inside { N_VOCAB as usize } else { 0 };
            }
        }
        let shape = [self.rows.len() as i64, n_cols as i64];
        let logits = |v: &[f32]| Tensor::from_slice(v).view([shape[0], shape[1], N_VOCAB]);
        Batch {
            ids: Tensor::from_slice(&ids).view(shape),
            real: Tensor::from_slice(&real).view(shape),
            model: logits(&model),
            reference: logits(&reference),
        }
    }
}

impl Batch {
    fn under_model(&self) -> TextLogits<'_> {
        TextLogits::new(&self.ids, &self.real, &self.model)
    }

    fn under_reference(&self) -> TextLogits<'_> {
        TextLogits::new(&self.ids, &self.real, &self.reference)
    }
}

fn value(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1.0)
}

fn nll_mean(text: &TextLogits<'_>) -> Tensor {
    text.log_probs().unwrap().nll_mean().unwrap()
}

fn sequence_log_probs(text: &TextLogits<'_>) -> Tensor {
    text.log_probs().unwrap().sequence_log_probs().unwrap()
}

fn kl_ref_model(reference: &Tensor, text: &TextLogits<'_>) -> Tensor {
    text.divergences(reference).unwrap().mean_kl().unwrap()
}

/// The scores of one text for every side that is needed.
fn scores(text: &TextLogits<'_>, reference: &Tensor, needs: Needs) -> Scores {
    let log_probs = |needed: bool, logits| needed.then(|| TextLogits { logits, ..*text }.log_probs().unwrap());
    Scores {
        chosen: log_probs(needs.chosen, text.logits),
        rejected: log_probs(needs.rejected, text.logits),
        ref_chosen: log_probs(needs.ref_chosen, reference),
        ref_rejected: log_probs(needs.ref_rejected, reference),
        utility: needs.utility.then(|| text.divergences(reference).unwrap()),
    }
}

const EVERYTHING: Needs = Needs { chosen: true, rejected: true, utility: true, ref_chosen: true, ref_rejected: true };

/// The DPO loss with these texts as chosen and those as rejected.
fn dpo(chosen: (&TextLogits<'_>, &Tensor), rejected: (&TextLogits<'_>, &Tensor)) -> f64 {
    let log_probs = |(text, logits): (&TextLogits<'_>, _)| Some(TextLogits { logits, ..*text }.log_probs().unwrap());
    let scores = Scores {
        chosen: log_probs((chosen.0, chosen.0.logits)),
        rejected: log_probs((rejected.0, rejected.0.logits)),
        ref_chosen: log_probs(chosen),
        ref_rejected: log_probs(rejected),
        utility: None,
    };
    value(&Objective::from(Method::Dpo).loss(&scores).unwrap().total)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn kl_is_never_negative_and_0_on_itself(texts in Texts::any()) {
        let batch = texts.batch(0, 0);
        prop_assert!(value(&kl_ref_model(&batch.reference, &batch.under_model())) >= -1e-6);
        prop_assert!(value(&kl_ref_model(&batch.model, &batch.under_model())).abs() <= 1e-6);
    }

    #[test]
    fn a_constant_added_to_the_logits_changes_nothing(texts in Texts::any(), shift in -50f64..50.0) {
        let batch = texts.batch(0, 0);
        let moved = &batch.model + shift;
        let shifted = TextLogits::new(&batch.ids, &batch.real, &moved);
        let (a, b) = (nll_mean(&batch.under_model()), nll_mean(&shifted));
        prop_assert!((value(&a) - value(&b)).abs() <= 1e-4);
        let kl = |text| value(&kl_ref_model(&batch.reference, &text));
        prop_assert!((kl(batch.under_model()) - kl(shifted)).abs() <= 1e-4);
    }

    #[test]
    fn pad_columns_change_no_value_and_no_gradient(texts in Texts::any(), left in 0usize..4, right in 0usize..4) {
        let losses = |batch: &Batch| {
            let model = batch.model.copy().set_requires_grad(true);
            let text = TextLogits::new(&batch.ids, &batch.real, &model);
            let total = nll_mean(&text) + kl_ref_model(&batch.reference, &text);
            let gradient = Tensor::run_backward(&[&total], &[&model], false, false).remove(0);
            let at_pads = gradient.masked_select(&batch.real.logical_not().unsqueeze(-1)).abs().sum(Kind::Float);
            let at_real = Vec::<f32>::try_from(gradient.masked_select(&batch.real.unsqueeze(-1))).unwrap();
            let by_text = Vec::<f32>::try_from(sequence_log_probs(&text).detach()).unwrap();
            (value(&total), by_text, at_real, value(&at_pads), text.counts)
        };
        let (plain, padded) = (losses(&texts.batch(0, 0)), losses(&texts.batch(left, right)));
        prop_assert!(near(padded.0, plain.0), "{} against {}", padded.0, plain.0);
        for (a, b) in padded.1.iter().zip(&plain.1).chain(padded.2.iter().zip(&plain.2)) {
            prop_assert!(near(f64::from(*a), f64::from(*b)));
        }
        prop_assert_eq!(padded.3, 0.0, "a pad has no gradient, whatever its logits hold");
        prop_assert_eq!(padded.4, plain.4);
    }

    #[test]
    fn the_order_of_texts_does_not_matter(texts in Texts::any()) {
        let batch = texts.batch(1, 1);
        let flip = |t: &Tensor| t.flip([0]);
        let (ids, real, model) = (flip(&batch.ids), flip(&batch.real), flip(&batch.model));
        let turned = TextLogits::new(&ids, &real, &model);
        let by_text = |text| Vec::<f32>::try_from(sequence_log_probs(text)).unwrap();
        let mut back = by_text(&turned);
        back.reverse();
        prop_assert_eq!(back, by_text(&batch.under_model()));
        prop_assert!(near(value(&nll_mean(&turned)), value(&nll_mean(&batch.under_model()))));
    }

    #[test]
    fn twice_the_counts_is_half_the_mean(texts in Texts::any()) {
        let batch = texts.batch(0, 1);
        let text = batch.under_model();
        let double = |n: f64| 2.0 * n;
        let Counts { targets, tokens, texts } = text.counts;
        let counts = Counts { targets: double(targets), tokens: double(tokens), texts: double(texts) };
        let doubled = TextLogits { counts, ..text };
        prop_assert!(near(2.0 * value(&nll_mean(&doubled)), value(&nll_mean(&text))));
        prop_assert!(near(
            2.0 * value(&kl_ref_model(&batch.reference, &doubled)),
            value(&kl_ref_model(&batch.reference, &text))
        ));
    }

    #[test]
    fn texts_one_by_one_with_shared_counts_add_up(texts in Texts::any()) {
        let batch = texts.batch(1, 0);
        let whole = batch.under_model();
        let (mut nll, mut kl) = (0.0, 0.0);
        for row in 0..texts.rows.len() as i64 {
            let one = |t: &Tensor| t.narrow(0, row, 1);
            let (ids, real, model, reference) =
                (one(&batch.ids), one(&batch.real), one(&batch.model), one(&batch.reference));
            let text = TextLogits { counts: whole.counts, ..TextLogits::new(&ids, &real, &model) };
            nll += value(&nll_mean(&text));
            kl += value(&kl_ref_model(&reference, &text));
        }
        prop_assert!(near(nll, value(&nll_mean(&whole))));
        prop_assert!(near(kl, value(&kl_ref_model(&batch.reference, &whole))));
        let sum = value(&sequence_log_probs(&whole).sum(Kind::Double));
        prop_assert!(near(value(&whole.log_probs().unwrap().values.sum(Kind::Float)), sum));
    }

    #[test]
    fn the_dpo_loss_is_ln_2_against_itself_and_falls_with_the_margin(chosen in Texts::any(), rejected in Texts::any()) {
        let n = chosen.rows.len().min(rejected.rows.len());
        let cut = |texts: &Texts| {
            let rows = texts.rows[..n].to_vec();
            Texts { rows, ..texts.clone() }.batch(0, 0)
        };
        let (chosen, rejected) = (cut(&chosen), cut(&rejected));
        let same = dpo((&chosen.under_model(), &chosen.model), (&rejected.under_model(), &rejected.model));
        prop_assert!((same - 2f64.ln()).abs() <= 1e-6, "{same}");
        // The loss of a swapped pair: log sigmoid(x) + log sigmoid(-x) <= -2 ln 2, with equality at a margin of 0.
        let there = dpo((&chosen.under_model(), &chosen.reference), (&rejected.under_model(), &rejected.reference));
        let back = dpo((&rejected.under_model(), &rejected.reference), (&chosen.under_model(), &chosen.reference));
        prop_assert!(there >= 0.0 && there + back >= 2.0 * 2f64.ln() - 1e-5);
        // A model that is its own reference on the chosen side only gains by lowering the rejected texts.
        let lower = dpo((&chosen.under_model(), &chosen.model), (&rejected.under_reference(), &rejected.model));
        let gains = value(&(sequence_log_probs(&rejected.under_reference())
            - sequence_log_probs(&rejected.under_model())).max());
        prop_assert!(gains > 0.0 || lower <= 2f64.ln() + 1e-6);
    }

    #[test]
    fn without_kl_the_repair_loss_is_its_nll_scaled(texts in Texts::any(), beta in 0.1f64..2.0, scale in 0.1f64..2.0) {
        let batch = texts.batch(0, 0);
        let scores = Scores { chosen: Some(batch.under_model().log_probs().unwrap()), ..Scores::default() };
        let numbers = Numbers::default().with(Number::Beta, beta).with(Number::Scale, scale);
        let objective = Objective::of_method(Method::IrepairNoKl, &numbers);
        prop_assert!(!objective.needs().reference() && !objective.needs().utility);
        let loss = objective.loss(&scores).unwrap();
        prop_assert!(near(value(&loss.total), scale * beta * value(loss.nll.as_ref().unwrap())));
        prop_assert!(loss.kl.is_none());
    }

    /// Bit for bit: `s (beta NLL + gamma KL)` in float32, factor last, and the published sums of the other methods.
    #[test]
    fn sums_are_taken_in_the_order_of_their_formulas(
        texts in Texts::any(), beta in 0.1f64..2.0, gamma in 0.1f64..2.0, scale in 0.1f64..2.0,
    ) {
        let (batch, reference) = (texts.batch(0, 0), texts.batch(0, 0).reference);
        let text = batch.under_model();
        let scores = scores(&text, &reference, EVERYTHING);
        let numbers = Numbers::default().with(Number::Beta, beta).with(Number::Gamma, gamma).with(Number::Scale, scale);
        let total = |method| value(&Objective::of_method(method, &numbers).loss(&scores).unwrap().total);
        let (nll, kl) = (nll_mean(&text), kl_ref_model(&reference, &text));
        prop_assert_eq!(total(Method::Irepair), value(&(scale * (beta * &nll + gamma * &kl))));
        prop_assert_eq!(total(Method::IrepairNoKl), value(&(scale * (beta * &nll))));
        let by_text = sequence_log_probs(&text);
        prop_assert_eq!(total(Method::Dapt), value(&(-by_text.sum(Kind::Float) / text.counts.texts)));
        let gain = &by_text - sequence_log_probs(&batch.under_reference());
        let npo: Tensor = -(2.0f64 / 0.1) * ((-0.1f64 * &gain).log_sigmoid().sum(Kind::Float) / text.counts.texts);
        prop_assert_eq!(total(Method::NpoNoKl), value(&npo));
        prop_assert_eq!(total(Method::Npo), value(&(npo + gamma * &kl)));
        let dpo = -(0.1f64 * (&gain - &gain)).log_sigmoid().sum(Kind::Float) / text.counts.texts;
        prop_assert_eq!(total(Method::SlicedDpoKl), value(&(dpo + gamma * &kl)));
        prop_assert_eq!(total(Method::GradientDifference), 0.0);
        prop_assert_eq!(total(Method::GradientAscent), -value(&nll));
    }

    #[test]
    fn terms_add_up_to_their_objective(texts in Texts::any(), beta in 0.1f64..2.0, gamma in 0.1f64..2.0) {
        let batch = texts.batch(0, 0);
        let numbers = Numbers::default().with(Number::Beta, beta).with(Number::Gamma, gamma).with(Number::Scale, 0.7);
        let presets = Method::ALL.iter().filter(|method| method.trains());
        let presets = presets.map(|method| Objective::of_method(*method, &numbers));
        let both_read_chosen = Objective::new(0.7, [(1.0, Term::Dpo { beta }), (gamma, Term::Nll(Side::Chosen))]);
        for objective in presets.chain([both_read_chosen]) {
            // Every text is the same one: what matters is which of them a loss depends on, and how strongly.
            let gradient = |objectives: &[Objective]| {
                let logits = batch.model.detach().copy().set_requires_grad(true);
                let text = TextLogits { logits: &logits, ..batch.under_model() };
                let scores = scores(&text, &batch.reference, EVERYTHING);
                let total: Tensor = objectives.iter().map(|o| o.loss(&scores).unwrap().total).sum();
                let gradient = Tensor::f_run_backward(&[&total], &[&logits], false, false).unwrap().remove(0);
                (value(&total), gradient)
            };
            let (terms, needs) = (objective.terms(), objective.needs());
            let n_texts =
                |needs: Needs| [needs.chosen, needs.rejected, needs.utility].into_iter().filter(|&needed| needed).count();
            prop_assert_eq!(terms.iter().map(|term| n_texts(term.needs())).sum::<usize>(), n_texts(needs), "no text twice");
            let ((whole, by_whole), (parts, by_parts)) = (gradient(std::slice::from_ref(&objective)), gradient(&terms));
            prop_assert!(near(whole, parts), "{objective:?}: {whole} {parts}");
            prop_assert!(by_whole.allclose(&by_parts, 1e-5, 1e-7, false), "{objective:?}");
        }
    }
}

#[test]
fn uniform_logits_have_a_token_perplexity_of_the_vocabulary() {
    let ids = Tensor::from_slice(&[0i64, 4, 2, 1, 1, 3]).view([2, 3]);
    let real = ids.ones_like().to_kind(Kind::Bool);
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
        let logits = Tensor::full([2, 3, 4001], 2.5, (kind, Device::Cpu));
        let nll = nll_mean(&TextLogits::new(&ids, &real, &logits));
        assert_eq!(nll.kind(), Kind::Float);
        // Half precision would be off by 1: everything is summed in float32.
        assert!((value(&nll).exp() - 4001.0).abs() < 0.05, "{kind:?}: {}", value(&nll).exp());
    }
}

#[test]
fn only_the_prediction_of_a_token_from_a_real_token_counts() {
    let real = Tensor::from_slice(&[false, true, true, true, true, false]).view([1, 6]);
    let skip = Tensor::from_slice(&[false, false, false, true, true, false]).view([1, 6]);
    let mask = |loss_mask| Vec::<bool>::try_from(counted_targets(&real, loss_mask).view(-1)).unwrap();
    assert_eq!(mask(&real), [false, true, true, true, false]);
    assert_eq!(mask(&skip), [false, false, true, true, false]);
}

#[test]
fn a_log_probability_is_that_of_the_next_token() {
    let logits = Tensor::from_slice(&[1f32, 2.0, 3.0, 0.0, 0.0, 0.0]).view([1, 2, 3]);
    let ids = Tensor::from_slice(&[0i64, 2]).view([1, 2]);
    let want = 3.0 - (1f64.exp() + 2f64.exp() + 3f64.exp()).ln();
    assert!((value(&target_log_probs(&logits, &ids).squeeze()) - want).abs() < 1e-6);
}

#[test]
fn what_is_missing_or_misshapen_is_named() {
    let ids = Tensor::from_slice(&[1i64, 2]).view([1, 2]);
    let real = ids.ones_like().to_kind(Kind::Bool);
    let logits = Tensor::zeros([1, 2, 5], (Kind::Float, Device::Cpu));
    let wide = Tensor::zeros([1, 2, 6], (Kind::Float, Device::Cpu));
    let long = Tensor::zeros([1, 3, 5], (Kind::Float, Device::Cpu));
    let text = TextLogits::new(&ids, &real, &logits);
    let given = |needs| scores(&text, &logits, Needs { ref_chosen: false, ref_rejected: false, ..needs });
    let missing = |objective: Objective, scores: &Scores| objective.loss(scores).unwrap_err().diagnostic().to_string();
    let repair = || Objective::from(Method::Irepair);
    let sum = "error: objective `0.5 nll(chosen) + kl` needs the";
    assert_eq!(missing(repair(), &Scores::default()), format!("{sum} chosen text"));
    assert_eq!(missing(repair(), &given(Needs { utility: false, ..EVERYTHING })), format!("{sum} utility text"));
    assert_eq!(missing(Method::Dpo.into(), &given(EVERYTHING)), "error: objective `dpo` needs the reference");
    assert_eq!(
        missing(Method::GradientAscent.into(), &Scores::default()),
        "error: objective `-nll(rejected)` needs the rejected text"
    );
    assert_eq!(
        text.divergences(&wide).unwrap_err().diagnostic().to_string(),
        "error: model logits has the wrong shape\n want: [1, 2, 6]    got: [1, 2, 5]"
    );
    assert_eq!(
        TextLogits { logits: &long, ..text }.log_probs().unwrap_err(),
        Error::ShapeMismatch { what: "logits", want: vec![1, 2], got: vec![1, 3, 5] }
    );
    assert_eq!(
        TextLogits { counts: Counts::default(), ..text }.log_probs().unwrap_err().diagnostic().to_string(),
        "error: no token counts in the text\n help: a text of one token has nothing to predict: give longer texts or drop \
         them"
    );
}

/// A loss is computed from what its row says it needs, and from nothing less.
#[test]
fn every_method_reads_exactly_what_its_terms_need() {
    let ids = Tensor::from_slice(&[1i64, 2]).view([1, 2]);
    let real = ids.ones_like().to_kind(Kind::Bool);
    let logits = Tensor::zeros([1, 2, 5], (Kind::Float, Device::Cpu));
    let text = TextLogits::new(&ids, &real, &logits);
    for method in Method::ALL {
        let objective = Objective::from(*method);
        let needs = objective.needs();
        let loss = objective.loss(&scores(&text, &logits, needs)).unwrap();
        assert_eq!((loss.nll.is_some(), loss.kl.is_some()), (needs.chosen, method.has_kl()), "{method}");
        for less in [
            Needs { chosen: false, ..needs },
            Needs { rejected: false, ..needs },
            Needs { ref_chosen: false, ..needs },
            Needs { ref_rejected: false, ..needs },
            Needs { utility: false, ..needs },
        ] {
            assert_eq!(objective.loss(&scores(&text, &logits, less)).is_err(), less != needs, "{method}: {less:?}");
        }
    }
}
