//! What came of a run, in the formats that other programs read: JSON, JUnit's XML, and TAP.
//!
//! Which cases count is said by a level: a failure of a case that matters less is shown, and fails nothing.

mod json;
mod junit;
mod tap;

use std::borrow::Cow;
use std::fmt;

use capmux::Enode;

use crate::case::{Case, Level};
use crate::node::Node;
use crate::outcome::{CaseResult, Outcome};
use crate::suite::{Report, SuiteError, not_run};

pub use json::catalogue;
pub use tap::Tap;

/// The levels, and then what matters most comes first.
pub const LEVELS: [Level; 3] = [Level::Must, Level::Should, Level::May];

/// A run up to its end or as far as it came, to be written down.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    enode: &'a Enode,
    node: Option<&'a Node>,
    results: Cow<'a, [CaseResult]>,
    level: Level,
    ended: Option<String>,
}

/// How the cases of a level ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Count {
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many could not tell.
    pub inconclusive: usize,
    /// How many do not concern the node.
    pub skipped: usize,
    /// How many were not run.
    pub not_run: usize,
}

impl<'a> Document<'a> {
    /// What came of a run, of which the cases up to this level count.
    pub fn new(enode: &'a Enode, report: &'a Report, level: Level) -> Self {
        let ended = match (report.is_gone(), report.is_complete()) {
            (true, _) => Some("the node stopped answering".to_owned()),
            (false, false) => Some("it was interrupted".to_owned()),
            (false, true) => None,
        };
        Self { enode, node: Some(report.node()), results: report.results().into(), level, ended }
    }

    /// A run that came to nothing: these cases were not run, for this reason.
    pub fn without_results(enode: &'a Enode, cases: &[Case], error: &SuiteError, level: Level) -> Self {
        let results = cases.iter().map(|case| not_run(*case)).collect();
        Self { enode, node: None, results, level, ended: Some(error.to_string()) }
    }

    /// Why the run ended early, or that the node was gone at its end; `None` when all is well.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// How the cases of this level ended.
    pub fn count(&self, level: Level) -> Count {
        let of_level = self.results.iter().filter(|result| result.case.level == level);
        of_level.map(|result| result.outcome).collect()
    }

    /// How the cases that count ended.
    pub fn counted(&self) -> Count {
        counted(&self.results, self.level)
    }

    /// Whether all cases were run, and those that count have [passed](Count::is_passed).
    pub fn is_passed(&self) -> bool {
        self.ended.is_none() && self.counted().is_passed()
    }
}

impl Level {
    /// Whether cases of this level count when those up to `asked` are asked for.
    pub fn counts(self, asked: Level) -> bool {
        self <= asked
    }
}

impl Count {
    /// Whether all were run, none failed, and, unless none concerns the node, not all of them could not tell.
    pub fn is_passed(&self) -> bool {
        self.failed + self.not_run == 0 && !self.tells_nothing()
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.passed + self.failed + self.inconclusive + self.skipped + self.not_run
    }

    /// Whether some were run, and none of them could tell.
    pub fn tells_nothing(&self) -> bool {
        self.passed + self.failed == 0 && self.inconclusive > 0
    }
}

/// How the cases ended that count when those up to this level do.
pub(crate) fn counted(results: &[CaseResult], asked: Level) -> Count {
    results.iter().filter(|result| result.case.level.counts(asked)).map(|result| result.outcome).collect()
}

impl FromIterator<Outcome> for Count {
    fn from_iter<T: IntoIterator<Item = Outcome>>(outcomes: T) -> Self {
        outcomes.into_iter().fold(Self::default(), |mut count, outcome| {
            *match outcome {
                Outcome::Passed => &mut count.passed,
                Outcome::Failed => &mut count.failed,
                Outcome::Inconclusive => &mut count.inconclusive,
                Outcome::Skipped => &mut count.skipped,
                Outcome::NotRun => &mut count.not_run,
            } += 1;
            count
        })
    }
}

