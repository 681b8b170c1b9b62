//! Laws of the ablation of a direction (METHOD §26): what it removes, from where, and how much of it after each step.

use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockId, Diagnose, PaddedTokens, Scope};
use irepair_data::TokenPair;
use irepair_model::{Architecture, BlockModel, CausalLm, Parameter, Probe, Shape, TextBatch};
use irepair_train::{Engine, Error, OptimizerKind, RepairData, Settings};
use support::{
    Always, N_BLOCKS, assert_near, assert_resume_is_exact, bits, blocks, data, distance, model, plain_data, settings,
    take,
};
use tch::{Device, Kind, Tensor, no_grad};

mod support;

/// Families whose projections write to the residual stream themselves.
const FAMILIES: [&str; 4] = ["gpt2", "gpt-neo", "llama", "gpt-neox"];
const METHOD: Method = Method::DifferenceOfMeans;

fn ablation(n_steps: u64) -> Settings {
    Settings { ablation: true, n_steps, ..settings() }
}

/// `model` after `n` of `n_steps` steps.
fn ablate(model: &CausalLm, data: &Arc<RepairData>, settings: Settings, n: u64) {
    take(&mut Engine::new(model, METHOD, &mut Always(Scope::Everything), data, settings).unwrap(), n);
}

/// Stored names of what writes to the residual stream, without the prefix of the block, and the dimension that runs
/// along it; embeddings that are the head as well are not among them.
fn writers(family: &str) -> Vec<(&'static str, usize)> {
    match family {
        "gpt2" => vec![
            ("wpe.weight", 1),
            ("attn.c_proj.weight", 1),
            ("attn.c_proj.bias", 0),
            ("mlp.c_proj.weight", 1),
            ("mlp.c_proj.bias", 0),
        ],
        "gpt-neo" => vec![
            ("wpe.weight", 1),
            ("attn.attention.out_proj.weight", 0),
            ("attn.attention.out_proj.bias", 0),
            ("mlp.c_proj.weight", 0),
            ("mlp.c_proj.bias", 0),
        ],
        "gpt-neox" => vec![
            ("attention.dense.weight", 0),
            ("attention.dense.bias", 0),
            ("mlp.dense_4h_to_h.weight", 0),
            ("mlp.dense_4h_to_h.bias", 0),
        ],
        _ => vec![("self_attn.o_proj.weight", 0), ("mlp.down_proj.weight", 0)],
    }
}

/// The dimension of a parameter along the residual stream; none where it does not write to it.
fn dim(family: &str, parameter: &Parameter) -> Option<usize> {
    writers(family).into_iter().find(|(name, _)| parameter.name.ends_with(name)).map(|(_, dim)| dim)
}

