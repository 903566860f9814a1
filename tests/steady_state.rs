//! What a message costs in memory from handler to handler, both ends and their tasks counted, over loopback TCP.

mod support;

use allocation_counter::measure;
use capmux::Channel;
use capmux::testing::{manual, node};
use support::{dial, listening, noise, soon, start};
use tokio::runtime::Builder;

/// Sends so many messages and takes them at the other end.
async fn exchange(sender: &Channel, receiver: &mut Channel, size: usize, count: usize) {
    let payload = noise(1, size);
    let send = async {
        for _ in 0..count {
            sender.send(0, payload.clone()).await.expect("sent");
        }
    };
    let receive = async {
        for _ in 0..count {
            assert_eq!(receiver.recv().await.expect("a message").payload.len(), size);
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
}

#[test]
fn messages_take_hardly_any_memory_from_handler_to_handler() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ((own, mut opened), (other, mut others)) = (manual("aaa", 1, 1), manual("aaa", 1, 1));
    let (servers, sender, mut receiver) = runtime.block_on(async {
        let (server, client) = (start(listening().protocol(other)).await, start(node().protocol(own)).await);
        dial(&client, &server).await;
        let ((_, sender), (_, receiver)) = (opened.next().await, others.next().await);
        ((server, client), sender, receiver)
    });
    // Below 4 KiB messages share allocations; from there on each has one, for the handler that gets it.
    for (size, count, most) in [(32, 20_000, 0.02), (1024, 10_000, 0.2), (15 * 1024, 1_000, 1.05)] {
        runtime.block_on(exchange(&sender, &mut receiver, size, count));
        let used = measure(|| runtime.block_on(exchange(&sender, &mut receiver, size, count)));
        let each = used.count_total as f64 / count as f64;
        assert!(each <= most, "{each} allocations for a message of {size} bytes, sent and received");
    }
    drop(servers);
}
