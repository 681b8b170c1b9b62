//! Measuring leaves the gradient flags of the caller's model as they were, whether it succeeds or fails.

use irepair_core::{BlockSlice, PaddedTokens, Scope};
use irepair_model::{Architecture, BlockModel, CausalLm, Fisher, TextBatch};
use irepair_sensitivity::{MeanGradient, Measure, Metric, Route, Texts, error_gradients};
use tch::{Device, Kind};

fn text(rows: &[Vec<u32>]) -> TextBatch {
    TextBatch::new(PaddedTokens::right_padded(rows, 0).unwrap(), Device::Cpu)
}

#[test]
fn measuring_leaves_gradient_flags_as_they_were() {
    tch::set_num_threads(1);
    let model = CausalLm::random(Architecture::gpt2(3, 16, 2, 16, 20), 0, Device::Cpu, Kind::Float).unwrap();
    let (rejected, chosen) = (text(&[vec![1, 2, 3], vec![4, 5]]), text(&[vec![1, 6, 7], vec![4, 8]]));
    let uncounted = text(&[vec![1], vec![2]]);
    let middle = Scope::Blocks(BlockSlice::from_indices([1]));
    for scope in [Scope::Everything, middle, Scope::Blocks(BlockSlice::default())] {
        model.train_only(&scope);
        let unchanged = |what: &str| {
            let flags = model.parameters().iter().map(|parameter| (parameter.tensor.requires_grad(), parameter.block));
            assert!(flags.into_iter().all(|(flag, block)| flag == scope.allows(block)), "{what}, {scope:?}");
        };
        for &metric in Metric::ALL {
            for route in [Route::Stored, Route::Ghost] {
                let texts = [&chosen];
                let fisher = Some(Fisher::estimate(&model, &[vec![1, 2, 3]], 0.1, 0).unwrap());
                let measure = Measure { fisher, ..Measure::new(metric).by(route) };
                let on =
                    |rejected: &[&TextBatch]| measure.of(&model, &Texts { rejected, chosen: &texts, neutral: &texts });
                on(&[&rejected]).unwrap();
                unchanged(metric.name());
                let _ = on(&[&uncounted]);
                unchanged("a text without a counted token");
            }
        }
        error_gradients(&model, &[&rejected]).unwrap();
        let mut mean = MeanGradient::new(Metric::Relative).unwrap();
        mean.add(&model, &Texts::of(&[&rejected])).unwrap();
        mean.sensitivities(&model).unwrap();
        unchanged("the mean gradient");
    }
}
