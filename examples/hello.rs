//! A protocol in twenty lines: two nodes greet each other over an encrypted connection.

use capmux::{NodeKey, Protocol, Server};

fn hello() -> Protocol {
    Protocol::from_fn("hello", 1, 1, |peer, mut channel| async move {
        channel.send_rlp(0, &format!("hello, {}", peer.client_id())).await?;
        if let Some(message) = channel.recv().await {
            println!("{} says: {}", peer.client_id(), message.decode::<String>()?);
        }
        Ok(())
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = "127.0.0.1:0".parse()?;
    let alice = Server::builder(NodeKey::random()).client_id("alice").listen(listen).protocol(hello()).start().await?;
    let bob = Server::builder(NodeKey::random()).client_id("bob").protocol(hello()).start().await?;

    let peer = bob.dial(&alice.enode().ok_or("alice listens")?).await?;
    println!("the peers parted: {}", peer.closed().await);
    Ok(())
}
