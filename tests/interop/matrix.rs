//! Every test runs with every implementation, in both directions of dialling.

use capmux::Direction;

use crate::remote::Remote;
use crate::tools::{Implementation, Program, skipped};

/// What one run of a test is about.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) implementation: Implementation,
    /// As capmux sees it.
    pub(crate) direction: Direction,
    program: Program,
}

impl Case {
    /// Starts a node of this implementation.
    pub(crate) async fn remote(&self, arguments: &[&str]) -> Remote {
        Remote::start(&self.program, arguments).await
    }
}

/// Runs a test, unless the implementation cannot be had.
pub(crate) async fn run(
    test: &str,
    implementation: Implementation,
    direction: Direction,
    body: impl AsyncFnOnce(Case),
) {
    match implementation.program().await {
        Ok(program) => body(Case { implementation, direction, program }).await,
        Err(missing) => skipped(test, &missing),
    }
}

/// Makes four tests of each `async fn(Case)`.
macro_rules! with_every_node {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            with_every_node! { @one $test geth_is_dialled Geth Outbound }
            with_every_node! { @one $test geth_dials Geth Inbound }
            with_every_node! { @one $test ethereumjs_is_dialled EthereumJs Outbound }
            with_every_node! { @one $test ethereumjs_dials EthereumJs Inbound }
        }
    )+ };
    (@one $test:ident $case:ident $implementation:ident $direction:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let name = concat!(module_path!(), "::", stringify!($case));
            let implementation = $crate::tools::Implementation::$implementation;
            $crate::matrix::run(name, implementation, capmux::Direction::$direction, super::$test).await;
        }
    };
}
