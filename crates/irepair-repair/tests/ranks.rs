//! n ranks give the bits of n micro-batches on one process: losses, slices, weights and states (METHOD §25).

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use irepair_core::StepRecord;
use irepair_core::spec::{Method, Metric, UnitKind};
use irepair_model::{BlockModel, CausalLm};
use irepair_ranks::{Place, Ranks, TcpRanks};
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::Route;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{BatchSampler, Engine, Error, Identity, Localise, RepairData, Settings};
use support::{bits, data, model, settings};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

/// What is trained.
#[derive(Clone, Copy)]
struct Run {
    family: &'static str,
    method: Method,
    policy: Policy,
    metric: Metric,
    unit: UnitKind,
    lora_rank: usize,
    budget_kl: Option<f64>,
    by_first: bool,
}

const IREPAIR: Run = Run {
    family: "gpt2",
    method: Method::Irepair,
    policy: Policy::Dynamic,
    metric: Metric::GradL2,
    unit: UnitKind::Block,
    lora_rank: 0,
    budget_kl: None,
    by_first: false,
};

fn settings_of(run: &Run, accumulation: usize) -> Settings {
    let budget_kl = run.budget_kl;
    Settings { accumulation, lora_rank: run.lora_rank, budget_kl, n_steps: 4, ..settings() }
}

fn slicer(run: &Run, model: &CausalLm, data: &Arc<RepairData>, accumulation: usize) -> SliceLocaliser {
    let settings = settings_of(run, accumulation);
    let slicer = SliceLocaliser::new(&PolicySpec::new(run.policy), data, &settings).unwrap();
    let slicer = slicer.metric(run.metric, Route::Ghost);
    let slicer = if run.by_first { slicer.by_first_micro_batch() } else { slicer };
    match run.unit {
        UnitKind::Block => slicer,
        kind => slicer.among_units(kind, model.unit_map().unwrap().units(kind).collect()),
    }
}

fn engine<'a>(run: &Run, model: &'a CausalLm, data: &Arc<RepairData>, accumulation: usize) -> Engine<&'a CausalLm> {
    let settings = settings_of(run, accumulation);
    let slicer: Box<dyn Localise + Send> = Box::new(slicer(run, model, data, accumulation));
    Engine::new(model, run.method, slicer, data, settings).unwrap()
}

/// Records without what a clock says, and the bits of the weights, of a whole run.
fn trained(run: &Run, accumulation: usize, ranks: Option<Arc<dyn Ranks>>) -> (Vec<StepRecord>, Vec<Vec<u32>>) {
    let (model, data) = (model(run.family), data());
    let mut engine = engine(run, &model, &data, accumulation);
    if let Some(ranks) = ranks {
        engine = engine.among(ranks, Identity::default()).unwrap();
    }
    let mut records = Vec::new();
    while engine.unfinished() {
        records.push(StepRecord { seconds: 0.0, ..engine.step().unwrap() });
    }
    engine.finish().unwrap();
    (records, bits(&model))
}

fn places(n_ranks: usize) -> Vec<Place> {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let place =
        |rank| Place { rank, n_ranks, local_rank: rank, n_local: 1, address: address.clone(), secret: String::new() };
    (0..n_ranks).map(place).collect()
}

