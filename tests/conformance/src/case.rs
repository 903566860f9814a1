//! What a case is.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::outcome::Stop;
use crate::visit::Visit;

/// How much a case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The text of the specification demands it, or nodes cannot talk to each other without it.
    Must,
    /// A node that does otherwise can be harmed, or leaves others in the dark.
    Should,
    /// Some nodes do it, and none is wrong.
    May,
}

/// Who dials whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The suite dials the node.
    Dials,
    /// The node dials the suite.
    Listens,
}

/// What a case does, as a future.
pub type Run = for<'a> fn(&'a Visit) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// One thing that a node does or does not.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is called, for ever: `rlpx/auth/point-off-curve`.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// Who dials whom.
    pub role: Role,
    /// The text that it comes from, and the section: `rlpx.md, ECIES Encryption`.
    pub section: &'static str,
    /// The rows of capmux's own list of hostile peers that it covers: `H5`.
    pub rows: &'static [&'static str],
    /// What the suite does, in a sentence.
    pub does: &'static str,
    /// What the node should do, in a sentence.
    pub expects: &'static str,
    /// How long it may take, without the honest connection afterwards.
    pub deadline: Duration,
    /// Whether nothing else may run meanwhile.
    pub alone: bool,
    /// Does it. The future ends by itself before the deadline, or is dropped then.
    pub run: Run,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// A case from its fields. `run` is the name of an `async fn(&Visit) -> Result<(), Stop>`; the suite dials, and twenty
/// seconds are enough even on a busy machine, unless other fields follow it.
macro_rules! case {
    (
        $name:expr, $level:ident, $section:expr, [$($row:literal),*],
        $does:expr, $expects:expr, $run:expr $(, $field:ident: $value:expr)* $(,)?
    ) => {{
        #[allow(clippy::needless_update, reason = "some cases name every field")]
        $crate::case::Case {
            $($field: $value,)*
            ..$crate::case::Case {
                name: $name,
                level: $crate::case::Level::$level,
                role: $crate::case::Role::Dials,
                section: $section,
                rows: &[$($row),*],
                does: $does,
                expects: $expects,
                deadline: std::time::Duration::from_secs(20),
                alone: false,
                run: |visit| Box::pin($run(visit)),
            }
        }
    }};
}
pub(crate) use case;
