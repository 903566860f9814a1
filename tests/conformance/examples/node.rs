//! A node of capmux for the suite to test: it prints its enode, echoes, and dials each enode that it reads from stdin.

use std::sync::Arc;

use capmux::{Enode, NodeKey, Protocol, Server};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

fn echo() -> Protocol {
    Protocol::from_fn("echo", 1, 2, |_peer, mut channel| async move {
        while let Some(message) = channel.recv().await {
            channel.send(1, message.payload).await?;
        }
        Ok(())
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Server::builder(NodeKey::random()).max_peers(100).listen("127.0.0.1:0".parse()?);
    let server = Arc::new(node.protocol(echo()).start().await?);
    println!("{}", server.enode().ok_or("it listens")?);
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (server, enode) = (server.clone(), line.parse::<Enode>()?);
        tokio::spawn(async move { server.dial(&enode).await });
    }
    server.shutdown().await;
    Ok(())
}