fn on_ranks<T: Send + 'static>(n: usize, work: impl Fn(Arc<dyn Ranks>) -> T + Clone + Send + 'static) -> Vec<T> {
    let start = |place| {
        let work = work.clone();
        thread::spawn(move || work(Arc::new(TcpRanks::join(&place).unwrap())))
    };
    let started: Vec<_> = places(n).into_iter().map(start).collect();
    started.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn n_ranks_give_the_bits_of_n_micro_batches() {
    let head = Run { unit: UnitKind::Head, metric: Metric::Density, family: "llama", ..IREPAIR };
    let dpo = Run { method: Method::Dpo, policy: Policy::All, ..IREPAIR };
    let runs = [
        (IREPAIR, 2, 2),
        (IREPAIR, 4, 4),
        (Run { metric: Metric::Contrast, family: "gemma2", ..IREPAIR }, 3, 3),
        (Run { metric: Metric::Snip, ..IREPAIR }, 2, 4),
        (head, 2, 3),
        (Run { by_first: true, ..IREPAIR }, 3, 4),
        (Run { by_first: true, ..head }, 2, 2),
        (Run { budget_kl: Some(0.5), ..dpo }, 2, 2),
        (Run { lora_rank: 2, ..dpo }, 3, 4),
        (Run { method: Method::DaptKl, policy: Policy::Fixed, ..IREPAIR }, 2, 2),
    ];
    for (run, n, accumulation) in runs {
        let alone = trained(&run, accumulation, None);
        for (rank, found) in on_ranks(n, move |ranks| trained(&run, accumulation, Some(ranks))).into_iter().enumerate()
        {
            assert_eq!(found.0, alone.0, "{} by {n} ranks, rank {rank}", run.method);
            assert!(found.1 == alone.1, "{} by {n} ranks, rank {rank}: weights", run.method);
        }
    }
}

#[test]
fn the_first_micro_batch_alone_chooses_as_a_step_of_its_own() {
    let first = Run { by_first: true, ..IREPAIR };
    assert_eq!(trained(&first, 1, None).0, trained(&IREPAIR, 1, None).0, "of one micro-batch it is the whole step");
    let data = data();
    for run in [IREPAIR, Run { metric: Metric::Density, unit: UnitKind::Head, ..IREPAIR }] {
        let model = model("gpt2");
        let settings = settings_of(&run, 3);
        let batch = BatchSampler::new(&data, false, &settings, model.device()).unwrap().at(0, &settings).unwrap();
        let (mut by_first, mut of_all) =
            (slicer(&Run { by_first: true, ..run }, &model, &data, 3), slicer(&run, &model, &data, 3));
        let chosen = by_first.localise(&model, &batch, 0).unwrap();
        assert_eq!(chosen, of_all.localise(&model, &batch.first(), 0).unwrap());
        assert_eq!(by_first.last(), of_all.last(), "bit for bit, with counts of its own");
        assert!(by_first.n_tokens(&batch, 0) < of_all.n_tokens(&batch, 0));
        assert_eq!(by_first.n_tokens(&batch, 0), of_all.n_tokens(&batch.first(), 0));
    }
}

#[test]
fn only_the_slice_travels() {
    let n_sent = |run: Run| {
        on_ranks(2, move |ranks| {
            trained(&run, 2, Some(Arc::clone(&ranks)));
            ranks.n_bytes_sent()
        })[0]
    };
    let random = Run { policy: Policy::Random, ..IREPAIR };
    let (one_block, all) = (n_sent(random), n_sent(Run { policy: Policy::All, ..IREPAIR }));
    let (exact, first) = (n_sent(IREPAIR), n_sent(Run { by_first: true, ..IREPAIR }));
    let model = model("gpt2");
    let block: usize =
        model.parameters().iter().filter(|p| p.block.is_some_and(|b| b.0 == 1)).map(|p| p.tensor.numel()).sum();
    // Two terms of a micro-batch, of which the other rank gets half; and half of the sum. Four steps of four bytes.
    let gradients = (4 * 4 * block * 3 / 2) as u64;
    assert!(one_block > gradients && one_block < gradients + 30_000, "{one_block} bytes, {gradients} of gradients");
    assert!(first.abs_diff(one_block) < 2_000, "{first} bytes where the first micro-batch chooses");
    assert!(exact > 2 * first, "{exact} bytes where all blocks' gradients are summed");
    // One term where everything learns.
    let gradients = (4 * 4 * model.parameters().iter().map(|p| p.tensor.numel()).sum::<usize>()) as u64;
    assert!(all > gradients && all < gradients + 30_000, "{all} bytes, {gradients} of gradients");
}

#[test]
fn a_run_over_ranks_is_resumed_with_the_same_bits_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.safetensors");
    let path = state.clone();
    on_ranks(2, move |ranks| {
        let (model, data) = (model("gpt2"), data());
        let mut engine = engine(&IREPAIR, &model, &data, 2).among(ranks, Identity::default()).unwrap();
        engine.step().unwrap();
        engine.step().unwrap();
        engine.agree_on_weights().unwrap();
        assert!(engine.any_rank(engine.ranks().unwrap().rank() == 1).unwrap());
        assert!(!engine.any_rank(false).unwrap());
        if engine.ranks().unwrap().is_first() {
            engine.save(&path).unwrap();
        }
    });
    let (model, data) = (model("gpt2"), data());
    let mut engine = engine(&IREPAIR, &model, &data, 2);
    engine.resume(&state).unwrap();
    while engine.unfinished() {
        engine.step().unwrap();
    }
    engine.finish().unwrap();
    assert!(bits(&model) == trained(&IREPAIR, 2, None).1);
}

#[test]
fn a_rank_with_another_run_is_refused_by_all() {
    let changed = |what: &'static str| {
        on_ranks(3, move |ranks| {
            let is_other = ranks.rank() == 1;
            let model = model("gpt2");
            if is_other && what == "weights" {
                tch::no_grad(|| drop(model.parameters()[5].tensor.view(-1).narrow(0, 0, 1).g_add_scalar_(1e-3)));
            }
            let mut texts = support::plain_data();
            if is_other && what == "pairs" {
                texts.pairs[3].chosen[0] += 1;
            }
            let run = if is_other && what == "method" { Run { method: Method::Dpo, ..IREPAIR } } else { IREPAIR };
            let program = if is_other && what == "program" { "b" } else { "a" };
            let program = Identity::default().with("the program", program);
            engine(&run, &model, &Arc::new(texts), 3).among(ranks, program).err().map(|error| error.to_string())
        })
    };
    for (what, said) in
        [("weights", "the model's weights"), ("pairs", "the training pairs"), ("program", "the program (a → b)")]
    {
        let said = Some(format!("rank 1 differs from rank 0: {said}"));
        assert_eq!(changed(what), vec![said; 3], "{what}");
    }
    assert!(changed("method")[2].as_ref().unwrap().contains("the objective"));
    assert_eq!(changed("nothing"), [None, None, None]);
}

