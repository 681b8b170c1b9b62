//! Files from elsewhere, cut and changed at random: what is accepted reads back equal, and a refusal is no bug and
//! sends no control character to the terminal.

use irepair_arch::{Architecture, UnitMap};
use irepair_core::spec::{Operator, UnitKind};
use irepair_core::{Diagnose, ExitKind};
use irepair_fault::{Error, Fault, Faults, Ranking};
use proptest::prelude::*;

/// Some bytes of a file replaced, and its end cut off.
fn changed(file: &str, changes: &[(u16, u8)], cut: u16) -> Vec<u8> {
    let mut bytes = file.as_bytes().to_vec();
    for (at, byte) in changes {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
    }
    bytes.truncate(bytes.len() - usize::from(cut) % 8);
    bytes
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn check_refusal(error: &Error) {
    let said = error.diagnostic();
    assert!(!matches!(said.exit, ExitKind::Bug), "{said}");
    assert!(!said.to_string().chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
}

fn changes() -> impl Strategy<Value = (Vec<(u16, u8)>, u16)> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"0123456789.-,\"'{}[]=\n".to_vec())];
    (prop::collection::vec((any::<u16>(), byte), 0..4), any::<u16>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn faults_are_read_or_refused((changes, cut) in changes()) {
        let faults = Faults::new(vec![
            Fault { base: Some("0f".repeat(32)), ..Fault::new("0-1.head.2,3".parse().unwrap(), Operator::Noise, Some(0.25), 3) },
            Fault::new("1.neuron.0-4".parse().unwrap(), Operator::BitFlip, Some(2.0), 0),
            Fault { data: Some("9a".repeat(32)), ..Fault::new("1.mlp".parse().unwrap(), Operator::TrainIn, Some(8.0), 1) },
        ]);
        match Faults::read(written(&changed(&faults.to_toml().unwrap(), &changes, cut)).path()) {
            Ok(read) => prop_assert_eq!(Faults::read(written(read.to_toml().unwrap().as_bytes()).path()).unwrap(), read),
            Err(error) => check_refusal(&error),
        }
    }

    #[test]
    fn rankings_are_read_or_refused((changes, cut) in changes()) {
        let map = UnitMap::new(&Architecture::gpt2(2, 4, 2, 8, 5));
        let file: String = map
            .units(UnitKind::Head)
            .enumerate()
            .map(|(i, unit)| format!("{{\"unit\": \"{unit}\", \"score\": {}.5}}\n", i * 7 % 5))
            .collect();
        match Ranking::read(written(&changed(&file, &changes, cut)).path(), &map) {
            Ok(ranking) => {
                let mut order = ranking.order().to_vec();
                order.sort();
                prop_assert_eq!(order, map.units(ranking.kind()).collect::<Vec<_>>());
            }
            Err(error) => check_refusal(&error),
        }
    }
}
