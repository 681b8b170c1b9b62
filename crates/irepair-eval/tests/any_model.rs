//! Every metric needs no more of a model than [`BlockModel`] asks: one without cache and shortcuts gives the same
//! numbers.

use irepair_data::{Planted, Sizes, Tokenizer};
use irepair_eval::{Evaluator, Generation, footprint, joined_tokens, kl_heldout, strided_perplexity};
use irepair_model::{Architecture, BlockModel, CausalLm, Parameter, Probe, Result, TextBatch};
use tch::{Device, Kind, Tensor, no_grad};

/// A model that has what the trait requires, and nothing else.
struct Plain(CausalLm);

impl BlockModel for Plain {
    fn n_blocks(&self) -> usize {
        self.0.n_blocks()
    }
    fn n_positions(&self) -> usize {
        self.0.n_positions()
    }
    fn parameters(&self) -> &[Parameter] {
        self.0.parameters()
    }
    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor {
        self.0.hidden_states_probed(batch, probe)
    }
    fn head(&self) -> Tensor {
        self.0.head()
    }
    fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Box<dyn BlockModel + Send>> {
        self.0.with_tensors(tensors)
    }
}

#[test]
fn a_model_without_shortcuts_is_measured_as_one_with_them() {
    tch::set_num_threads(1);
    let planted = Planted::generate(0, &Sizes::tiny()).unwrap();
    let tokenizer = Tokenizer::train_bpe(&planted.train_docs, 400).unwrap();
    let model = |seed| {
        let of = Architecture::gpt2(2, 16, 2, 64, tokenizer.vocab_size());
        let model = CausalLm::random(of, seed, Device::Cpu, Kind::Float).unwrap();
        // Larger weights than a fresh model's, so that the next token depends on the text.
        no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_mul_scalar_(3.0))));
        model
    };
    let (reference, prompts) = (model(1), &planted.error_test[..6]);
    let generation = Generation { n_new: 6, ..Generation::default() };
    let general = joined_tokens(&tokenizer, &planted.general_test[..8]).unwrap();
    let neutral = tokenizer.encode_batch(&planted.general_valid[..8]).unwrap();
    let measured = |model: &dyn BlockModel| {
        let greedy = Evaluator::new(model, &tokenizer, 2).toxicity(prompts, &planted.lexicon, &generation).unwrap();
        let sampled = Evaluator::new(model, &tokenizer, 2)
            .sampled_toxicity(prompts, &planted.lexicon, &generation, 2, 5)
            .unwrap();
        let perplexity = strided_perplexity(model, &general, 32, 16, 4).unwrap();
        let last_words = Evaluator::new(model, &tokenizer, 4).cloze(&planted.cloze_test[..6]).unwrap();
        let kl = kl_heldout(&reference, model, &neutral, 4).unwrap();
        (greedy, sampled, perplexity, last_words, kl, footprint(&reference, model).unwrap())
    };
    assert!(measured(&model(2)) == measured(&Plain(model(2))));
}
