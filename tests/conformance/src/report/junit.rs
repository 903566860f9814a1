//! The XML of JUnit, which every CI reads.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::{Document, does_not_count};
use crate::outcome::{CaseResult, Outcome};
use crate::transcript::Record;

impl Document<'_> {
    /// The run as an XML document of JUnit: a test suite, in which each case is a test case.
    ///
    /// A case that could not tell is skipped there, with the reason, and so are cases that do not concern the node and
    /// failures that do not count at this level. Cases that count and were not run are errors.
    pub fn to_junit(&self) -> String {
        let mut suite = TestSuite::new("capmux conformance");
        if let Some(node) = self.node {
            suite.add_property(("client", &*node.hello.client_name()));
        }
        if let Some(ended) = self.ended() {
            suite.add_property(("ended", ended));
        }
        suite.add_property(("enode", &*self.enode.to_string()));
        suite.add_test_cases(self.results.iter().map(|result| self.test_case(result)));
        let mut report = Report::new("capmux conformance");
        report.add_test_suite(suite);
        report.to_string().expect("it is written into memory, and control characters are left out")
    }

    fn test_case(&self, result: &CaseResult) -> TestCase {
        let (class, _) = result.case.name.rsplit_once('/').unwrap_or(("", result.case.name));
        let mut case = TestCase::new(result.case.name, self.status(result));
        case.set_classname(class).set_time(result.duration);
        if result.outcome != Outcome::Passed {
            case.set_system_out(result.last.iter().map(Record::to_string).collect::<Vec<_>>().join("\n"));
        }
        case
    }

    fn status(&self, result: &CaseResult) -> TestCaseStatus {
        let skipped = |why: String| {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why);
            status
        };
        let (kind, seen) = match result.outcome {
            Outcome::Passed => return TestCaseStatus::success(),
            Outcome::Failed => match does_not_count(&result.case, self.level) {
                Some(why) => return skipped(format!("{why}: {}", result.seen)),
                None => (NonSuccessKind::Failure, &*result.seen),
            },
            Outcome::NotRun if result.case.level.counts(self.level) => {
                (NonSuccessKind::Error, self.ended().unwrap_or(&result.seen))
            }
            outcome => return skipped(format!("{outcome}: {}", result.seen)),
        };
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(result.case.level.to_string()).set_message(seen).set_description(description(result));
        status
    }
}

fn description(result: &CaseResult) -> XmlString {
    let case = &result.case;
    XmlString::new(format!(
        "{} ({})\nthe suite {}\nexpected: {}\nseen: {}",
        case.level, case.section, case.does, case.expects, result.seen
    ))
}