/// Component of a parameter along `r`, for every row or column of it.
fn component(tensor: &Tensor, r: &Tensor, dim: usize) -> Tensor {
    let tensor = tensor.detach().to_kind(Kind::Double);
    match (tensor.dim(), dim) {
        (2, 1) => tensor.matmul(r),
        (2, _) => r.unsqueeze(0).matmul(&tensor).view(-1),
        _ => tensor.dot(r).view(-1),
    }
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

/// The direction and its block from one text at a time, without padding.
fn oracle(model: &CausalLm, pairs: &[TokenPair]) -> (usize, Tensor) {
    struct Blocks(Vec<Tensor>);
    impl Probe for Blocks {
        fn block(&mut self, block: BlockId, _input: &Tensor, hidden: Tensor) -> Tensor {
            assert_eq!(block.0, self.0.len());
            self.0.push(hidden.get(0).to_kind(Kind::Double));
            hidden
        }
    }
    // By block: the states of each text's continuation, `[tokens, width]`.
    let states = |side: fn(&TokenPair) -> &Vec<u32>| -> Vec<Vec<Tensor>> {
        let mut by_block: Vec<Vec<Tensor>> = (0..N_BLOCKS).map(|_| Vec::new()).collect();
        for pair in pairs {
            let text: Vec<u32> = pair.prompt.iter().chain(side(pair)).copied().collect();
            let batch = TextBatch::new(PaddedTokens::right_padded(&[text], 0).unwrap(), Device::Cpu);
            let mut blocks = Blocks(Vec::new());
            let _ = no_grad(|| model.hidden_states_probed(&batch, &mut blocks));
            for (all, hidden) in by_block.iter_mut().zip(blocks.0) {
                let start = pair.prompt.len() as i64;
                all.push(hidden.narrow(0, start, hidden.size()[0] - start));
            }
        }
        by_block
    };
    let (rejected, chosen) = (states(|p| &p.rejected), states(|p| &p.chosen));
    let mean = |texts: &[Tensor]| Tensor::cat(texts, 0).mean_dim([0].as_slice(), false, Kind::Double);
    let mut best = (0, Tensor::new(), -1.0);
    for b in 0..N_BLOCKS {
        let apart = mean(&rejected[b]) - mean(&chosen[b]);
        let r = &apart / apart.norm();
        let project = |texts: &[Tensor]| {
            Tensor::stack(
                &texts.iter().map(|t| t.mean_dim([0].as_slice(), false, Kind::Double).dot(&r)).collect::<Vec<_>>(),
                0,
            )
        };
        let (a, c) = (project(&rejected[b]), project(&chosen[b]));
        let variance = (a.var(true) + c.var(true)).double_value(&[]) / 2.0;
        let effect = (a.mean(Kind::Double) - c.mean(Kind::Double)).abs().double_value(&[]) / variance.sqrt();
        if effect > best.2 {
            best = (b, r, effect);
        }
    }
    (best.0, best.1)
}

#[test]
fn full_strength_leaves_no_component_and_half_of_it_one_half() {
    let data = data();
    for family in FAMILIES {
        let (start, model) = (model(family), model(family));
        let (block, r) = oracle(&start, &data.pairs);
        assert!(block < N_BLOCKS);
        let mut choose = Always(Scope::Everything);
        let mut engine = Engine::new(&model, METHOD, &mut choose, &data, ablation(2)).unwrap();
        for left in [0.5, 0.0] {
            take(&mut engine, 1);
            let mut n_writers = 0;
            for (before, after) in start.parameters().iter().zip(model.parameters()) {
                let Some(dim) = dim(family, before) else { continue };
                let was = component(&before.tensor, &r, dim);
                let far = largest(&(component(&after.tensor, &r, dim) - &was * left));
                assert!(far <= 1e-6, "{family} {}: {far} with {left} left", before.name);
                assert!(largest(&was) > 1e-3, "{}: nothing to remove", before.name);
                n_writers += 1;
            }
            let of_blocks = writers(family).iter().filter(|(name, _)| *name != "wpe.weight").count();
            assert_eq!(n_writers, N_BLOCKS * of_blocks + usize::from(["gpt2", "gpt-neo"].contains(&family)));
        }
    }
}

#[test]
fn what_does_not_write_to_the_stream_keeps_its_bits() {
    let data = data();
    for family in FAMILIES {
        let model = model(family);
        assert!(model.config().tied_head);
        let before = bits(&model);
        ablate(&model, &data, ablation(3), 3);
        for ((parameter, before), after) in model.parameters().iter().zip(&before).zip(&bits(&model)) {
            let name = &parameter.name;
            assert_eq!(before != after, dim(family, parameter).is_some(), "{family} {name}");
        }
    }
}

#[test]
fn a_model_whose_outputs_pass_a_norm_first_is_refused() {
    let (model, data) = (model("gemma2"), data());
    let error =
        Engine::new(&model, METHOD, &mut Always(Scope::Everything), &data, ablation(1)).and_then(|mut e| e.step());
    assert!(matches!(error, Err(Error::NoResidualStream { .. })), "{error:?}");
}

#[test]
fn an_untied_token_embedding_loses_the_direction_and_the_head_does_not() {
    let data = data();
    let shape = Shape { n_kv_head: Some(2), ..Shape::new("llama", [N_BLOCKS, 16, 4], 24, 23) };
    let mut config: serde_json::Value = serde_json::from_str(&shape.architecture().unwrap().to_json()).unwrap();
    config["tie_word_embeddings"] = false.into();
    let config = Architecture::from_json(config, "config.json".as_ref()).unwrap();
    let model = CausalLm::random(config, 5, Device::Cpu, Kind::Float).unwrap();
    let (_, r) = oracle(&model, &data.pairs);
    let before = bits(&model);
    ablate(&model, &data, ablation(1), 1);
    let place = |name: &str| model.parameters().iter().position(|p| p.name.ends_with(name)).unwrap();
    let left = component(&model.parameters()[place("embed_tokens.weight")].tensor, &r, 1);
    assert!(largest(&left) <= 1e-6);
    let head = place("lm_head.weight");
    assert!(before[head] == bits(&model)[head]);
}

#[test]
fn neither_padding_nor_batches_nor_counted_prompts_move_the_direction() {
    let data = data();
    for family in FAMILIES {
        let one_by_one = model(family);
        ablate(&one_by_one, &data, Settings { eval_batch_size: 1, ..ablation(1) }, 1);
        for (eval_batch_size, skip_prompt) in [(3, false), (3, true), (18, false)] {
            let other = model(family);
            ablate(&other, &data, Settings { eval_batch_size, skip_prompt, ..ablation(1) }, 1);
            let far = distance(&one_by_one, &other);
            assert!(far <= 1e-5, "{family}, {eval_batch_size} texts at a time: {far}");
        }
        assert!(distance(&one_by_one, &model(family)) > 1e-3);
    }
}

/// Blocks write nothing, rejected tokens lie on one side of axis 3 and chosen ones on the other, each with noise on the
/// other axes: position embeddings lose that axis, and nothing else.
#[test]
fn a_planted_direction_is_found() {
    let model = model("gpt2");
    no_grad(|| {
        for parameter in model.parameters() {
            let mut tensor = parameter.tensor.detach();
            if parameter.name.contains("c_proj") {
                let _ = tensor.zero_();
            } else if parameter.name == "wte.weight" {
                for token in 0..tensor.size()[0] {
                    let _ = tensor.get(token).get(3).fill_(if token < 12 { 5.0 } else { -5.0 });
                }
                // Only along axis 3 do the two halves differ: the noise of one is that of the other.
                for token in 12..23 {
                    for axis in (0..16).filter(|axis| *axis != 3) {
                        tensor.get(token).get(axis).copy_(&tensor.get(token - 11).get(axis));
                    }
                }
            } else if parameter.name == "wpe.weight" {
                let _ = tensor.g_mul_scalar_(0.1);
            }
        }
    });
    // The same tokens but for the half, in the same places.
    let pair = |i: u32| {
        let rejected: Vec<u32> = (0..4).map(|t| 1 + (i + 3 * t) % 11).collect();
        TokenPair { prompt: vec![1 + i % 11], chosen: rejected.iter().map(|t| t + 11).collect(), rejected }
    };
    let data = Arc::new(RepairData { pairs: (0..8).map(pair).collect(), ..plain_data() });
    let before: Vec<Tensor> = model.parameters().iter().map(|p| p.tensor.detach().copy()).collect();
    ablate(&model, &data, ablation(1), 1);
    let place = model.parameters().iter().position(|p| p.name == "wpe.weight").unwrap();
    let after = model.parameters()[place].tensor.detach();
    assert!(largest(&before[place].select(1, 3)) > 1e-3 && largest(&after.select(1, 3)) <= 1e-6);
    let rest = |t: &Tensor| Tensor::cat(&[t.narrow(1, 0, 3), t.narrow(1, 4, 12)], 1);
    assert!(largest(&(rest(&after) - rest(&before[place]))) <= 1e-6);
}

#[test]
fn a_step_jumps_from_the_start_and_records_its_strength() {
    let data = data();
    let (half, quarters) = (model("gpt2"), model("gpt2"));
    ablate(&half, &data, ablation(2), 1);
    let mut choose = Always(Scope::Everything);
    let mut engine = Engine::new(&quarters, METHOD, &mut choose, &data, ablation(4)).unwrap();
    let records = take(&mut engine, 2);
    assert!(bits(&half) == bits(&quarters), "nothing accumulates");
    assert_eq!(records.iter().map(|r| (r.lr, r.grad_norm)).collect::<Vec<_>>(), [(0.25, 0.0), (0.5, 0.0)]);
    // The loss is watched: DPO's, against the model that the run started from.
    assert_near("DPO at the start", records[0].loss, 2f64.ln(), 1e-6);
    assert!((records[1].loss - 2f64.ln()).abs() > 1e-6, "the reference did not change with the model");
}

/// A change of a two-thousandth of a component is less than the spacing of most numbers.
#[test]
fn small_strengths_are_not_lost_in_bfloat16() {
    let (data, dir) = (data(), tempfile::tempdir().unwrap());
    model("gpt2").save(dir.path()).unwrap();
    let narrow = CausalLm::load(dir.path(), Device::Cpu, Kind::BFloat16).unwrap().0;
    let (_, r) = oracle(&narrow, &data.pairs);
    let components = || -> Vec<Tensor> {
        let of = |p: &Parameter| Some(component(&p.tensor, &r, dim("gpt2", p)?));
        narrow.parameters().iter().filter_map(of).collect()
    };
    let before = Tensor::cat(&components(), 0);
    ablate(&narrow, &data, ablation(2000), 1);
    let removed = &before - Tensor::cat(&components(), 0);
    let share = (removed.dot(&before) / before.dot(&before)).double_value(&[]);
    assert!((share - 0.0005).abs() < 0.0002, "{share}");
}

#[test]
fn a_stopped_run_continues_to_the_same_bits() {
    for family in FAMILIES {
        assert_resume_is_exact(family, METHOD, &ablation(5), |_| Box::new(Always(Scope::Everything)));
    }
}

/// A model that says no more than it must.
struct Silent(CausalLm, bool);

impl BlockModel for Silent {
    fn n_blocks(&self) -> usize {
        self.0.n_blocks()
    }
    fn n_positions(&self) -> usize {
        self.0.n_positions()
    }
    fn parameters(&self) -> &[Parameter] {
        self.0.parameters()
    }
    fn hidden_states_probed(&self, batch: &TextBatch, _: &mut dyn Probe) -> Tensor {
        self.0.hidden_states(batch)
    }
    fn head(&self) -> Tensor {
        self.0.head()
    }
    fn with_tensors(&self, tensors: Vec<Tensor>) -> irepair_model::Result<Box<dyn BlockModel + Send>> {
        self.0.with_tensors(tensors)
    }
    fn residual_writers(&self) -> Vec<(usize, usize)> {
        if self.1 { self.0.residual_writers() } else { Vec::new() }
    }
}

/// What is said of a run that cannot start.
fn refused<M: BlockModel>(model: &M, data: &Arc<RepairData>, settings: Settings) -> String {
    let mut choose = Always(Scope::Everything);
    let error = Engine::new(model, METHOD, &mut choose, data, settings).err().unwrap();
    error.diagnostic().to_string()
}

#[test]
fn what_cannot_be_ablated_is_refused() {
    let data = data();
    let silent = |says_writers| Silent(model("gpt2"), says_writers);
    assert!(refused(&silent(false), &data, ablation(1)).contains("which parameters write to its residual stream"));
    assert!(refused(&silent(true), &data, ablation(1)).contains("its probe was shown 0 of 4"));
    assert!(refused(&model("gpt2"), &data, Settings { lora_rank: 2, ..ablation(1) }).contains("`lora_rank`"));
    let natural = Settings { optimizer: OptimizerKind::natural(), ..ablation(1) };
    assert!(refused(&model("gpt2"), &data, natural).contains("natural with ablation"));
    let same = |p: &TokenPair| TokenPair { rejected: p.chosen.clone(), ..p.clone() };
    let same = Arc::new(RepairData { pairs: data.pairs.iter().map(same).collect(), ..plain_data() });
    assert!(refused(&model("gpt2"), &same, ablation(1)).contains("do not differ in any block"));
    let single = Arc::new(RepairData { pairs: data.pairs[..1].to_vec(), ..plain_data() });
    assert!(refused(&model("gpt2"), &single, ablation(1)).contains("not enough rejected texts"));

    let model = model("gpt2");
    let before = bits(&model);
    let mut choose = Always(blocks([1]));
    let step = Engine::new(&model, METHOD, &mut choose, &data, ablation(1)).unwrap().step();
    assert!(matches!(step, Err(Error::SlicedAblation)) && bits(&model) == before);
}