impl fmt::Display for Count {
    /// `7 passed, 1 failed`: what there is none of is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, inconclusive, skipped, not_run } = *self;
        let counts = [(failed, "failed"), (inconclusive, "inconclusive"), (skipped, "skipped"), (not_run, "not run")];
        write!(f, "{passed} passed")?;
        counts.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// Why a failure of this case fails nothing, if it does not.
fn does_not_count(case: &Case, level: Level) -> Option<String> {
    (!case.level.counts(level)).then(|| format!("failed, and {} does not count here", case.level))
}

/// A duration in milliseconds, to the microsecond.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cases::cases;
    use crate::transcript::Record;

    /// A case of each outcome, and a failure that does not count.
    fn results() -> Vec<CaseResult> {
        let outcomes = [
            (Level::Must, Outcome::Passed),
            (Level::Should, Outcome::Failed),
            (Level::May, Outcome::Failed),
            (Level::Must, Outcome::Inconclusive),
            (Level::Must, Outcome::Skipped),
            (Level::Must, Outcome::NotRun),
        ];
        let last = Record { sent: false, decoded: "Pong".to_owned(), hex: "03c0".to_owned(), length: 2 };
        let result = |(level, outcome)| CaseResult {
            case: Case { level, name: "p2p/some/case", ..cases()[0] },
            outcome,
            seen: "open \\ after #1\nand <more>".to_owned(),
            last: vec![last.clone()],
            duration: Duration::from_micros(1500),
        };
        outcomes.map(result).to_vec()
    }

    #[test]
    fn tap_counts_as_failed_what_counts_alone() {
        let mut tap = Tap::new(Level::Should);
        let points: Vec<_> = results().iter().map(|result| tap.point(result)).collect();
        let first: Vec<_> = points.iter().map(|point| point.lines().next().unwrap_or_default()).collect();
        let seen = r"open \\ after \#1 and <more>";
        assert_eq!(
            first,
            [
                "ok 1 - p2p/some/case",
                "not ok 2 - p2p/some/case",
                "not ok 3 - p2p/some/case # TODO failed, and MAY does not count here",
                &format!("ok 4 - p2p/some/case # SKIP inconclusive: {seen}"),
                &format!("ok 5 - p2p/some/case # SKIP skipped: {seen}"),
                &format!("ok 6 - p2p/some/case # SKIP not run: {seen}"),
            ]
        );
        assert!(points[0].ends_with("  duration_ms: 1.5\n  ...\n"), "{}", points[0]);
        assert!(points[1].contains("  seen: \"open \\\\ after #1\\nand <more>\"\n"), "{}", points[1]);
        assert!(points[1].contains("    - by: \"node\"\n      decoded: \"Pong\"\n"), "{}", points[1]);
        assert_eq!(tap.bail_out("it # ended"), "Bail out! it \\# ended\n");
    }

    #[test]
    fn cases_of_which_none_could_tell_have_not_passed() {
        let count = |outcomes: &[Outcome]| outcomes.iter().copied().collect::<Count>();
        let nothing = count(&[Outcome::Inconclusive, Outcome::Skipped]);
        assert!(nothing.tells_nothing() && !nothing.is_passed());
        let something = count(&[Outcome::Inconclusive, Outcome::Passed]);
        assert!(!something.tells_nothing() && something.is_passed());
        let failed = count(&[Outcome::Inconclusive, Outcome::Failed]);
        assert!(!failed.tells_nothing() && !failed.is_passed());
        assert!(count(&[Outcome::Skipped]).is_passed(), "none concerns the node");
        assert_eq!(counted(&results(), Level::Should).failed, 1);
    }

    #[test]
    fn junit_counts_as_failed_what_counts_alone() {
        let key = capmux::NodeKey::random().public_key();
        let enode = Enode::new(key, "127.0.0.1:1".parse().unwrap());
        let ended = Some("it was interrupted".to_owned());
        let document = Document { enode: &enode, node: None, results: results().into(), level: Level::Should, ended };
        let xml = document.to_junit();
        assert!(xml.contains(r#"tests="6" skipped="3" failures="1" errors="1""#), "{xml}");
        assert_eq!(xml.matches("<skipped").count(), 3, "{xml}");
        assert!(xml.contains("failed, and MAY does not count here: open"), "{xml}");
        assert!(xml.contains("and &lt;more&gt;") && xml.contains("node: Pong, 2 bytes, 03c0"), "{xml}");
        assert!(
            !document.is_passed() && document.count(Level::Must).to_string().starts_with("1 passed, 1 inconclusive")
        );
    }
}