#[test]
fn weights_that_drift_apart_end_the_run() {
    let found = on_ranks(2, |ranks| {
        let (model, data) = (model("gpt2"), data());
        let is_second = ranks.rank() == 1;
        let mut engine = engine(&IREPAIR, &model, &data, 2).among(ranks, Identity::default()).unwrap();
        let slice = engine.step().unwrap().slice;
        let of_slice = |p: &&irepair_model::Parameter| p.block.is_some_and(|b| slice.iter().any(|block| block == b));
        let weight = model.parameters().iter().find(of_slice).unwrap();
        if is_second {
            tch::no_grad(|| drop(weight.tensor.view(-1).narrow(0, 0, 1).g_add_scalar_(1e-7)));
        }
        let Err(Error::OtherRank { rank: 1, changes }) = engine.agree_on_weights() else { panic!("not seen") };
        changes
    });
    assert_eq!(found, ["its weights have drifted by step 1"; 2]);
}

#[test]
fn fewer_micro_batches_than_ranks_are_refused() {
    let found = on_ranks(2, |ranks| {
        let (model, data) = (model("gpt2"), data());
        let refused = engine(&IREPAIR, &model, &data, 1).among(ranks, Identity::default());
        matches!(refused, Err(Error::BadSetting { key: "accumulation", .. }))
    });
    assert_eq!(found, [true, true]);
}

/// One rank of one, whose exchange of this number finds another one gone.
#[derive(Debug)]
struct Failing {
    n_left: std::sync::atomic::AtomicI64,
}

impl Ranks for Failing {
    fn rank(&self) -> usize {
        0
    }

    fn n_ranks(&self) -> usize {
        1
    }

    fn exchange(&self, to: &[&[u8]]) -> irepair_ranks::Result<Vec<Vec<u8>>> {
        match self.n_left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
            n if n > 0 => Ok(to.iter().map(|bytes| bytes.to_vec()).collect()),
            _ => Err(irepair_ranks::Error::Lost { rank: 1, why: "the test".to_owned() }),
        }
    }

    fn n_bytes_sent(&self) -> u64 {
        0
    }
}

/// Whatever exchange it is that fails, the state that the first rank can save leads to the bits of the whole run.
#[test]
fn a_loss_at_any_exchange_leaves_a_state_of_whole_steps() {
    let run = Run { policy: Policy::Ema, method: Method::IrepairNoKl, budget_kl: Some(5.0), ..IREPAIR };
    let whole = trained(&run, 2, None);
    let dir = tempfile::tempdir().unwrap();
    let (mut n_kept, mut n_alone) = (0, 0);
    // The first exchange is that of the agreement.
    for n_left in 1..60 {
        let (first, data) = (model(run.family), data());
        let failing = Arc::new(Failing { n_left: n_left.into() });
        let mut engine = engine(&run, &first, &data, 2).among(failing, Identity::default()).unwrap();
        let state = dir.path().join(format!("{n_left}.safetensors"));
        let mut records = Vec::new();
        while engine.unfinished() {
            let before = engine.next_step();
            match engine.step_or_stay() {
                Ok(record) => records.push(StepRecord { seconds: 0.0, ..record }),
                Err(_) => assert_eq!(engine.next_step(), before, "exchange {n_left}"),
            }
            if engine.next_step() == before || engine.take_lost().is_some() {
                engine.save(&state).unwrap();
                break;
            }
        }
        assert_eq!(records, whole.0[..records.len()], "exchange {n_left}");
        if !state.exists() {
            // All steps were taken: the end needs no other rank.
            engine.finish().unwrap();
            assert!(bits(&first) == whole.1, "exchange {n_left}");
            n_alone += 1;
            continue;
        }
        let second = model(run.family);
        let mut resumed = self::engine(&run, &second, &data, 2);
        resumed.resume(&state).unwrap();
        assert_eq!(resumed.next_step(), records.len() as u64, "exchange {n_left}");
        while resumed.unfinished() {
            records.push(StepRecord { seconds: 0.0, ..resumed.step().unwrap() });
        }
        resumed.finish().unwrap();
        assert_eq!(records, whole.0, "exchange {n_left}");
        assert!(bits(&second) == whole.1, "exchange {n_left}");
        n_kept += 1;
    }
    assert!(n_kept > 15 && n_alone > 1, "{n_kept} kept, {n_alone} alone");
}
