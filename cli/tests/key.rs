//! `capmux key`.

mod common;

use std::fs;

use capmux::{Enode, NodeKey};
use common::run;

/// A folder, and the name of a file in it.
fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key").to_str().expect("text").to_owned();
    (folder, file)
}

#[tokio::test]
async fn a_generated_key_is_private_and_its_public_half_is_shown() {
    let (_folder, file) = folder();
    let generated = run(&["key", "generate", &file]).await;
    assert_eq!(generated.code, 0, "{generated:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "H80");
    }
    let key = NodeKey::load(&file).unwrap();
    let expected = format!("node id     {}\npublic key  {}\n", key.node_id(), key.public_key());
    assert_eq!(generated.stdout, expected, "and not the secret: R42 H83");
    assert_eq!(run(&["key", "show", &file]).await.stdout, expected);
}

#[tokio::test]
async fn without_a_file_the_key_itself_is_printed() {
    let one = run(&["key", "generate"]).await;
    let other = run(&["key", "generate"]).await;
    assert!(NodeKey::from_hex(one.stdout.trim_end()).is_ok(), "{one:?}");
    assert_eq!(one.stdout.len(), 65);
    assert_ne!(one.stdout, other.stdout);
}

#[tokio::test]
async fn an_existing_file_is_never_overwritten() {
    let (_folder, file) = folder();
    fs::write(&file, "precious").unwrap();
    let finished = run(&["key", "generate", &file]).await;
    finished.fails_with(1, &[&file, "exists and is not overwritten", "choose another name"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious", "H80");
}

#[tokio::test]
async fn a_missing_file_or_folder_is_an_error() {
    let (folder, file) = folder();
    run(&["key", "show", &file]).await.fails_with(1, &[&file, "capmux key generate"]);
    let deeper = folder.path().join("no/key").to_str().unwrap().to_owned();
    run(&["key", "generate", &deeper]).await.fails_with(1, &[&deeper, "make its folder first"]);
}

#[tokio::test]
async fn a_corrupt_file_is_an_error_everywhere_and_stays_as_it_is() {
    let (_folder, file) = folder();
    NodeKey::random().save_new(&file).unwrap();
    fs::write(&file, "not a key").unwrap();
    let enode = Enode::new(NodeKey::random().public_key(), "127.0.0.1:1".parse().unwrap()).to_string();
    for args in [
        &["key", "show", &file][..],
        &["key", "enode", &file, "--addr", "127.0.0.1:1"],
        &["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--key", &file],
        &["ping", &enode, "--key", &file],
    ] {
        run(args).await.fails_with(1, &[&file, "does not hold a node key", "restore it"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "not a key", "H80: never silently replaced");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_open_to_others_is_refused_everywhere() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, file) = folder();
    NodeKey::random().save_new(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for args in
        [&["key", "show", &file][..], &["node", "--listen", "127.0.0.1:0", "--protocol", "echo", "--key", &file]]
    {
        run(args).await.fails_with(1, &[&file, "open to others (mode 0640)", "chmod 600"]); // H80
    }
}

#[tokio::test]
async fn the_enode_url_of_a_key_has_the_host_as_given() {
    let (_folder, file) = folder();
    let key = NodeKey::random();
    key.save_new(&file).unwrap();
    for host in ["10.0.0.1:30303", "[2001:db8::1]:1", "node.example.org:65535"] {
        let finished = run(&["key", "enode", &file, "--addr", host]).await;
        assert_eq!(finished.stdout, format!("enode://{}@{host}\n", key.public_key()));
    }
    for (host, part) in [
        ("10.0.0.1", "with a port from 1 to 65535"),
        ("10.0.0.1:0", "with a port from 1 to 65535"),
        ("10.0.0.1:1?discport=0", "with a port from 1 to 65535"),
        ("10.0.0.400:1", "the host is neither"),
        ("a@b:1", "the host is neither"),
        ("", "with a port from 1 to 65535"),
    ] {
        let finished = run(&["key", "enode", &file, "--addr", host]).await;
        assert_eq!(finished.code, 2, "{host:?}");
        assert!(finished.stderr.contains(part), "{host:?}: {finished:?}");
    }
}
