//! `capmux book`.

mod common;

use std::fs;

use capmux::{Enode, NodeKey};
use common::{Node, run};

fn enode(last: u8) -> String {
    Enode::new(NodeKey::random().public_key(), ([8, 8, last, 1], 30303).into()).to_string()
}

#[tokio::test]
async fn a_book_takes_lists_in_and_gives_them_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (book, list) = (file("peers.json"), file("list"));
    let nodes = [enode(1), enode(2)];
    fs::write(&list, format!("# two nodes\n{}\n{}\n", nodes[0], nodes[1])).unwrap();
    let imported = run(&["book", "import", &book, &list]).await;
    assert_eq!((imported.code, imported.stdout.as_str()), (0, ""), "{imported:?}");
    assert!(imported.stderr.contains("nodes taken on: 2, refused: 0"), "{imported:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&book).unwrap().permissions().mode() & 0o7777, 0o600, "H80");
    }

    let exported = run(&["book", "export", &book]).await;
    let mut lines: Vec<_> = exported.stdout.lines().collect();
    let mut expected: Vec<_> = nodes.iter().map(String::as_str).collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!((exported.code, lines), (0, expected), "R55");
    let records = run(&["book", "export", &book, "--nodes-json"]).await;
    assert_eq!((records.code, records.stdout.trim()), (0, "{}"), "R55: none has a signed record");

    let shown = run(&["book", "show", &book]).await;
    assert_eq!((shown.code, shown.stdout.lines().count()), (0, 2), "{shown:?}");
    assert!(shown.stdout.starts_with("new "), "{shown:?}");
    let shown = run(&["book", "show", &book, "--json"]).await.json();
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["nodes"][0]["state"], "new");
    assert_eq!(shown["nodes"][0]["last_connected"], serde_json::Value::Null);

    let unspecified = enode(3).replace("8.8.3.1", "0.0.0.0");
    fs::write(&list, format!("[\"{}\", \"{unspecified}\"]", enode(4))).unwrap();
    let partly = run(&["book", "import", &book, &list]).await;
    assert_eq!(partly.code, 6, "R55: {partly:?}");
    assert!(partly.stderr.contains("nodes taken on: 1, refused: 1"), "{partly:?}");
}

#[tokio::test]
async fn what_is_no_book_and_no_list_is_told_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (book, list) = (file("peers.json"), file("list"));
    run(&["book", "show", &book]).await.fails_with(1, &["cannot read the address book", &book]);
    fs::write(&list, "enode://ab@1.2.3.4:1\n").unwrap();
    run(&["book", "import", &book, &list]).await.fails_with(1, &["cannot use the list", "line 1", "128 hexadecimal"]);
    assert!(!fs::exists(&book).unwrap());
    fs::write(&list, enode(1)).unwrap();
    fs::write(&book, "{\"format\": 1}").unwrap();
    for args in [&["book", "export", &book][..], &["book", "import", &book, &list]] {
        run(args).await.fails_with(1, &["cannot read the address book", &book]);
    }
    assert_eq!(fs::read(&book).unwrap(), b"{\"format\": 1}");
}

#[tokio::test]
async fn a_list_is_not_added_to_the_book_of_a_node_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (data, list) = (folder.path().join("data"), folder.path().join("list"));
    fs::write(&list, enode(1)).unwrap();
    let node = Node::start(&["--protocol", "echo", "--data-dir", data.to_str().unwrap()]).await;
    let book = data.join("peers.json");
    let args = ["book", "import", book.to_str().unwrap(), list.to_str().unwrap()];
    run(&args).await.fails_with(1, &["a node uses the address book", "stop it first"]);
    node.kill().await;
    assert_eq!(run(&args).await.code, 0);
}
