//! Counted work of a step (METHOD §12), by hand.

use irepair_core::Scope;
use irepair_core::spec::Method;
use irepair_model::BlockModel;
use irepair_objective::Objective;
use irepair_train::{Engine, Measured, step_flops};
use support::{Always, N_BLOCKS, blocks, data, model, settings, take};

mod support;

/// In units of a token's forward pass through one block, `f`, and through the head, `h`.
#[test]
fn texts_that_choose_the_slice_are_work_of_the_step() {
    let (data, model) = (data(), model("gpt2"));
    let mut choose = Always(blocks([1]));
    let record = take(&mut Engine::new(&model, Method::IrepairNoKl, &mut choose, &data, settings()).unwrap(), 1);
    let objective = Objective::of_method(Method::IrepairNoKl, &Default::default());
    let (f, h) = (model.config().block_flops() / N_BLOCKS as f64, model.config().head_flops());
    let n_blocks = N_BLOCKS as f64;
    let work = |measured, n_texts: f64, want: f64| {
        let found = step_flops(&model, &objective, true, measured, &record[0], 2);
        let want = record[0].tokens as f64 / n_texts * want;
        assert!((found / want - 1.0).abs() < 1e-12, "{measured:?}: {found}, not {want}");
    };
    // The chosen text: forward, backward to activations down to block 1, and to the weights of block 1.
    let trained = (n_blocks * f + h) + (3.0 + 1.0) * f + h;
    work(Measured::default(), 1.0, trained);
    let (forward, backward) = (n_blocks * f + h, n_blocks * f + h);
    let to_weights = backward + n_blocks * f;
    let one = Measured { forward: 1.0, backward: 1.0, to_weights: true, fisher: 0.0 };
    work(one, 2.0, trained + forward + to_weights);
    work(Measured { forward: 2.0, backward: 2.0, ..one }, 3.0, trained + 2.0 * (forward + to_weights));
    work(Measured { forward: 2.0, to_weights: false, ..one }, 3.0, trained + 2.0 * forward + backward);
    work(Measured { forward: 2.0, backward: 0.0, ..one }, 3.0, trained + 2.0 * forward);
    // Forward, and backward to activations and weights of blocks and head.
    let fisher = 3.0 * (n_blocks * f + h);
    work(Measured { fisher: 4.0, ..Measured::default() }, 5.0, trained + 4.0 * fisher);
    assert!(model.n_blocks() == N_BLOCKS && matches!(choose.0, Scope::Blocks(_)));
}
