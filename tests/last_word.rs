//! Why a peer went is known even when this end was writing as it did.

mod support;

use bytes::Bytes;
use capmux::p2p::BaseMessage;
use capmux::testing::node;
use capmux::{Connection, DisconnectReason, NodeKey, Party, Protocol};
use support::raw::connect;
use support::{added, dropped, enode, hello, soon, start};

#[tokio::test]
async fn a_disconnect_is_not_lost_to_the_write_that_fails_after_it() {
    let chatter = Protocol::from_fn("echo", 1, 2, |_peer, channel| async move {
        let noise = Bytes::from_static(&[7; 1000]);
        loop {
            channel.send(0, noise.clone()).await?;
        }
    });
    let server = start(node().listen("127.0.0.1:0".parse().unwrap()).protocol(chatter)).await;
    let mut events = server.events();
    for round in 0..30 {
        let key = NodeKey::random();
        let mut connection =
            soon(Connection::initiate(connect(&server).await, &key, enode(&server).public_key)).await.unwrap();
        connection.send_hello(&hello(&key, &[("echo", 1)])).await.unwrap();
        connection.recv_hello(&key.public_key()).await.unwrap();
        added(&mut events).await;
        // Closed with unread bytes in it, the socket is reset: the server's next write fails.
        connection.send_base(BaseMessage::Disconnect(DisconnectReason::TooManyPeers)).await.unwrap();
        drop(connection);
        let (_, ending) = dropped(&mut events).await;
        let told = (ending.by(), ending.reason());
        assert_eq!(told, (Party::Remote, Some(DisconnectReason::TooManyPeers)), "R38 R62 round {round}: {ending}");
    }
}
