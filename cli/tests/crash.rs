//! `capmux node` and its address book: killed while it writes it, and started with a book that is none.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capmux::book::AddressBook;
use capmux::{Enode, NodeId, NodeKey};
use common::{Node, PATIENCE, run};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

/// The moments of the kills repeat.
const SEED: u64 = 5;

const KILLS: usize = 100;

/// The data folder of a node that dials in vain all the time, so that its book changes and is saved ten times a second.
struct Restless {
    folder: TempDir,
}

impl Restless {
    /// A node that nobody can reach is persistent; `more` is added to the configuration.
    async fn new(persistent: usize) -> Self {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = closed.local_addr().expect("an address");
        let nodes: Vec<_> = (0..persistent).map(|_| Enode::new(NodeKey::random().public_key(), address)).collect();
        let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let this = Self { folder };
        fs::create_dir(this.data()).expect("a folder");
        let text = format!(
            "[node]\ndata_dir = {:?}\n[peers]\npersistent = {nodes:?}\n[limits]\nmax_outbound = 0\n\
             [dialling]\nbackoff_first = '100ms'\nbackoff_max = '100ms'\n[book]\nsave_interval = '100ms'\n\
             [[protocol]]\nname = 'echo'\n",
            this.data()
        );
        fs::write(this.config(), text).expect("it can be written");
        this
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("node.toml")
    }

    fn book(&self) -> PathBuf {
        self.data().join("peers.json")
    }

    async fn start(&self) -> Node {
        Node::start(&["--jsonl", "--config", text(&self.config())]).await
    }

    /// How often each node was dialled, by what is saved, which is a whole book.
    fn attempts(&self) -> BTreeMap<NodeId, u32> {
        let bytes = fs::read(self.book()).expect("there is a book");
        let parsed = AddressBook::from_json(&bytes, 1000).expect("what is there is whole");
        assert_eq!(parsed.skipped, 0, "R54: nothing in it is damaged");
        let known = parsed.book.iter(std::time::SystemTime::now());
        known.map(|known| (known.node.node_id(), known.attempts)).collect()
    }

    /// What is being written, or was when the node was killed.
    fn unfinished(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.data()).expect("a folder").flatten().map(|file| file.path());
        files.filter(|file| text(file).ends_with(".tmp")).collect()
    }

    /// Becomes ready when the node writes its book.
    async fn writes(&self) {
        let seen = async {
            // A timer would be a millisecond late, and a save is over by then.
            while self.unfinished().is_empty() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.expect("the book changes all the time");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// As many nodes as asked for, each in a network of its own that nobody dials.
fn list_of_nodes(count: usize) -> String {
    let node = |place: usize| {
        let address = ([10, (place / 256) as u8, (place % 256) as u8, 1], 30303);
        format!("{}\n", Enode::new(NodeKey::random().public_key(), address.into()))
    };
    (0..count).map(node).collect()
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_writes_its_book_starts_again_with_the_last_good_one() {
    let restless = Restless::new(8).await;
    let list = restless.folder.path().join("list");
    fs::write(&list, list_of_nodes(400)).unwrap();
    let imported = run(&["book", "import", text(&restless.book()), text(&list)]).await;
    assert!([0, 6].contains(&imported.code), "{imported:?}");
    let mut last = restless.attempts();
    assert!(last.len() >= 200, "{imported:?}");

    let (mut random, start) = (fastrand::Rng::with_seed(SEED), Instant::now());
    let (mut cut_short, mut identity) = (0, None);
    let mut rounds = 0..4 * KILLS;
    // A machine that saves quickly may take more kills to meet a save.
    while let Some(round) = rounds.next().filter(|round| *round < KILLS || cut_short == 0) {
        let left = restless.unfinished();
        let node = restless.start().await;
        let id = node.enode.split_once('@').unwrap().0.to_owned();
        assert_eq!(*identity.get_or_insert(id.clone()), id, "round {round}");
        assert!(left.iter().all(|file| !file.exists()), "round {round}: what was left is removed: {left:?}");
        // Any moment of the first saves, or one just after a save has begun.
        match round % 2 {
            0 => sleep(Duration::from_micros(random.u64(0..250_000))).await,
            _ => {
                restless.writes().await;
                std::thread::sleep(Duration::from_micros(random.u64(0..200)));
            }
        }
        let (stdout, stderr) = node.crash().await;
        assert!(!stdout.contains("book_problem"), "R54, H78: round {round}: {stdout}");
        assert!(!stderr.contains("address book"), "R54, H78: round {round}: {stderr}");
        cut_short += usize::from(!restless.unfinished().is_empty());
        let saved = restless.attempts();
        for (id, attempts) in &last {
            let now = saved.get(id).unwrap_or_else(|| panic!("R54: round {round}: {id} is lost"));
            assert!(now >= attempts, "R54: round {round}: the book of {id} is an older one: {now} after {attempts}");
        }
        last = saved;
    }
    assert!(cut_short > 0, "no kill has met a file that was being written");
    assert!(last.values().sum::<u32>() > 0, "the book has changed");
    let odd: Vec<_> = fs::read_dir(restless.data()).unwrap().flatten().map(|file| file.file_name()).collect();
    assert!(odd.iter().all(|name| !name.to_string_lossy().contains("corrupt")), "{odd:?}");
    println!(
        "{cut_short} of {} kills came while the book was written; seed {SEED}, {:?}",
        rounds.start.max(KILLS),
        start.elapsed()
    );
}

#[tokio::test]
async fn a_book_that_is_none_is_set_aside_and_told_of() {
    let restless = Restless::new(1).await;
    for (content, cause) in
        [(&b"{\"format\": \"capmux addr"[..], "not an address book"), (b"\xff\xfe", "not an address book")]
    {
        fs::write(restless.book(), content).unwrap();
        let mut node = restless.start().await;
        let problem = node.event("book_problem").await;
        assert_eq!(problem["path"], text(&restless.book()), "H78");
        let error = problem["error"].as_str().unwrap();
        assert!(error.contains(cause) && error.contains(".corrupt-"), "H78: {error}");
        node.event("dial_failed").await;
        let (_, stderr) = node.crash().await;
        assert!(stderr.contains(error), "H78: {stderr}");
    }
    assert_eq!(fs::read(restless.data().join("peers.json.corrupt-1")).unwrap(), b"{\"format\": \"capmux addr");
}

#[tokio::test]
async fn a_book_that_cannot_be_saved_is_told_of_and_the_node_runs_on() {
    let restless = Restless::new(1).await;
    let mut node = restless.start().await;
    restless.writes().await;
    let blocked = async {
        while fs::create_dir(restless.book()).is_err() {
            let _ = fs::remove_file(restless.book());
        }
    };
    timeout(PATIENCE, blocked).await.unwrap();
    let told = async {
        loop {
            let line = node.line().await;
            if line.contains("\"book_not_saved\"") {
                return serde_json::from_str::<serde_json::Value>(&line).unwrap();
            }
        }
    };
    let event = timeout(PATIENCE, told).await.unwrap();
    assert_eq!(event["path"], text(&restless.book()));
    assert!(event["error"].is_string(), "{event}");
    fs::remove_dir(restless.book()).unwrap();
    restless.writes().await;
    timeout(PATIENCE, async {
        while !restless.book().is_file() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is saved as soon as it can be");
    node.kill().await;
}
