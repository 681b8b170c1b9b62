//! A weight that is not a number, met by the slicer first.

use irepair_core::BlockId;
use irepair_core::spec::Method;
use irepair_model::{BlockModel, Parameter};
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, Error};
use support::{FAMILIES, bits, data, model, settings, take};
use tch::no_grad;

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

#[test]
fn a_nan_weight_stops_the_step_by_name_and_nothing_moves() {
    let data = data();
    for family in FAMILIES {
        let model = model(family);
        let mut slicer = SliceLocaliser::new(&PolicySpec::new(Policy::Dynamic), &data, &settings()).unwrap();
        let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap();
        take(&mut engine, 2);
        let of_block = |p: &&Parameter| p.block == Some(BlockId(3)) && p.tensor.dim() == 2;
        let weight = model.parameters().iter().rfind(of_block).unwrap();
        no_grad(|| drop(weight.tensor.view(-1).narrow(0, 3, 1).fill_(f64::NAN)));
        let before = bits(&model);
        let Err(Error::NotFinite { what, step: 1, .. }) = engine.step() else { panic!("accepted") };
        assert_eq!(what, format!("weight `{}` is not finite", weight.name));
        assert!(bits(&model) == before);
        assert_eq!(engine.next_step(), 2);
    }
}
