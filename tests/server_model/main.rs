//! A live server against a model of what its documentation says: who becomes a peer, who is refused and what it is
//! told, what happens in which order, and that every place comes back.
//!
//! `CAPMUX_SEED` chooses other operations, `PROPTEST_CASES` how many lists of them. What fails is made as short as
//! possible, and printed.

mod model;
mod operation;
mod world;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner};

use model::Model;
use operation::{End, Operation};
use world::World;

/// How many lists of operations are tried.
const CASES: u32 = 250;

/// The longest list.
const LENGTH: usize = 40;

#[test]
fn a_server_does_what_the_model_says() {
    let seed: u64 = std::env::var("CAPMUX_SEED").map_or(1, |text| text.parse().expect("CAPMUX_SEED is a number"));
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |text| text.parse().expect("PROPTEST_CASES is a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, max_shrink_iters: 2_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let lists = (vec(operation::any(), 1..=LENGTH), operation::any_end());
    if let Err(failure) = runner.run(&lists, |(operations, end)| run(&operations, end)) {
        panic!("with CAPMUX_SEED={seed}: {failure}");
    }
}

/// The states that follow from any of these, each once; why none does from the first.
fn explain(
    states: Vec<Model>,
    next: impl Fn(Model) -> Result<Vec<Model>, TestCaseError>,
) -> Result<Vec<Model>, TestCaseError> {
    let (mut after, mut first) = (Vec::new(), None);
    for state in states {
        match next(state) {
            Ok(next) => next.into_iter().for_each(|state| {
                if !after.contains(&state) {
                    after.push(state);
                }
            }),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    first.filter(|_| after.is_empty()).map_or(Ok(after), Err)
}

/// Has a new server and a new model do the same.
fn run(operations: &[Operation], end: End) -> TestCaseResult {
    let mut paused = tokio::runtime::Builder::new_current_thread();
    let runtime = paused.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let (mut world, mut states) = (World::start().await, vec![Model::new()]);
        for operation in operations {
            let observed = world.perform(operation).await;
            states = explain(states, |state| state.explain(operation, &observed))?;
        }
        let observed = world.end(end).await;
        explain(states, |state| state.explain_end(end, &observed).map(|()| vec![Model::new()])).map(drop)
    })
}
